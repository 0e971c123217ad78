package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"netfusion/kernels/matmul"
	"netfusion/tensor"
)

// operation is one of a tensor.Queue's, timed as launches are: what it is made of is its own affair.
type operation struct {
	shape string
	flops float64
	make  func(o *operands) func(q *tensor.Queue)
}

// operands makes what an operation reads and writes, and counts its bytes.
type operands struct {
	q       *tensor.Queue
	pattern []float32
	bytes   int
}

// newOperands makes them in q's memory.
func newOperands(q *tensor.Queue) *operands {
	r := rand.New(rand.NewPCG(1, 1))
	o := &operands{q: q, pattern: make([]float32, 1<<16)}
	for i := range o.pattern {
		o.pattern[i] = 2*r.Float32() - 1
	}
	return o
}

// values are n numbers in [-1, 1).
func (o *operands) values(n int) tensor.Array[float32] {
	a := tensor.Keep[float32](o.q, n)
	for at := 0; at < n; at += len(o.pattern) {
		m := min(len(o.pattern), n-at)
		tensor.Set(o.q, a.Slice(at, at+m), o.pattern[:m])
	}
	o.bytes += 4 * n
	return a
}

// in is a matrix that is read, out one that is written, change one that is both.
func (o *operands) in(rows, cols int) tensor.Buffer {
	ld := (cols + 3) / 4 * 4
	return tensor.Buffer{Ptr: o.values(rows * ld).Ptr, Rows: rows, Cols: cols, Ld: ld}
}
func (o *operands) out(rows, cols int) tensor.Buffer {
	o.bytes += 4 * rows * cols
	return o.q.KeepBuffer(rows, cols)
}
func (o *operands) change(rows, cols int) tensor.Buffer {
	o.bytes += 4 * rows * cols
	return o.in(rows, cols)
}

// packed is in without gaps between rows.
func (o *operands) packed(rows, cols int) tensor.Buffer {
	return tensor.Matrix(o.values(rows*cols), rows, cols)
}

// written is packed for what is written.
func (o *operands) written(rows, cols int) tensor.Buffer {
	return tensor.Matrix(o.results(rows*cols), rows, cols)
}

// results are n numbers that are written.
func (o *operands) results(n int) tensor.Array[float32] {
	o.bytes += 4 * n
	return tensor.Keep[float32](o.q, n)
}

// list holds the words of a slice.
func list[T tensor.Value](o *operands, v []T) tensor.Array[T] {
	a := tensor.Keep[T](o.q, len(v))
	tensor.Set(o.q, a, v)
	return a
}

// ids are n indices of rows, spread over all.
func (o *operands) ids(n, rows int) tensor.Array[int32] {
	v := make([]int32, n)
	for i := range v {
		v[i] = int32(uint64(i) * 2654435761 % uint64(rows))
	}
	o.bytes += 4 * n
	return list(o, v)
}

// order is 0, 1, …, n-1.
func (o *operands) order(n int) tensor.Array[int32] {
	v := make([]int32, n)
	for i := range v {
		v[i] = int32(i)
	}
	return list(o, v)
}

// draw is a seed and a sample.
func (o *operands) draw() tensor.Array[uint64] { return list(o, []uint64{1, 2}) }

// starts are those of texts of equal length.
func (o *operands) starts(texts, tokens int) tensor.Array[int32] {
	v := make([]int32, texts+1)
	for i := range v {
		v[i] = int32(i * tokens)
	}
	return list(o, v)
}

