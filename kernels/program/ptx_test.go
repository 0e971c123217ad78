package program_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"netfusion/kernels/matmul"
	. "netfusion/kernels/program"
	"netfusion/kernels/quantize"
	"netfusion/tensor"
	. "netfusion/tensor/kerneltest"
)

func TestMain(m *testing.M) { Main(m, PTX) }

// rig is a device with a Program's memory, and an oracle that sees the same.
type rig struct {
	Program
	t      testing.TB
	k      *Kernel
	oracle oracle
	rng    *rand.Rand
	code   *Code
	args   []byte
}

func newRig(t testing.TB, f Format, k *Kernel) *rig {
	r := &rig{Program: Program{Format: f}, t: t, k: k, rng: rand.New(rand.NewPCG(1, 2))}
	r.oracle = oracle{program: &r.Program, plain: map[uint64]any{}}
	return r
}

func put[T any](r *rig, s []T) uint64 {
	p := uint64(r.k.Put(s))
	r.oracle.plain[p] = slices.Clone(s)
	return p
}

// plain is a matrix of normal numbers.
func (r *rig) plain(m, n int) Matrix {
	return Matrix{Kind: Plain, At: r.vector(m*n, 1), Ld: n}
}

func (r *rig) vector(n int, std float64) uint64 {
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(std * r.rng.NormFloat64())
	}
	return put(r, s)
}

// out is a matrix that must be written.
func (r *rig) out(m, n int) Matrix { return Matrix{Kind: Plain, At: put(r, Poison(m*n)), Ld: n} }

// weights is a matrix W [n][k].
func (r *rig) weights(n, k int) Weights {
	w := make([]float32, k)
	if r.Format == BF16 {
		ld := Up(k, 8) * 8
		q := make([]uint16, n*ld)
		for j := range n {
			for p := range w {
				w[p] = float32(r.rng.NormFloat64() / math.Sqrt(float64(k)))
			}
			quantize.F32ToBF16(q[j*ld:][:k], w)
		}
		return Weights{At: put(r, q), Stride: 2 * ld}
	}
	ld := Up(k, 16) * 16
	q, sum := make([]int8, n*ld), make([]int32, n)
	for j := range n {
		for p := range k {
			q[j*ld+p] = int8(r.rng.IntN(255) - 127)
			sum[j] += int32(q[j*ld+p])
		}
	}
	scale := make([]float32, n)
	for j := range scale {
		scale[j] = float32((0.5 + r.rng.Float64()) / 80 / math.Sqrt(float64(k)))
	}
	return Weights{At: put(r, q), Stride: ld, Scale: put(r, scale), Sum: put(r, sum)}
}

// encode puts the Program on the device.
func (r *rig) encode(blocks int) {
	r.t.Helper()
	code, err := r.Encode(Machine{Blocks: blocks, Shared: 46 << 10})
	if err != nil {
		r.t.Fatal(err)
	}
	r.code = code
	words := make([]uint32, max(2, code.Words/4))
	for i := 0; i < len(words); i += 2 {
		words[i] = 0x7fc0beef // a value that is read too early is seen
	}
	l := code.Layout
	r.args = tensor.AppendArgs(nil, r.k.Put(code.Steps), r.k.Put(code.Starts), r.k.Put(words), r.k.Put(make([]uint32, ControlBytes/4)),
		l[0], l[1], l[2], l[3], l[4], l[5])
}

func (r *rig) launch() error {
	return r.k.Launch(tensor.Launch{Grid: Size{r.code.Blocks}, Block: Size{Threads}, DynamicShared: r.code.Shared, Cooperative: true, Args: r.args})
}

// check runs the Program and compares a plain matrix [m][n] with the oracle's.
func (r *rig) check(blocks int, out Matrix, m, n int, tolerance float64) {
	r.t.Helper()
	r.encode(blocks)
	if err := r.launch(); err != nil {
		r.t.Fatal(err)
	}
	r.compare(out, m, n, tolerance)
}

