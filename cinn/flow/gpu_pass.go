package flow

import (
	"netfusion/kernels/activation"
	"netfusion/kernels/matmul"
	"netfusion/tensor"
)

// GPUDraw is the Draw of samples in a Queue's memory, where graphs find it: one graph serves every seed, temperature and guidance.
type GPUDraw struct {
	Numbers tensor.Staged[uint64]  // the seed and the first sample
	Factors tensor.Staged[float32] // guidance, temperature, its square, and what class noise is multiplied by
}

// StageDraw reserves a GPUDraw in q's staging memory, of at most DrawStaging bytes. It is in force once Numbers and Factors are
// uploaded.
func StageDraw(q *tensor.Queue) GPUDraw {
	return GPUDraw{tensor.Stage[uint64](q, 2), tensor.Stage[float32](q, 4)}
}

// DrawStaging is what StageDraw takes of a Queue's staging memory.
const DrawStaging = 32

// Set makes d the draw of samples of a Flow of config c, at its next upload.
func (d GPUDraw) Set(draw Draw, c Config) {
	noise := draw.Temperature * c.ClassNoise
	if draw.Snap {
		noise = 0
	}
	copy(d.Numbers.Host, []uint64{draw.Seed, draw.Sample})
	copy(d.Factors.Host, []float32{draw.Guidance, draw.Temperature, draw.Temperature * draw.Temperature, noise})
}

func (d GPUDraw) guidance() tensor.Array[float32]    { return d.Factors.Array.Slice(0, 1) }
func (d GPUDraw) temperature() tensor.Array[float32] { return d.Factors.Array.Slice(1, 2) }
func (d GPUDraw) square() tensor.Array[float32]      { return d.Factors.Array.Slice(2, 3) }
func (d GPUDraw) classNoise() tensor.Array[float32]  { return d.Factors.Array.Slice(3, 4) }

// Sample records what Session.Sample computes: x [m][Latent+Class] given c [m][Cond].
func (f *GPUFlow) Sample(q *tensor.Queue, x, c tensor.Buffer, d GPUDraw) {
	defer q.Release(q.Taken())
	chain := f.chain(q, x.Rows, d.guidance())
	p := f.begin(q, x, c, chain)
	if f.Config.Classes > 0 {
		p.pick(d)
	}
	v := p.residuals()
	q.Normal(v, d.Numbers.Array, noiseStream, 0)
	q.Mix(v, tensor.Buffer{}, d.temperature())
	if f.Config.Classes > 0 {
		p.posterior()
	}
	p.back(x.Columns(0, f.Config.Latent), v, d.guidance())
	if f.Config.Class > 0 {
		q.Copy(x.Columns(f.Config.Latent, x.Cols), p.e)
	}
}

// GPUScore is what Score leaves of m rows.
type GPUScore struct {
	V      tensor.Buffer         // [m][Latent], the residual
	LogDet tensor.Array[float32] // [m], but for a constant
	Class  tensor.Array[float32] // [m], -log Σ_k p(k|c)·N(e; E_k, σ²I), but for a constant; not guided. Without a class head it is not read
}

// Score records what Session.Residual computes of x [m][Latent+Class] given c [m][Cond], under guidance [1], and its likelihood.
func (f *GPUFlow) Score(q *tensor.Queue, s GPUScore, x, c tensor.Buffer, guidance tensor.Array[float32]) {
	defer q.Release(q.Taken())
	p := f.begin(q, x, c, nil)
	if f.Config.Classes > 0 {
		q.Copy(p.e, x.Columns(f.Config.Latent, x.Cols))
		p.posterior()
		logits := q.Take(p.m, f.Config.Classes)
		p.run(&f.head, logits, p.u.Slice(0, p.m).Columns(0, f.text))
		q.MixtureLoss(s.Class, logits, p.scores, 1)
	}
	p.guide(guidance, false)
	q.Columns(tensor.Matrix(s.LogDet, p.m, 1), x, tensor.ColumnMap{From: f.zero})
	p.forward(s.V, x.Columns(0, f.Config.Latent), s.LogDet)
}

// Restore records what Session.Restore computes: the z of x = [z ; e] [m][Latent+Class] from the residual v [m][Latent] given c
// [m][Cond], under guidance [1]. hat [m][Class], one row right behind the other, takes the place of ê(e) unless it is none.
func (f *GPUFlow) Restore(q *tensor.Queue, x, v, c, hat tensor.Buffer, guidance tensor.Array[float32]) {
	defer q.Release(q.Taken())
	p := f.begin(q, x, c, f.chain(q, x.Rows, guidance))
	if f.Config.Classes > 0 {
		if hat.None() {
			q.Copy(p.e, x.Columns(f.Config.Latent, x.Cols))
			p.posterior()
		} else {
			p.classCondition(hat)
		}
	}
	if p.chain != nil {
		q.Copy(p.residuals(), v)
	}
	p.back(x.Columns(0, f.Config.Latent), v, guidance)
}