// operations lists what the models' passes and a step of training consist of, beside products, convolutions and attention over texts.
func (s suite) operations() []operation {
	var all []operation
	add := func(shape string, flops float64, f func(o *operands) func(q *tensor.Queue)) {
		all = append(all, operation{shape, flops, f})
	}

	// Value by value, over what no cache holds.
	cols := s.wide[1]
	rows := max(1, s.values/4/cols)
	shape := fmt.Sprintf("rows=%d n=%d", rows, cols)
	for _, f := range []func(q *tensor.Queue, dst, x tensor.Buffer){
		(*tensor.Queue).Exp, (*tensor.Queue).Tanh, (*tensor.Queue).TanhGELU,
		func(q *tensor.Queue, dst, x tensor.Buffer) { q.PReLU(dst, x, 0.2) },
	} {
		add(shape, 0, func(o *operands) func(q *tensor.Queue) {
			dst, x := o.out(rows, cols), o.in(rows, cols)
			return func(q *tensor.Queue) { f(q, dst, x) }
		})
	}
	add(shape, 0, func(o *operands) func(q *tensor.Queue) {
		dst, base, factor := o.change(rows, cols), o.in(rows, cols), o.values(1)
		return func(q *tensor.Queue) { q.Mix(dst, base, factor) }
	})
	add(shape, 0, func(o *operands) func(q *tensor.Queue) {
		dst, x, factor := o.change(rows, cols), o.in(rows, cols), o.values(1)
		return func(q *tensor.Queue) { q.AddScaled(dst, x, factor) }
	})
	add(shape, 0, func(o *operands) func(q *tensor.Queue) {
		dst, x, m := o.out(rows, cols), o.in(rows, cols), tensor.ColumnMap{From: o.order(cols), Before: o.values(cols), Scale: o.values(cols)}
		return func(q *tensor.Queue) { q.Columns(dst, x, m) }
	})
	add(shape, 0, func(o *operands) func(q *tensor.Queue) {
		dst, x, half := o.out(rows, cols), o.in(rows, cols), rows*cols*2
		o.bytes -= half // of bfloat16
		return func(q *tensor.Queue) {
			q.Round(tensor.Buffer{Ptr: dst.Ptr, Rows: rows, Cols: cols, Ld: (cols + 7) / 8 * 8, Precision: tensor.BF16}, x)
		}
	})
	add(shape, 0, func(o *operands) func(q *tensor.Queue) {
		x := o.in(rows, cols)
		o.bytes += rows * cols
		return func(q *tensor.Queue) { q.Round(q.TakeIn(tensor.Int8, rows, cols), x) }
	})
	add(shape, 0, func(o *operands) func(q *tensor.Queue) {
		words, draw := o.results(rows*cols), o.draw()
		return func(q *tensor.Queue) { q.Words(tensor.Array[uint32]{Ptr: words.Ptr, Len: words.Len}, draw, 3, 0) }
	})
	for _, f := range []func(q *tensor.Queue, dst tensor.Buffer, draw tensor.Array[uint64], stream uint32, dim0 int){
		(*tensor.Queue).Uniform, (*tensor.Queue).Normal,
	} {
		add(shape, 0, func(o *operands) func(q *tensor.Queue) {
			dst, draw := o.out(rows, cols), o.draw()
			return func(q *tensor.Queue) { f(q, dst, draw, 3, 0) }
		})
	}
	add(shape, 0, func(o *operands) func(q *tensor.Queue) {
		x, draw := o.change(rows, cols), o.draw()
		return func(q *tensor.Queue) { q.Dropout(x, draw, 3, 1<<4, 16.0/15) }
	})

	// The optimizer's, over as many parameters.
	n := rows * cols
	shape = fmt.Sprintf("n=%d", n)
	add(shape, 0, func(o *operands) func(q *tensor.Queue) {
		p, g, m, v, ema := o.values(n), o.values(n), o.values(n), o.values(n), o.values(n)
		o.bytes += 4 * 4 * n // all but g are written
		step := list(o, []float32{0.9, 0.999, 0.1, 0.001, 1, 1e-6, 1, 1e-8, 1, 0.001})
		return func(q *tensor.Queue) { q.Adam(p, g, m, v, tensor.Array[float32]{}, ema, step) }
	})
	add(shape, 0, func(o *operands) func(q *tensor.Queue) {
		g, partial := o.values(n), tensor.Keep[float64](o.q, 1024)
		return func(q *tensor.Queue) { q.SumSquares(partial, g) }
	})
	add("parts=1024", 0, func(o *operands) func(q *tensor.Queue) {
		norm, steps, partial := tensor.Keep[float64](o.q, 1), o.values(tensor.AdamStep), tensor.Keep[float64](o.q, 1024)
		o.bytes += 8 * 1025
		return func(q *tensor.Queue) { q.Clip(norm, steps, partial, 1) }
	})

	all = append(all, s.ofTexts()...)
	all = append(all, s.ofImages()...)
	all = append(all, s.ofFlow()...)
	all = append(all, s.ofPrograms()...)
	return all
}