func (r *rig) compare(out Matrix, m, n int, tolerance float64) {
	r.t.Helper()
	r.oracle.run()
	got, want := make([]float32, m*n), r.oracle.floats(out.At)
	r.k.Get(got, tensor.DevicePtr(out.At))
	Near(r.t, got, func(i int) (float64, float64) { return float64(want[i]), tolerance * (1 + math.Abs(float64(want[i]))) })
}

// load returns a rig on a device whose blocks take turns by a seed of the test's name.
func load(t *testing.T, f Format) *rig { return newRig(t, f, Load(t, PTX, f.Entry())) }

var formats = []Format{BF16, Int8}

// in is a matrix of words that another block wrote.
func (r *rig) in(k Kind, m, n int) Matrix {
	x := r.plain(m, n)
	if k == Plain {
		return x
	}
	var to Matrix
	switch k {
	case Local:
		to = r.Locals(m, n)
	case Single:
		to = r.Singles(m, n)
	case Pair:
		to = r.Pairs(m, n)
	}
	r.Add(&Move{M: m, N: n, X: x, Out: to})
	return to
}

// A product's sums in float32 are off by some 1e-6; where a value of x is rounded to the other neighbour, by more.
func TestPTXProductsAreTheOracles(t *testing.T) {
	for _, f := range formats {
		for i, s := range []struct {
			m, n, k int
			in, out Kind
		}{
			{1, 1, 1, Single, Plain}, {1, 16, 32, Pair, Pair}, {3, 37, 70, Single, Plain}, {8, 50, 131, Pair, Pair}, {2, 18, 1501, Single, Plain},
			{1, 33, 2100, Pair, Pair}, {13, 21, 40, Plain, Plain}, {40, 33, 65, Pair, Pair}, {5, 17, 30, Local, Plain},
		} {
			t.Run(fmt.Sprintf("%s %d×%d×%d", f.Entry(), s.m, s.n, s.k), func(t *testing.T) {
				r := load(t, f)
				if f == Int8 && s.in == Pair {
					s.in = Single
				}
				x, out := r.in(s.in, s.m, s.k), r.out(s.m, s.n)
				y := out
				if s.out != Plain {
					y = r.Hidden(s.m, s.n)
				}
				product := &MatMul{M: s.m, N: s.n, K: s.k, X: x, Weights: r.weights(s.n, s.k), Out: y}
				if i%2 == 1 {
					product.Bias, product.Act = r.vector(s.n, 1), matmul.GELU
					product.Residual = r.in(Single, s.m, s.n)
				}
				if f == BF16 && i%3 == 0 {
					product.Weights.Scale = r.vector(s.n, 1)
				}
				r.Add(product)
				tolerance := 1e-5
				if s.out != Plain {
					// Products read pairs as they are, so one by the unit matrix shows them.
					r.Add(&MatMul{M: s.m, N: s.n, K: s.n, X: y, Weights: r.unit(s.n), Out: out})
					tolerance = 0.01
				}
				r.check(1+i%4, out, s.m, s.n, tolerance)
			})
		}
	}
}

// unit is the unit matrix.
func (r *rig) unit(n int) Weights {
	ld := Up(n, 16) * 16
	if r.Format == BF16 {
		q := make([]uint16, n*ld)
		for j := range n {
			q[j*ld+j] = quantize.BF16(1)
		}
		return Weights{At: put(r, q), Stride: 2 * ld}
	}
	q, scale, sum := make([]int8, n*ld), make([]float32, n), make([]int32, n)
	for j := range n {
		q[j*ld+j], scale[j], sum[j] = 64, 1./64, 64
	}
	return Weights{At: put(r, q), Stride: ld, Scale: put(r, scale), Sum: put(r, sum)}
}

