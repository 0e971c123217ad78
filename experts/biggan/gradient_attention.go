package biggan

import (
	"netfusion/kernels/activation"
	"netfusion/kernels/dense"
	"netfusion/nn"
	"netfusion/tensor"
)

// attentionGradient works back through the attention. With queries q, pooled keys k and values v of an image,
//
//	P = softmax(q·kᵀ)    y = P·v    dv = Pᵀ·dy    dS = P∘(dy·vᵀ - rowsum(dy∘y))    dq = dS·k    dk = dSᵀ·q
//
// P and dS are made here, from what the projections gave: the way forward keeps neither.
type attentionGradient struct {
	projections, output tensor.Filter // transposed
	depth, width        int           // of a query or key, of a value
	side                int           // of the map
	keys                int           // of pooled pixels, rounded up to 16

	input, projected, attended tensor.Tensor

	da, dprojected tensor.Tensor // gradients of attended and projected
	q, dq          tensor.Tensor // [pixels][depth], [pixels][depth rounded up]
	qWide, daWide  tensor.Tensor // [pixels][… rounded up]
	k, dk          tensor.Tensor // [keys][depth rounded up]
	v, dv          tensor.Tensor // [keys][width rounded up]
	kT, vT         tensor.Tensor // [depth][keys], [width][keys]
	p, ds          tensor.Tensor // [pixels][keys]
	zero           []float32     // [pixels], a bias
	from           []int32       // [keys][depth + width], the pixel that each pooled value is of

	byQuery queryJob
	byKey   keyJob
}

// wide is n rounded up to what package dense works in.
func wide(n int) int { return (n + dense.Width - 1) / dense.Width * dense.Width }

func newAttentionGradient(w nn.Weights, channels, side int) *attentionGradient {
	a := &attentionGradient{depth: channels / 8, width: channels / 2, side: side, keys: wide(side * side / 4)}
	query, key := w.F32("query.weight", a.depth, channels), w.F32("key.weight", a.depth, channels)
	value, output := w.F32("value.weight", a.width, channels), w.F32("output.weight", channels, a.width)
	if w.Err() != nil {
		return a
	}
	a.projections, a.output = tensor.PointFilter(transposed(channels, query, key, value)), tensor.PointFilter(transposed(a.width, output))
	a.zero, a.from = make([]float32, side*side), make([]int32, a.keys*(a.depth+a.width))
	a.byQuery.a, a.byKey.a = a, a
	return a
}

func (a *attentionGradient) layout(ar *tensor.Arena) {
	n, all := a.side*a.side, 2*a.depth+a.width
	a.input, a.projected, a.attended = ar.Take(n, a.depth*8), ar.Take(n, all), ar.Take(n, a.width)
	a.da, a.dprojected = ar.Take(n, a.width), ar.Take(n, all)
	a.q, a.dq, a.qWide, a.daWide = ar.Take(n, a.depth), ar.Take(n, wide(a.depth)), ar.Take(n, wide(a.depth)), ar.Take(n, wide(a.width))
	a.k, a.dk = ar.Take(a.keys, wide(a.depth)), ar.Take(a.keys, wide(a.depth))
	a.v, a.dv = ar.Take(a.keys, wide(a.width)), ar.Take(a.keys, wide(a.width))
	a.kT, a.vT = ar.Take(a.depth, a.keys), ar.Take(a.width, a.keys)
	a.p, a.ds = ar.Take(n, a.keys), ar.Take(n, a.keys)
}

func (a *attentionGradient) scratch() int {
	return max(a.projections.Scratch(a.side, a.side), a.output.Scratch(a.side, a.side))
}

// forward computes y, the output of the attention for x, and keeps the projections and what was attended to.
func (a *attentionGradient) forward(s *Session, y, x tensor.Tensor, size int) {
	at := s.m.attention
	s.dev.Conv(a.projected, x, size, size, &at.projections, tensor.ConvEpilogue{})
	s.dev.PooledAttention(a.attended, a.projected, &s.pooled)
	s.dev.Conv(y, a.attended, size, size, &at.output, tensor.ConvEpilogue{Skip: x})
}

