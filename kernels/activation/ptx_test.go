package activation_test

import (
	"math"
	"slices"
	"testing"

	"netfusion/kernels/activation"
	. "netfusion/tensor/kerneltest"
)

func TestMain(m *testing.M) { Main(m, activation.PTX) }

// points go through the whole range of float32, densely where the functions bend, with all that is special.
func points() []float32 {
	inf := float32(math.Inf(1))
	x := []float32{0, inf, -inf, float32(math.NaN()), 0x1p-149, -0x1p-126, math.MaxFloat32, -math.MaxFloat32, 0.625, -0.625, 88.72, -87.34, -103.97, -104.5}
	for i := range 4000 {
		x = append(x, float32(i-2000)*0.003, float32(i-2000)*0.055)
	}
	return x
}

// ulp is the distance of the float32 numbers around x.
func ulp(x float64) float64 {
	_, e := math.Frexp(x)
	return math.Ldexp(1, max(e-24, -149))
}

// The bounds are those that activation.go states.
func TestPTXKeepsTheErrorBounds(t *testing.T) {
	const root = math.Sqrt2
	for _, f := range []struct {
		entry     string
		f         func(x float64) float64
		tolerance func(x, y float64) float64
		rest      []any
	}{
		{"activation_exp", math.Exp, func(_, y float64) float64 { return 1.5 * ulp(y) }, nil},
		{"activation_tanh", math.Tanh, func(_, y float64) float64 { return 1.5 * ulp(y) }, nil},
		{"activation_gelu", func(x float64) float64 { return x / 2 * math.Erfc(-x/root) },
			func(x, _ float64) float64 { return 3 * ulp(max(1, math.Abs(x))) }, nil},
		{"activation_gelu_tanh", func(x float64) float64 {
			return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
		}, func(x, _ float64) float64 { return 4 * ulp(max(1, math.Abs(x))) }, nil},
		{"activation_relu", func(x float64) float64 { return max(x, 0) }, func(_, _ float64) float64 { return 0 }, nil},
		{"activation_prelu", func(x float64) float64 { return max(x, x/4) }, func(_, _ float64) float64 { return 0 }, []any{float32(0.25)}},
	} {
		t.Run(f.entry, func(t *testing.T) {
			x := points()
			dst := Poison(len(x))
			Load(t, activation.PTX, f.entry).Run(Size{Up(len(x), 256)}, Size{256}, append([]any{dst, x, len(x)}, f.rest...)...)
			Near(t, dst, func(i int) (float64, float64) {
				x := float64(x[i])
				y := f.f(x)
				if x < -1e30 { // where the bounds of GELU grow, but the function is 0
					return y, 1e-30
				}
				if y > math.MaxFloat32 {
					y = math.Inf(1)
				}
				return y, f.tolerance(x, y)
			})
		})
	}
}

func TestPTXSoftmaxIsTheCPUs(t *testing.T) {
	k := Load(t, activation.PTX, "activation_softmax")
	for _, s := range []struct{ rows, cols, ld int }{{1, 1, 1}, {3, 31, 33}, {5, 32, 32}, {6, 200, 201}, {2, 1000, 1000}} {
		x := Normals(1, s.rows*s.ld, 4)
		want := slices.Clone(x)
		activation.Softmax(want, s.rows, s.cols, s.ld)
		k.Run(Size{Up(s.rows, 4)}, Size{128}, x, s.rows, s.cols, s.ld)
		Near(t, x, func(i int) (float64, float64) {
			if i%s.ld >= s.cols {
				return float64(want[i]), 0
			}
			return float64(want[i]), 2e-6 * float64(want[i])
		})
	}
}

// pick is the definition, in float64: the first class up to which the weights come to more than u of the whole.
func pick(logits []float32, temperature, u float64) int32 {
	best := 0
	for k, v := range logits {
		if v > logits[best] {
			best = k
		}
	}
	if temperature == 0 {
		return int32(best)
	}
	weight := func(v float32) float64 { return math.Exp(float64(v-logits[best]) / temperature) }
	var total float64
	for _, v := range logits {
		total += weight(v)
	}
	left := u * total
	for k, v := range logits {
		if left -= weight(v); left < 0 {
			return int32(k)
		}
	}
	return -1
}