func TestPTXRowsAreNormalisedAndCopied(t *testing.T) {
	for _, f := range formats {
		for i, m := range []int{1, 9, 2} {
			r := load(t, f)
			const n, k = 35, 51
			x, out, again := r.in(Single, m, k), r.out(m, n), r.out(m, k)
			norm := &Norm{Gamma: r.vector(k, 1), Beta: r.vector(k, 1), Epsilon: 1e-5, Act: matmul.LeakyReLU, Fixed: i == 2, Copy: r.Singles(m, k)}
			r.Add(&MatMul{M: m, N: n, K: k, X: x, Norm: norm, Weights: r.weights(n, k), Bias: r.vector(n, 1), Out: out},
				&Move{M: m, N: k, X: norm.Copy, Out: again})
			r.check(3, again, m, k, 1e-5)
			r.compare(out, m, n, 0.01)
		}
	}
}

func TestPTXAttentionAndPoolingAreTheOracles(t *testing.T) {
	for _, s := range []struct {
		tokens, heads, depth int
		kind                 Kind
	}{{1, 1, 2, Single}, {7, 3, 4, Pair}, {19, 2, 10, Single}, {33, 2, 32, Pair}} {
		for _, unit := range []bool{false, true} {
			r := load(t, BF16)
			n := s.heads * s.depth
			out, y := r.out(1, n), r.Singles(s.tokens, n)
			r.Add(&Attend{Tokens: s.tokens, Heads: s.heads, Depth: s.depth, Q: r.in(s.kind, s.tokens, n), K: r.in(s.kind, s.tokens, n),
				V: r.in(s.kind, s.tokens, n), Out: y},
				&Pool{M: s.tokens, N: n, X: y, Norm: Norm{Gamma: r.vector(n, 1), Beta: r.vector(n, 1), Epsilon: 1e-6}, Unit: unit, Out: out})
			r.check(3, out, 1, n, 1e-4)
		}
	}
}

// flow adds what samples from a small flow with guidance, m rows: an embedder with normalisation, then blocks of two couplings with
// a permutation each. It returns where the result goes, [m][n].
func (r *rig) flow(m, blocks int) (out Matrix, n int) {
	n = 7
	const cond, width, embed, hidden = 11, 20, 9, 34
	u, v, out := r.plain(2*m, cond), r.plain(m, n), r.out(m, n) // rows without condition come last
	h, e := r.Singles(2*m, width), r.Singles(2*m, embed)
	r.Add(&MatMul{M: 2 * m, N: width, K: cond, X: u, Weights: r.weights(width, cond), Bias: r.vector(width, 1), Out: h},
		&MatMul{M: 2 * m, N: embed, K: width, X: h, Norm: &Norm{Gamma: r.vector(width, 1), Beta: r.vector(width, 1), Epsilon: 1e-5, Act: matmul.LeakyReLU},
			Weights: r.weights(embed, width), Bias: r.vector(embed, 1), Out: e})
	// A row is [b ; e ; a], so that what either half reads lies together.
	na, nb := n-n/2, n/2
	at, end := nb+embed, n+embed
	states := [2]Matrix{r.Locals(m, end), r.Locals(m, end)}
	r.Add(&Move{M: m, N: end, X: v, From: r.shuffle(nb, na, embed, n), Out: states[0]},
		&Move{M: m, N: embed, X: e, Base: e.Row(m), Factor: put(r, []float32{2.5}), Out: states[0].Column(nb)})
	for b := range blocks {
		state := states[b%2]
		for _, half := range []struct{ in, size, at, changed int }{{0, nb, at, na}, {nb, na, 0, nb}} {
			var outs [2]Matrix
			for net := range outs {
				x := Matrix{}
				for layer, k := range []int{half.size + embed, hidden, hidden} {
					p := &MatMul{M: m, N: hidden, K: k, X: x, Act: matmul.LeakyReLU}
					if layer == 0 {
						p.X = state.Column(half.in)
					}
					p.Out = r.Hidden(m, hidden)
					if layer == 2 {
						p.N, p.Act, p.Out = half.changed, matmul.None, r.Singles(m, half.changed)
					}
					p.Weights, p.Bias = r.weights(p.N, k), r.vector(p.N, 1)
					x = p.Out
					r.Add(p)
				}
				outs[net] = x
			}
			r.Add(&Uncouple{M: m, N: half.changed, Raw: outs[0], Shift: outs[1], State: state.Column(half.at), Alpha: 1.5})
		}
		to, columns, from := states[1-b%2], end, r.shuffle(nb, na, -embed, n)
		if b == blocks-1 {
			to, columns, from = out, n, r.shuffle(n, 0, 0, n)
		}
		r.Add(&Move{M: m, N: columns, X: state, From: from, Before: r.vector(columns, 0), Scale: r.vector(columns, 1), After: r.vector(columns, 1), Out: to})
	}
	return out, n
}