// backward computes dx from dy.
func (a *attentionGradient) backward(s *Session, dx, dy tensor.Tensor, size int) {
	s.dev.Conv(a.da, dy, size, size, &a.output, tensor.ConvEpilogue{})
	a.gather()
	s.dev.Run(&a.byQuery, (a.p.Rows+queryRows-1)/queryRows)
	s.dev.Run(&a.byKey, (a.keys+keyRows-1)/keyRows)
	a.scatter()
	s.dev.Conv(dx, a.dprojected, size, size, &a.projections, tensor.ConvEpilogue{Skip: dy})
}

// gather pools keys and values, remembering where each came from, and lays everything out for package dense, with zeros beyond.
func (a *attentionGradient) gather() {
	for p := range a.q.Rows {
		row := a.projected.Row(p)
		copy(a.q.Row(p), row[:a.depth])
		copyWide(a.qWide.Row(p), row[:a.depth])
		copyWide(a.daWide.Row(p), a.da.Row(p))
	}
	clear(a.k.Data)
	clear(a.v.Data)
	clear(a.kT.Data)
	clear(a.vT.Data)
	half := a.side / 2
	for cell := range half * half {
		first := cell/half*2*a.side + cell%half*2
		for c := range a.depth + a.width {
			best, at := a.projected.Row(first)[a.depth+c], first
			for _, p := range [3]int{first + 1, first + a.side, first + a.side + 1} {
				if v := a.projected.Row(p)[a.depth+c]; v > best {
					best, at = v, p
				}
			}
			a.from[cell*(a.depth+a.width)+c] = int32(at)
			if c < a.depth {
				a.k.Row(cell)[c], a.kT.Row(c)[cell] = best, best
			} else {
				a.v.Row(cell)[c-a.depth], a.vT.Row(c - a.depth)[cell] = best, best
			}
		}
	}
}

func copyWide(dst, src []float32) { clear(dst[copy(dst, src):]) }

// scatter gives each projection its gradient: those of keys and values go to the pixels that were the largest.
func (a *attentionGradient) scatter() {
	clear(a.dprojected.Data)
	for p := range a.dq.Rows {
		copy(a.dprojected.Row(p), a.dq.Row(p)[:a.depth])
	}
	for cell := range a.side * a.side / 4 {
		from := a.from[cell*(a.depth+a.width):]
		for c, d := range a.dk.Row(cell)[:a.depth] {
			a.dprojected.Row(int(from[c]))[a.depth+c] += d
		}
		for c, d := range a.dv.Row(cell)[:a.width] {
			a.dprojected.Row(int(from[a.depth+c]))[2*a.depth+c] += d
		}
	}
}

const queryRows, keyRows = 64, 32 // of a tile

// queryJob computes P, dS and dq, some queries to a tile.
type queryJob struct{ a *attentionGradient }

func (j *queryJob) Tile(i int) {
	a := j.a
	r0, r1 := i*queryRows, min((i+1)*queryRows, a.p.Rows)
	n, keys := a.p.Rows, a.side*a.side/4
	dense.Forward(a.p.Data, a.q.Data, a.zero, a.kT.Data, n, a.depth, a.keys, r0, r1, false, nil)
	dense.Forward(a.ds.Data, a.da.Data, a.zero, a.vT.Data, n, a.width, a.keys, r0, r1, false, nil)
	for r := r0; r < r1; r++ {
		p, ds := a.p.Row(r), a.ds.Row(r)
		activation.Softmax(p[:keys], 1, keys, keys)
		clear(p[keys:])
		var sum float32
		for c, y := range a.attended.Row(r) {
			sum += float32(y * a.da.Row(r)[c])
		}
		for k, v := range p {
			ds[k] = v * (ds[k] - sum)
		}
	}
	dense.Forward(a.dq.Data, a.ds.Data, a.zero, a.k.Data, n, a.keys, a.dq.Cols, r0, r1, false, nil)
}

// keyJob computes dk and dv, some keys to a tile.
type keyJob struct{ a *attentionGradient }

func (j *keyJob) Tile(i int) {
	a := j.a
	k0, k1 := i*keyRows, min((i+1)*keyRows, a.keys)
	n := a.p.Rows
	dense.Inputs(a.dk.Data, a.ds.Data, a.qWide.Data, nil, nil, n, a.keys, a.dk.Cols, k0, k1, false)
	dense.Inputs(a.dv.Data, a.p.Data, a.daWide.Data, nil, nil, n, a.keys, a.dv.Cols, k0, k1, false)
}