// ofTexts are a text encoder's.
func (s suite) ofTexts() []operation {
	texts, tokens, n := s.texts[0], s.texts[1], s.features
	rows, vocab := texts*tokens, 10*texts*tokens
	shape := fmt.Sprintf("rows=%d n=%d", rows, n)
	return []operation{
		{shape, 0, func(o *operands) func(q *tensor.Queue) {
			dst, x, residual, gamma, beta := o.written(rows, n), o.packed(rows, n), o.packed(rows, n), o.values(n), o.values(n)
			o.bytes += 2 * rows * n
			return func(q *tensor.Queue) {
				q.LayerNormNext(dst, q.TakeIn(tensor.BF16, rows, n), x, residual, gamma, beta, 1e-12, tensor.GPUWeight{})
			}
		}},
		{shape, 0, func(o *operands) func(q *tensor.Queue) {
			dst, words := o.written(rows, n), o.packed(rows, n) // as many words as are read
			t := tensor.TextTables{Words: tensor.GPUTable{Rows: rows, Cols: n, F32: words.Values()}, Positions: o.values(tokens * n), Types: o.values(2 * n),
				Gamma: o.values(n), Beta: o.values(n), Eps: 1e-12}
			x := tensor.Text{IDs: o.ids(rows, rows), Places: o.ids(rows, tokens), Types: o.ids(rows, 2)}
			return func(q *tensor.Queue) { q.EmbedText(dst, tensor.Buffer{}, &t, x, tensor.GPUWeight{}) }
		}},
		{fmt.Sprintf("%s vocab=%d", shape, vocab), 0, func(o *operands) func(q *tensor.Queue) {
			dst := o.written(rows, n)
			table := tensor.GPUTable{Rows: vocab, Cols: n, F32: o.values(vocab * n)}
			ids := o.ids(rows, vocab)
			o.bytes -= 4 * (vocab - rows) * n // rows that are not read
			return func(q *tensor.Queue) { q.Embed(dst, &table, ids) }
		}},
		{fmt.Sprintf("%s vocab=%d", shape, vocab), 0, func(o *operands) func(q *tensor.Queue) {
			dst, ids := o.written(rows, n), o.ids(rows, vocab)
			table := tensor.GPUTable{Rows: vocab, Cols: n, I8: tensor.Keep[int8](o.q, vocab*n), Scale: tensor.Keep[float32](o.q, vocab)}
			o.bytes += rows * n
			return func(q *tensor.Queue) { q.Embed(dst, &table, ids) }
		}},
		{shape, 0, func(o *operands) func(q *tensor.Queue) {
			dst, table, ids := tensor.Matrix(o.values(rows*n), rows, n), o.values(tokens*n), o.ids(rows, tokens)
			o.bytes += 4 * rows * n
			return func(q *tensor.Queue) { q.EmbedAdd(dst, table, ids) }
		}},
		{shape, 0, func(o *operands) func(q *tensor.Queue) {
			dst, table, spread, ids := o.change(rows, n), o.values(tokens*n), o.values(tokens*n), o.ids(rows, tokens)
			return func(q *tensor.Queue) { q.EmbedDraw(dst, table, spread, 0.5, ids) }
		}},
		{shape, 0, func(o *operands) func(q *tensor.Queue) {
			dst, x, starts := o.written(texts, n), o.packed(rows, n), o.starts(texts, tokens)
			return func(q *tensor.Queue) { q.PoolTokens(dst, x, starts, true, true) }
		}},
	}
}