// The draws are far enough from the borders between classes for float32 weights to tell.
func TestPTXPickDrawsByInverseDistribution(t *testing.T) {
	k := Load(t, activation.PTX, "activation_pick")
	for _, cols := range []int{1, 7, 32, 100} {
		const rows = 41
		logits, u := Normals(1, rows*cols, 1), make([]float32, rows)
		for i := range u {
			u[i] = (float32(i) + 0.5) / rows
		}
		for _, temperature := range []float32{0, 0.25, 1} {
			picked, want := make([]int32, rows), make([]int32, rows)
			for i := range want {
				want[i] = pick(logits[i*cols:][:cols], float64(temperature), float64(u[i]))
			}
			k.Run(Size{Up(rows, 4)}, Size{128}, picked, logits, u, []float32{temperature}, rows, cols)
			if !slices.Equal(picked, want) {
				t.Errorf("cols=%d temperature=%v: %v, want %v", cols, temperature, picked, want)
			}
		}
	}
	// Classes that are impossible are never drawn, at either end.
	never := float32(math.Inf(-1))
	picked := make([]int32, 2)
	k.Run(Size{1}, Size{128}, picked, []float32{never, 0, never, never, 0, never}, []float32{0x1p-25, 1 - 0x1p-24}, []float32{1}, 2, 3)
	if !slices.Equal(picked, []int32{1, 1}) {
		t.Errorf("drew %v", picked)
	}
}

func TestPTXMixture(t *testing.T) {
	k := Load(t, activation.PTX, "activation_mixture")
	const weight = 0.25
	for _, s := range []struct{ rows, classes int }{{1, 1}, {3, 31}, {5, 100}} {
		ld := s.classes + 2
		logits, scores := Normals(1, s.rows*ld, 3), Normals(2, s.rows*s.classes, 30)
		loss, got := Poison(s.rows), slices.Clone(logits)
		k.Run(Size{Up(s.rows, 4)}, Size{128}, loss, got, ld, scores, s.rows, s.classes, float32(weight))
		for i := range s.rows {
			l, score := logits[i*ld:][:s.classes], scores[i*s.classes:]
			sums := func(with float64) (sum, top float64) { // of exp(logits + with·scores - top)
				top = math.Inf(-1)
				for j, v := range l {
					top = max(top, float64(v)+with*float64(score[j]))
				}
				for j, v := range l {
					sum += math.Exp(float64(v) + with*float64(score[j]) - top)
				}
				return sum, top
			}
			prior, top := sums(0)
			joint, both := sums(1)
			want := top + math.Log(prior) - both - math.Log(joint)
			Near(t, loss[i:i+1], func(int) (float64, float64) { return want, 1e-6 * (1 + math.Abs(top) + math.Abs(both)) })
			Near(t, got[i*ld:][:s.classes], func(j int) (float64, float64) {
				v := float64(l[j])
				return weight * (math.Exp(v-top)/prior - math.Exp(v+float64(score[j])-both)/joint), 1e-5
			})
			Equal(t, got[i*ld+s.classes:(i+1)*ld], logits[i*ld+s.classes:(i+1)*ld])
		}
	}
}

func TestPTXPReLUBack(t *testing.T) {
	k := Load(t, activation.PTX, "activation_prelu_back")
	for _, n := range []int{1, 256, 300} {
		d, y, want := Normals(1, n, 1), Normals(2, n, 1), Poison(n)
		y[0] = float32(math.Copysign(0, -1)) // of an input that underflowed
		for i, v := range d {
			want[i] = v
			if math.Signbit(float64(y[i])) {
				want[i] = v * 0.2
			}
		}
		k.Run(Size{Up(n, 256)}, Size{256}, d, y, n, float32(0.2))
		Equal(t, d, want)
	}
}
