package matmul

import (
	"math"
	"math/rand/v2"
	"testing"

	"netfusion/kernels/cpu/cputest"
	"netfusion/kernels/quantize"
)

// A problem is one product with its operands.
type problem struct {
	m, n, k int
	ldd     int
	x, w    []float64 // [m][k], [n][k]: the values that are multiplied, after rounding
	e       *Epilogue

	// multiply computes columns [j0, j1) of the first m rows with the form under test.
	multiply func(dst []float32, m, j0, j1 int)
	// roundings is how many roundings an output may have gone through.
	roundings int

	want, abs []float64 // [m][n]: the outputs in float64, and the magnitudes that roundings are relative to, once they are needed
}

// A precision makes problems.
type precision struct {
	name string
	new  func(m, n, k int) *problem
}

var precisions = []precision{{"F32", newF32}, {"BF16", newBF16}, {"I8", newI8}}

// eachPrecision runs f for every precision in every form.
func eachPrecision(t *testing.T, f func(t *testing.T, in precision)) {
	cputest.EachForm(t, func(t *testing.T) {
		for _, in := range precisions {
			t.Run(in.name, func(t *testing.T) { f(t, in) })
		}
	})
}

func generator(m, n, k int) *rand.Rand { return rand.New(rand.NewPCG(uint64(m), uint64(n<<20+k))) }

func random(r *rand.Rand, n int) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = r.Float32()*2 - 1
	}
	return s
}

// newProblem makes what the precisions have in common; x is [m][ldx].
func newProblem(r *rand.Rand, m, n, k int, x []float32, ldx int, w []float32) *problem {
	p := &problem{m: m, n: n, k: k, ldd: n + 3, e: &Epilogue{Bias: random(r, n)}, roundings: k + 2}
	p.x, p.w = make([]float64, m*k), make([]float64, n*k)
	for i := range p.x {
		p.x[i] = float64(x[i/k*ldx+i%k])
	}
	for i, v := range w {
		p.w[i] = float64(v)
	}
	return p
}

func newF32(m, n, k int) *problem {
	r, ldx := generator(m, n, k), k+1
	x, w, packed := random(r, m*ldx), random(r, n*k), make([]float32, PackedLen(n, k))
	Pack(packed, w, n, k)
	p := newProblem(r, m, n, k, x, ldx, w)
	p.multiply = func(dst []float32, m, j0, j1 int) { F32(dst, p.ldd, x, ldx, packed, m, n, k, j0, j1, p.e) }
	return p
}

func newBF16(m, n, k int) *problem {
	r, ldx := generator(m, n, k), even(k)+2
	x, w, packed := random(r, m*ldx), random(r, n*k), make([]uint16, PackedLenBF16(n, k))
	PackBF16(packed, w, n, k)
	h := make([]uint16, max(len(x), len(w)))
	quantize.F32ToBF16(h[:len(w)], w)
	quantize.BF16ToF32(w, h[:len(w)])
	quantize.F32ToBF16(h[:len(x)], x)
	quantize.BF16ToF32(x, h[:len(x)])
	p := newProblem(r, m, n, k, x, ldx, w)
	p.multiply = func(dst []float32, m, j0, j1 int) { BF16(dst, p.ldd, h[:len(x)], ldx, packed, m, n, k, j0, j1, p.e) }
	return p
}

func newI8(m, n, k int) *problem {
	r, ldx := generator(m, n, k), four(k)+4
	w, packed := random(r, n*k), NewInt8(n, k)
	PackI8(packed, w, n, k)
	q, scale := make([]int8, n*k), make([]float32, n)
	quantize.F32ToI8Rows(q, scale, w, n, k)
	for i := range w {
		w[i] = float32(q[i]) // the scale comes in below, since its product is rounded
	}
	rows := Uint8{make([]uint8, m*ldx), ldx, make([]float32, m), make([]int32, m)}
	x := make([]float32, m*ldx)
	for i := range x {
		rows.Q[i] = uint8(r.Uint32())
	}
	for i := range m {
		rows.Scale[i], rows.Zero[i] = r.Float32()/256, int32(r.Uint32N(256))
		for j := range ldx {
			x[i*ldx+j] = float32(int32(rows.Q[i*ldx+j]) - rows.Zero[i])
		}
	}
	p := newProblem(r, m, n, k, x, ldx, w)
	for i := range p.x {
		p.x[i] *= float64(rows.Scale[i/k])
	}
	for i := range p.w {
		p.w[i] *= float64(scale[i/k])
	}
	p.roundings = 4
	p.multiply = func(dst []float32, m, j0, j1 int) { I8(dst, p.ldd, rows, packed, m, n, k, j0, j1, p.e) }
	return p
}