// ofImages are a generator's, on the first and the last of the maps.
func (s suite) ofImages() []operation {
	var all []operation
	for _, i := range [][4]int{s.images[0], s.images[len(s.images)-1]} {
		images, size, c := i[0], i[1], i[2]
		rows := images * size * size
		shape := fmt.Sprintf("images=%d size=%d c=%d", images, size, c)
		all = append(all,
			operation{shape, 0, func(o *operands) func(q *tensor.Queue) {
				dst, x, a := o.out(rows, c), o.in(rows, c), tensor.GPUAffine{Scale: o.in(images, c), Offset: o.in(images, c)}
				return func(q *tensor.Queue) { q.ReLUAffine(dst, x, a) }
			}},
			operation{shape, 0, func(o *operands) func(q *tensor.Queue) {
				gain, shift, mean, std, bias := o.change(images, c), o.change(images, c), o.values(c), o.values(c), o.values(c)
				return func(q *tensor.Queue) { q.Fold(gain, shift, mean, std, bias) }
			}},
			operation{shape, 0, func(o *operands) func(q *tensor.Queue) {
				dst, x, gamma, beta := o.written(rows, c), o.packed(rows, c), o.values(c), o.values(c)
				return func(q *tensor.Queue) { q.GroupNorm(dst, x, gamma, beta, images, s.groups, 1e-6, 1) }
			}},
			operation{shape, 0, func(o *operands) func(q *tensor.Queue) {
				x, pixels := o.in(rows, 3), o.results(rows)
				return func(q *tensor.Queue) { q.Pixels(tensor.Array[uint32]{Ptr: pixels.Ptr, Len: rows}, x) }
			}})
		if size%2 == 0 {
			all = append(all, operation{shape, 0, func(o *operands) func(q *tensor.Queue) {
				dst, x := o.written(rows/4, c), o.in(rows, c)
				return func(q *tensor.Queue) { q.MaxPool(dst, x, size, size) }
			}})
		}
	}
	// Attention over the pixels of a map, where BigGAN-deep has it.
	images, size, depth, width := s.pooled[0], s.pooled[1], s.pooled[2], s.pooled[3]
	queries, keys := images*size*size, size*size/4
	for _, p := range []tensor.Precision{tensor.F32, tensor.BF16} {
		all = append(all, operation{fmt.Sprintf("images=%d size=%d depth=%d width=%d", images, size, depth, width),
			2 * float64(queries) * float64(keys) * float64(depth+width), func(o *operands) func(q *tensor.Queue) {
				dst, x := o.out(queries, width), o.in(queries, 2*depth+width)
				return func(q *tensor.Queue) { q.PooledAttention(dst, x, size, size, depth, p) }
			}})
	}
	return all
}