// ClassMeans records ê(e), hat [m][Class], of the class parts of x [m][Latent+Class]. Rows of hat lie one right behind the other.
func (f *GPUFlow) ClassMeans(q *tensor.Queue, hat, x tensor.Buffer) {
	defer q.Release(q.Taken())
	e, scores := q.TakePacked(x.Rows, f.Config.Class), q.TakePacked(x.Rows, f.Config.Classes)
	q.Copy(e, x.Columns(f.Config.Latent, x.Cols))
	q.Posterior(hat, scores, e, tensor.Matrix(f.table.F32, f.Config.Classes, f.Config.Class), f.half())
}

// Logits records the class head's logits, dst [m][Classes], under guidance [1]. Rows of dst lie one right behind the other.
func (f *GPUFlow) Logits(q *tensor.Queue, dst, c tensor.Buffer, guidance tensor.Array[float32]) {
	defer q.Release(q.Taken())
	p := gpuPass{f: f, q: q, m: c.Rows, u: q.Take(2*c.Rows, f.inputs)}
	p.condition(c)
	q.Copy(dst, p.logits(guidance))
}

// gpuPass is what is recorded of one call.
type gpuPass struct {
	f *GPUFlow
	q *tensor.Queue
	m int // rows

	u      tensor.Buffer // [2m][inputs]: c and ê, standardised, and then the same without c, from which guidance leads away
	input  tensor.Buffer // [2m][reads], what the embedder reads: u, or the features of a map beside ê
	e      tensor.Buffer // [m][Class], the class part of x
	scores tensor.Buffer // [m][Classes], log N(e; E_k, σ²I) without its constant
	embed  tensor.Buffer // [m][Embed]
	ahead  tensor.Ahead
	chain  *gpuChain // takes the place of the embedder and the blocks on the way from v to z, and has the memory of u; or nil
}

// begin takes the memory of a pass and leaves c in u.
func (f *GPUFlow) begin(q *tensor.Queue, x, c tensor.Buffer, chain *gpuChain) *gpuPass {
	if x.Rows != c.Rows || x.Cols != f.Config.dims() || c.Cols != f.Config.Cond {
		panic("flow: x or c has the wrong shape")
	}
	p := &gpuPass{f: f, q: q, m: x.Rows, chain: chain}
	if chain != nil {
		p.u = chain.u
	} else {
		p.u = q.Take(2*p.m, f.inputs)
	}
	if p.input = p.u; f.maps != nil {
		p.input = q.Take(2*p.m, f.reads)
	}
	if f.Config.Classes > 0 {
		p.e, p.scores = q.TakePacked(p.m, f.Config.Class), q.TakePacked(p.m, f.Config.Classes)
	}
	p.condition(c)
	return p
}

func (p *gpuPass) condition(c tensor.Buffer) {
	text := p.u.Columns(0, p.f.text)
	p.f.condition(p.q, p.u.Slice(0, p.m), c)
	p.q.Columns(text.Slice(p.m, 2*p.m), c, p.f.nothing)
	if m := p.f.maps; m != nil && !p.input.None() {
		features := p.input.Columns(0, up(p.f.Config.features()))
		m.look(p.q, features.Slice(0, p.m), c)
		p.q.Columns(features.Slice(p.m, 2*p.m), c, m.nothing)
	}
}

// logits returns those of the class head, guided.
func (p *gpuPass) logits(guidance tensor.Array[float32]) tensor.Buffer {
	logits := p.q.TakePacked(2*p.m, p.f.Config.Classes)
	p.run(&p.f.head, logits, p.u.Columns(0, p.f.text))
	return p.mix(logits, guidance)
}

// mix returns the first half of x, led away from the second by guidance.
func (p *gpuPass) mix(x tensor.Buffer, guidance tensor.Array[float32]) tensor.Buffer {
	p.q.Mix(x.Slice(0, p.m), x.Slice(p.m, 2*p.m), guidance)
	return x.Slice(0, p.m)
}

// pick draws the class parts.
func (p *gpuPass) pick(d GPUDraw) {
	q, n := p.q, p.f.Config.Class
	u, picked, noise := q.TakePacked(p.m, 1), tensor.TakeArray[int32](q, p.m), q.TakePacked(p.m, n)
	q.Uniform(u, d.Numbers.Array, classStream, 0)
	q.Pick(picked, p.logits(d.guidance()), u.Values(), d.square())
	q.Embed(p.e, &p.f.table, picked)
	q.Normal(noise, d.Numbers.Array, noiseStream, p.f.Config.Latent)
	q.AddScaled(p.e, noise, d.classNoise())
}