// shuffle is columns [b ; e ; a] of a permutation of n, of which e is left where it is if embed is negative, and else 0.
func (r *rig) shuffle(nb, na, embed, n int) uint64 {
	var s []int32
	for i, v := range r.rng.Perm(n) {
		if i == nb {
			for j := range max(embed, -embed) {
				if embed > 0 {
					s = append(s, -1)
				} else {
					s = append(s, int32(nb+j))
				}
			}
		}
		if v >= nb && embed < 0 {
			v += -embed
		}
		s = append(s, int32(v))
	}
	return put(r, s)
}

// In a chain of layers a value of a hidden layer that is rounded to its other neighbour moves all that follows.
func TestPTXFlowIsTheOracles(t *testing.T) {
	for _, f := range formats {
		for _, m := range []int{1, 5} {
			r := load(t, f)
			out, n := r.flow(m, 2)
			r.check(3, out, m, n, 0.03)
		}
	}
}

// Whatever the order in which blocks take turns, however many there are, and whatever launch it is: the bits are the same.
func TestPTXResultsDoNotDependOnTheSchedule(t *testing.T) {
	for _, f := range formats {
		var want []float32
		for blocks := 1; blocks <= 5; blocks++ {
			t.Run(fmt.Sprintf("%s %d", f.Entry(), blocks), func(t *testing.T) { // the seed is the name's
				r := load(t, f)
				out, n := r.flow(2, 1)
				r.encode(blocks)
				for range 3 {
					if err := r.launch(); err != nil {
						t.Fatal(err)
					}
					got := Poison(2 * n)
					r.k.Get(got, tensor.DevicePtr(out.At))
					if want == nil {
						want = got
					}
					Equal(t, got, want)
				}
			})
		}
	}
}