// ofFlow are those of a flow and of its training: a batch of rows, halves of the latent, layers of the subnets.
func (s suite) ofFlow() []operation {
	rows, n, hidden, classes := s.flow[0], s.flow[1], s.flow[2], s.flow[3]
	shape := fmt.Sprintf("rows=%d n=%d", rows, n)
	wide := fmt.Sprintf("rows=%d n=%d", rows, hidden)
	square := fmt.Sprintf("rows=%d n=%d k=%d", rows, hidden, hidden)
	named := fmt.Sprintf("rows=%d classes=%d", rows, classes)
	flops := 2 * float64(rows) * float64(hidden) * float64(hidden)
	return []operation{
		{shape, 0, func(o *operands) func(q *tensor.Queue) {
			y, x, raw, t, sc, logdet := o.out(rows, n), o.in(rows, n), o.in(rows, n), o.in(rows, n), o.written(rows, n), o.values(rows)
			return func(q *tensor.Queue) { q.Couple(y, x, raw, t, sc, logdet, 1.9) }
		}},
		{shape, 0, func(o *operands) func(q *tensor.Queue) {
			x, y, raw, t := o.out(rows, n), o.in(rows, n), o.in(rows, n), o.in(rows, n)
			return func(q *tensor.Queue) { q.Uncouple(x, y, raw, t, 1.9) }
		}},
		{shape, 0, func(o *operands) func(q *tensor.Queue) {
			d, draw, dt, x, sc := o.change(rows, n), o.out(rows, n), o.out(rows, n), o.in(rows, n), o.packed(rows, n)
			return func(q *tensor.Queue) { q.CoupleBack(d, draw, dt, x, sc, 0.1, 1.9) }
		}},
		{shape, 0, func(o *operands) func(q *tensor.Queue) {
			loss, d, y, logdet, from := o.results(rows), o.out(rows, n), o.in(rows, n), o.values(rows), o.order(n)
			return func(q *tensor.Queue) { q.CoupleLoss(loss, d, y, from, logdet, 0.1) }
		}},
		{fmt.Sprintf("n=%d", n), 0, func(o *operands) func(q *tensor.Queue) {
			sum, scale := tensor.Keep[float64](o.q, 1), o.values(n)
			return func(q *tensor.Queue) { q.LogScales(sum, scale) }
		}},
		{shape, 0, func(o *operands) func(q *tensor.Queue) {
			dst, d, from, scale, which := o.out(rows, n), o.in(rows, n), o.order(n), o.values(n), o.order(n)
			return func(q *tensor.Queue) { q.ColumnsBack(dst, d, from, scale, which) }
		}},
		{shape, 0, func(o *operands) func(q *tensor.Queue) {
			dloc, dscale, d, y, from, scale, which := o.results(n), o.results(n), o.in(rows, n), o.in(rows, n), o.order(n), o.values(n), o.order(n)
			return func(q *tensor.Queue) { q.ColumnsSums(dloc, dscale, d, from, y, which, scale) }
		}},
		{square, 2 * flops, func(o *operands) func(q *tensor.Queue) {
			l := tensor.LinearBack{DX: o.out(rows, hidden), H: o.in(rows, hidden), DW: o.out(hidden, hidden), DB: o.results(hidden),
				Squares: tensor.Keep[float64](o.q, tensor.SquaresOf(hidden, hidden)), DY: o.in(rows, hidden), W: o.in(hidden, hidden), X: o.in(rows, hidden)}
			return func(q *tensor.Queue) { q.LinearBack(l) }
		}},
		{wide, 0, func(o *operands) func(q *tensor.Queue) {
			sums, d, x := o.results(hidden), o.in(rows, hidden), o.in(rows, hidden)
			return func(q *tensor.Queue) { q.ColumnSums(sums, d, x) }
		}},
		{wide, 0, func(o *operands) func(q *tensor.Queue) {
			d, x, old, gamma := o.change(rows, hidden), o.change(rows, hidden), o.out(rows, hidden), o.values(hidden)
			return func(q *tensor.Queue) { q.LayerNormBack(d, x, old, gamma, 1e-5) }
		}},
		{wide, 0, func(o *operands) func(q *tensor.Queue) {
			y, x, gamma, beta, mean, variance, rstd := o.out(rows, hidden), o.change(rows, hidden), o.values(hidden), o.values(hidden), o.values(hidden), o.values(hidden), o.results(hidden)
			return func(q *tensor.Queue) { q.BatchNorm(y, x, gamma, beta, mean, variance, rstd, 0.1, 1e-5, false) }
		}},
		{wide, 0, func(o *operands) func(q *tensor.Queue) {
			d, x, gamma, rstd, dgamma, dbeta := o.change(rows, hidden), o.in(rows, hidden), o.values(hidden), o.values(hidden), o.results(hidden), o.results(hidden)
			return func(q *tensor.Queue) { q.BatchNormBack(d, x, gamma, rstd, dgamma, dbeta) }
		}},
		{named, 0, func(o *operands) func(q *tensor.Queue) {
			picked, logits, u, temperature := tensor.Keep[int32](o.q, rows), o.packed(rows, classes), o.values(rows), o.values(1)
			return func(q *tensor.Queue) { q.Pick(picked, logits, u, temperature) }
		}},
		{named, 0, func(o *operands) func(q *tensor.Queue) {
			loss, logits, scores := o.results(rows), o.change(rows, classes), o.packed(rows, classes)
			return func(q *tensor.Queue) { q.MixtureLoss(loss, logits, scores, 0.1) }
		}},
		{fmt.Sprintf("%s n=%d", named, n), 0, func(o *operands) func(q *tensor.Queue) {
			hat, scores, e, table := o.written(rows, n), o.written(rows, classes), o.packed(rows, n), o.packed(classes, n)
			return func(q *tensor.Queue) { q.Posterior(hat, scores, e, table, 0.5) }
		}},
		{fmt.Sprintf("rows=%d pairs=%d", rows, 16*rows), 0, func(o *operands) func(q *tensor.Queue) {
			sums := make([]float64, 16*rows)
			for i := range sums {
				sums[i] = float64(i + 1)
			}
			l := tensor.PairList{Members: o.ids(2*16*rows, rows), Sums: list(o, sums), Columns: 2, Drop: 0.1, Null: 0}
			ids, draw := tensor.Keep[int32](o.q, 2*rows), o.draw()
			o.bytes += 8*16*rows + 4*2*rows
			return func(q *tensor.Queue) { q.Pairs(ids, &l, draw, 3) }
		}},
		{wide, 0, func(o *operands) func(q *tensor.Queue) {
			dst, x, gamma, beta := o.written(rows, hidden), o.packed(rows, hidden), o.values(hidden), o.values(hidden)
			return func(q *tensor.Queue) { q.LayerNorm(dst, x, tensor.Buffer{}, gamma, beta, 1e-5, matmul.LeakyReLU) }
		}},
	}
}