const guard = 32

var sentinel = math.Float32frombits(0x7fc0beef) // a NaN of our own

// run computes the product, in parts that end at cuts, into a guarded, NaN-poisoned dst and fails if anything else is written.
func (p *problem) run(t testing.TB, cuts ...int) []float32 {
	t.Helper()
	size := max(0, (p.m-1)*p.ldd+p.n)
	buf := make([]float32, guard+size+guard)
	for i := range buf {
		buf[i] = sentinel
	}
	dst := buf[guard : guard+size : guard+size]
	j := 0
	for _, cut := range append(cuts, p.n) {
		p.multiply(dst, p.m, j, cut)
		j = cut
	}
	for i, v := range buf {
		outside := i < guard || i >= guard+size || (i-guard)%p.ldd >= p.n
		if written := math.Float32bits(v) != math.Float32bits(sentinel); written == outside {
			t.Fatalf("m=%d n=%d k=%d: element %d of dst [%d]: written = %v", p.m, p.n, p.k, i-guard, size, written)
		}
	}
	return dst
}

// solve computes want and abs.
func (p *problem) solve() {
	p.want, p.abs = make([]float64, p.m*p.n), make([]float64, p.m*p.n)
	for i := range p.m {
		x := p.x[i*p.k:][:p.k]
		for j := range p.n {
			var sum, abs float64
			if p.e.Bias != nil {
				sum = float64(p.e.Bias[j])
				abs = math.Abs(sum)
			}
			w := p.w[j*p.k:][:len(x)]
			for q, a := range x {
				v := a * w[q]
				sum += v
				abs += math.Abs(v)
			}
			p.want[i*p.n+j], p.abs[i*p.n+j] = sum, abs
		}
	}
}

// check compares with float64 within γ(roundings)·Σ|x||w|, which holds for any order of summation.
func (p *problem) check(t testing.TB, dst []float32) {
	t.Helper()
	if p.want == nil {
		p.solve()
	}
	const u = 0x1p-24
	roundings := float64(p.roundings)
	gamma := roundings * u / (1 - roundings*u)
	var square, bound float64
	for i := range p.m {
		for j := range p.n {
			got, want, abs := dst[i*p.ldd+j], p.want[i*p.n+j], p.abs[i*p.n+j]
			diff := float64(got) - want
			if !(math.Abs(diff) <= gamma*abs) {
				t.Fatalf("m=%d n=%d k=%d: dst[%d][%d] = %v, want %v ± %v", p.m, p.n, p.k, i, j, got, want, gamma*abs)
			}
			square += diff * diff
			bound += abs * abs
		}
	}
	// The bound above grows with k, but rounding errors are nearly random and grow with √k.
	if rms, want := math.Sqrt(square), 4*math.Sqrt(roundings)*u*math.Sqrt(bound); rms > want {
		t.Errorf("m=%d n=%d k=%d: RMS error %g, want at most %g", p.m, p.n, p.k, rms, want)
	}
}

// same demands the same bits.
func same(t *testing.T, p *problem, got, want []float32) {
	t.Helper()
	for i := range p.m {
		for j := range p.n {
			if g, w := got[i*p.ldd+j], want[i*p.ldd+j]; math.Float32bits(g) != math.Float32bits(w) {
				t.Fatalf("m=%d n=%d k=%d: dst[%d][%d] = %v, want %v", p.m, p.n, p.k, i, j, g, w)
			}
		}
	}
}