// half is 1/(2σ²).
func (f *GPUFlow) half() float32 { return 0.5 / (f.Config.ClassNoise * f.Config.ClassNoise) }

// posterior leaves scores, and ê in u.
func (p *gpuPass) posterior() {
	c := p.f.Config
	hat := p.q.TakePacked(p.m, c.Class)
	p.q.Posterior(hat, p.scores, p.e, tensor.Matrix(p.f.table.F32, c.Classes, c.Class), p.f.half())
	p.classCondition(hat)
}

func (p *gpuPass) classCondition(hat tensor.Buffer) {
	class := p.u.Columns(p.f.text, p.f.inputs)
	p.q.Columns(class.Slice(0, p.m), hat, p.f.standardiseClass)
	p.q.Columns(class.Slice(p.m, 2*p.m), hat, p.f.standardiseClass)
	if p.f.maps != nil {
		p.q.Copy(p.input.Columns(up(p.f.Config.features()), p.f.reads), class)
	}
}

// residuals is where v goes, [m][Latent].
func (p *gpuPass) residuals() tensor.Buffer {
	if p.chain != nil {
		return p.chain.v
	}
	return p.q.Take(p.m, p.f.Config.Latent)
}

// back runs v [m][Latent], in p's memory, back to z [m][Latent] under guidance.
func (p *gpuPass) back(z, v tensor.Buffer, guidance tensor.Array[float32]) {
	if p.chain == nil {
		p.guide(guidance, true)
		p.inverse(z, v)
		return
	}
	p.q.Execute(p.chain.program)
	p.u = p.mix(p.u, guidance)
	p.leave(z, p.chain.x)
}

// guide leaves the embedding in p.embed, and what the linear layer reads in u, both guided. back is that the blocks run from v to z.
func (p *gpuPass) guide(guidance tensor.Array[float32], back bool) {
	embed := p.q.Take(2*p.m, p.f.Config.Embed)
	p.ahead = p.q.GPU().NewAhead(p.f.order(back))
	p.run(&p.f.embedder, embed, p.input)
	p.embed = p.mix(embed, guidance)
	p.u = p.mix(p.u, guidance)
}

// order lists the weights of the embedder and the blocks as they are multiplied.
func (f *GPUFlow) order(back bool) (weights []tensor.GPUWeight) {
	add := func(n *gpuNetwork) {
		for _, l := range n.layers {
			weights = append(weights, l.weights...)
		}
	}
	add(&f.embedder)
	for i := range f.blocks {
		b := &f.blocks[i]
		if back {
			b = &f.blocks[len(f.blocks)-1-i]
			add(&b.nets[1])
			add(&b.nets[0])
			continue
		}
		add(&b.nets[0])
		add(&b.nets[1])
	}
	return weights
}

// run computes dst = n(x).
func (p *gpuPass) run(n *gpuNetwork, dst, x tensor.Buffer) {
	defer p.q.Release(p.q.Taken())
	q, last := p.q, len(n.layers)-1
	for i := range n.layers {
		l := &n.layers[i]
		switch norm := &l.norm; {
		case i == last:
			p.multiply(n, i, dst, x, matmul.None)
		case norm.gamma.Len > 0:
			y := q.TakePacked(x.Rows, l.bias.Len)
			p.multiply(n, i, y, x, matmul.None)
			q.LayerNorm(y, y, tensor.Buffer{}, norm.gamma, norm.beta, normEpsilon, matmul.LeakyReLU)
			if x = y; norm.widen.From.Len > 0 {
				x = q.Take(y.Rows, norm.widen.From.Len)
				q.Columns(x, y, norm.widen)
			}
		default:
			y, act := q.Take(x.Rows, l.bias.Len), matmul.LeakyReLU
			if norm.fixed.Scale.Len > 0 {
				act = matmul.None
			}
			p.multiply(n, i, y, x, act)
			if act == matmul.None {
				q.Columns(y, y, norm.fixed)
				q.PReLU(y, y, activation.Slope)
			}
			x = y
		}
	}
}

// multiply computes y = act(x·Wᵀ + b), group by group; see tensor.Device.GroupedMatMul.
func (p *gpuPass) multiply(n *gpuNetwork, i int, y, x tensor.Buffer, act matmul.Act) {
	l := &n.layers[i]
	for k, w := range l.weights {
		e := tensor.GPUEpilogue{Bias: l.bias.Slice(k*w.N, (k+1)*w.N), Act: act}
		if n != &p.f.head {
			e.Ahead = p.ahead.Multiply()
		}
		from := x
		if len(l.weights) > 1 {
			from = x.Columns(k*w.K, (k+1)*w.K)
		}
		p.q.MatMul(y.Columns(k*w.N, (k+1)*w.N), from, w, e)
	}
}