// A watch is a driver that another keeps open, and that notes what is launched on it.
type watch struct {
	tensor.Driver
	entries  map[tensor.Function]string
	launched []string
	memory   map[tensor.DevicePtr]bool
}

func newWatch(d tensor.Driver) *watch {
	return &watch{Driver: d, entries: map[tensor.Function]string{}, memory: map[tensor.DevicePtr]bool{}}
}

func (w *watch) Alloc(bytes int) (tensor.DevicePtr, error) {
	p, err := w.Driver.Alloc(bytes)
	w.memory[p] = err == nil
	return p, err
}

func (w *watch) Free(p tensor.DevicePtr) error {
	delete(w.memory, p)
	return w.Driver.Free(p)
}

// Close frees what is left.
func (w *watch) Close() (err error) {
	for p, there := range w.memory {
		if there && err == nil {
			err = w.Driver.Free(p)
		}
	}
	return err
}

func (w *watch) Load(name, src string, of []tensor.Entry) ([]tensor.Function, error) {
	functions, err := w.Driver.Load(name, src, of)
	for i, f := range functions {
		w.entries[f] = of[i].Name
	}
	return functions, err
}

func (w *watch) Launch(s tensor.Stream, f tensor.Function, l tensor.Launch) error {
	if name := w.entries[f]; !slices.Contains(w.launched, name) {
		w.launched = append(w.launched, name)
	}
	return w.Driver.Launch(s, f, l)
}

// operated times the operations of a suite, each by the names of the entries that it launches.
func (s suite) operated(d tensor.Driver) ([]timing, error) {
	w := newWatch(d)
	g, err := tensor.OpenGPU(w, tensor.GPUOptions{Unproven: true})
	if err != nil {
		return nil, err
	}
	var all []timing
	for _, o := range s.operations() {
		w.launched = nil
		one, err := s.operation(g, &o)
		one.entry = strings.Join(w.launched, "+")
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", one.entry, o.shape, err)
		}
		fmt.Printf("%-40s %-40s %10.2f µs\n", one.entry, one.shape, 1e6*one.seconds)
		all = append(all, one)
	}
	return all, g.Close()
}

// operation is timer.one for what a Queue does.
func (s suite) operation(g *tensor.GPU, o *operation) (t timing, err error) {
	q, err := g.NewQueue(0)
	if err != nil {
		return t, err
	}
	defer q.Close()
	made := newOperands(q)
	records := []func(q *tensor.Queue){o.make(made)}
	t = timing{shape: o.shape, bytes: float64(made.bytes), flops: o.flops}
	copies := min(max(3*g.Attributes().L2/max(made.bytes, 1), 1), s.copies)
	for len(records) < copies {
		records = append(records, o.make(made))
	}
	count := up(s.fewest, copies) * copies
	graph, err := q.Capture(func() {
		q.Mark(0)
		for i := range count {
			records[i%copies](q)
		}
		q.Mark(1)
	})
	if err != nil {
		return t, err
	}
	var seconds []float64
	for range s.repeats + 1 {
		q.Replay(graph)
		if err := q.Wait(); err != nil {
			return t, err
		}
		seconds = append(seconds, q.Elapsed(0, 1).Seconds()/float64(count))
	}
	seconds = seconds[1:] // the first warms up
	slices.Sort(seconds)
	t.seconds = seconds[s.repeats/2]
	return t, q.Err()
}