// encoder adds a small text encoder of one text, and returns where its embedding goes.
func (r *rig) encoder(tokens, layers int, int8Words bool) (out Matrix, n int) {
	n = 24
	const vocabulary, heads, inner = 13, 2, 40
	ids, kinds, count := make([]int32, tokens), make([]int32, tokens), put(r, []int32{int32(tokens+1) * 3 / 4})
	for i := range tokens {
		ids[i], kinds[i] = int32(r.rng.IntN(vocabulary)), int32(i%2)
	}
	out = r.out(1, n)
	embed := &Embed{M: tokens, N: n, IDs: put(r, ids), Kinds: put(r, kinds), Stride: 4 * n, Places: r.plain(tokens, n), Types: r.plain(2, n), Out: r.Singles(tokens, n)}
	if int8Words {
		table := make([]int8, vocabulary*n)
		for i := range table {
			table[i] = int8(r.rng.IntN(255) - 127)
		}
		embed.Table, embed.Stride, embed.Scale = put(r, table), n, r.vector(vocabulary, 0.01)
	} else {
		embed.Table = r.vector(vocabulary*n, 1)
	}
	r.Add(embed)
	sums := embed.Out
	norm := func(copy Matrix) *Norm {
		return &Norm{Gamma: r.vector(n, 1), Beta: r.vector(n, 1), Epsilon: 1e-5, Copy: copy}
	}
	for range layers {
		x, qkv, mixed := r.Singles(tokens, n), r.Hidden(tokens, 3*n), r.Hidden(tokens, n)
		r.Add(&MatMul{M: tokens, N: 3 * n, K: n, X: sums, Norm: norm(x), Weights: r.weights(3*n, n), Bias: r.vector(3*n, 1), Out: qkv},
			&Attend{Tokens: tokens, Heads: heads, Depth: n / heads, Count: count, Q: qkv, K: qkv.Column(n), V: qkv.Column(2 * n), Out: mixed})
		attended, x2, wide := r.Singles(tokens, n), r.Singles(tokens, n), r.Hidden(tokens, inner)
		r.Add(&MatMul{M: tokens, N: n, K: n, X: mixed, Weights: r.weights(n, n), Bias: r.vector(n, 1), Residual: x, Out: attended},
			&MatMul{M: tokens, N: inner, K: n, X: attended, Norm: norm(x2), Weights: r.weights(inner, n), Bias: r.vector(inner, 1), Act: matmul.GELU, Out: wide})
		sums = r.Singles(tokens, n)
		r.Add(&MatMul{M: tokens, N: n, K: inner, X: wide, Weights: r.weights(n, inner), Bias: r.vector(n, 1), Residual: x2, Out: sums})
	}
	r.Add(&Pool{M: tokens, N: n, Count: count, X: sums, Norm: *norm(Matrix{}), Unit: true, Out: out})
	return out, n
}

func TestPTXTextEncoderIsTheOracles(t *testing.T) {
	for _, f := range formats {
		for _, tokens := range []int{3, 18} {
			r := load(t, f)
			out, n := r.encoder(tokens, 2, f == Int8)
			r.check(4, out, 1, n, 0.03)
		}
	}
}

func TestEncodeRefusesWhatCannotRun(t *testing.T) {
	words := func(p *Program) Matrix { return p.Singles(1, 4) }
	for name, add := range map[string]func(p *Program) Instruction{
		"unwritten": func(p *Program) Instruction { return &Move{M: 1, N: 4, X: words(p), Out: p.Locals(1, 4)} },
		"twice": func(p *Program) Instruction {
			x := words(p)
			p.Add(&Move{M: 1, N: 4, X: Matrix{Kind: Plain, At: 256, Ld: 4}, Out: x})
			return &Move{M: 1, N: 4, X: Matrix{Kind: Plain, At: 256, Ld: 4}, Out: x}
		},
		"outside": func(p *Program) Instruction {
			return &Move{M: 1, N: 4, X: Matrix{Kind: Plain, At: 256, Ld: 4}, Out: words(p).Row(1)}
		},
		"kind": func(p *Program) Instruction {
			return &Uncouple{M: 1, N: 4, Raw: Matrix{Kind: Plain}, State: p.Locals(1, 4)}
		},
		"stride": func(p *Program) Instruction {
			return &MatMul{M: 1, N: 4, K: 4, X: Matrix{Kind: Plain, At: 256, Ld: 4}, Weights: Weights{At: 256, Stride: 8}, Out: words(p)}
		},
	} {
		p := &Program{}
		p.Add(add(p))
		if _, err := p.Encode(Machine{Blocks: 2, Shared: 1 << 16}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	p := &Program{}
	p.Add(&Move{M: 1, N: 4, X: Matrix{Kind: Plain, At: 256, Ld: 4}, Out: p.Locals(1, 4)})
	if _, err := p.Encode(Machine{Blocks: 2, Shared: 512}); !errors.Is(err, ErrRoom) {
		t.Errorf("too little memory: %v", err)
	}
}