// forward returns what the first block reads of x [m][Latent and a gap] under u.
func (l *gpuLinear) forward(q *tensor.Queue, x, u tensor.Buffer) tensor.Buffer {
	if l.b.Len == 0 {
		return x
	}
	y := q.Take(x.Rows, l.b.Len)
	l.apply(q, y, x, u, l.white, l.whiteA, l.whiteB)
	return y
}

// apply computes dst = w·x + (by·u + bias).
func (l *gpuLinear) apply(q *tensor.Queue, dst, x, u tensor.Buffer, w, by tensor.GPUWeight, bias tensor.Array[float32]) {
	defer q.Release(q.Taken())
	shift := q.Take(x.Rows, dst.Cols)
	q.MatMul(shift, u, by, tensor.GPUEpilogue{Bias: bias})
	q.MatMul(dst, x, w, tensor.GPUEpilogue{Residual: shift})
}

// forward runs z [m][Latent] to v [m][Latent] and adds the log-scales of the blocks to logdet.
func (p *gpuPass) forward(v, z tensor.Buffer, logdet tensor.Array[float32]) {
	f, q := p.f, p.q
	x := q.Take(p.m, up(f.Config.Latent))
	q.Columns(x, z, f.whole)
	x = f.linear.forward(q, x, p.u)
	if len(f.blocks) == 0 {
		q.Copy(v, x.Columns(0, f.Config.Latent))
		return
	}
	row, next := p.rows()
	p.enter(row, x.Columns(0, f.Config.Latent), f.enter)
	for i := range f.blocks {
		b := &f.blocks[i]
		for k := range b.nets {
			p.couple(b, k, row, func(y, raw, t tensor.Buffer) {
				q.Couple(y, y, raw, t, tensor.Buffer{}, logdet, f.Config.Clamp)
			})
		}
		if i == len(f.blocks)-1 {
			q.Columns(v, row, f.leave)
			break
		}
		q.Columns(next, row, b.next)
		row, next = next, row
	}
}

// rows takes the memory for what is between the subnets, twice.
func (p *gpuPass) rows() (row, next tensor.Buffer) {
	return p.q.Take(p.m, p.f.row.end), p.q.Take(p.m, p.f.row.end)
}

// enter begins a row with elements x and the embedding.
func (p *gpuPass) enter(row, x tensor.Buffer, m tensor.ColumnMap) {
	e := p.f.row.e
	p.q.Columns(row, x, m)
	p.q.Copy(row.Columns(e, e+p.f.Config.Embed), p.embed)
}

// couple runs the subnets of coupling k on row; then couples gets what they change, and their outputs.
func (p *gpuPass) couple(b *gpuBlock, k int, row tensor.Buffer, couples func(y, raw, t tensor.Buffer)) {
	defer p.q.Release(p.q.Taken())
	r := &p.f.row
	in, y := row.Columns(r.e, r.end), row.Columns(0, r.nb)
	if k == 1 {
		in, y = row.Columns(0, r.a), row.Columns(r.a, r.a+r.na)
	}
	out := p.q.Take(p.m, 2*y.Cols)
	p.run(&b.nets[k], out, in)
	couples(y, out.Columns(0, y.Cols), out.Columns(y.Cols, 2*y.Cols))
}

// inverse runs v [m][Latent] back to z [m][Latent].
func (p *gpuPass) inverse(z, v tensor.Buffer) {
	f, q := p.f, p.q
	x := q.Take(p.m, up(f.Config.Latent))
	if len(f.blocks) == 0 {
		q.Columns(x, v, f.whole)
	} else {
		row, next := p.rows()
		p.enter(row, v, f.undo)
		for i := len(f.blocks) - 1; i >= 0; i-- {
			b := &f.blocks[i]
			for k := 1; k >= 0; k-- {
				p.couple(b, k, row, func(y, raw, t tensor.Buffer) { q.Uncouple(y, y, raw, t, f.Config.Clamp) })
			}
			if i > 0 {
				q.Columns(next, row, b.back)
				row, next = next, row
			}
		}
		q.Columns(x, row, f.out)
	}
	p.leave(z, x)
}

// leave makes z of what the first block read, x [m][Latent] with zeros behind.
func (p *gpuPass) leave(z, x tensor.Buffer) {
	if l := &p.f.linear; l.b.Len > 0 {
		l.apply(p.q, z, x, p.u, l.unwhite, l.predict, l.b)
	} else {
		p.q.Copy(z, x.Columns(0, p.f.Config.Latent))
	}
}
