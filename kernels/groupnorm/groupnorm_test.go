package groupnorm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"netfusion/kernels/cpu/cputest"
)

func random(r *rand.Rand, n int, mean, std float64) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(mean + std*r.NormFloat64())
	}
	return s
}

// oracle is the definition in float64, with the mean before the variance.
func oracle(x, gamma, beta []float32, pixels, channels, groups int, eps float64) []float64 {
	y, n := make([]float64, pixels*channels), channels/groups
	for g := range groups {
		mean, variance := 0.0, 0.0
		for p := range pixels {
			for c := g * n; c < (g+1)*n; c++ {
				mean += float64(x[p*channels+c]) / float64(pixels*n)
			}
		}
		for p := range pixels {
			for c := g * n; c < (g+1)*n; c++ {
				d := float64(x[p*channels+c]) - mean
				variance += d * d / float64(pixels*n)
			}
		}
		for p := range pixels {
			for c := g * n; c < (g+1)*n; c++ {
				i := p*channels + c
				y[i] = (float64(x[i])-mean)/math.Sqrt(variance+eps)*float64(gamma[c]) + float64(beta[c])
			}
		}
	}
	return y
}

func TestF32(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		pixels, channels, groups int
		mean, std                float64
	}{{1, 6, 3, 0, 1}, {5, 4, 4, 1, 2}, {7, 12, 1, 0, 1e-2}, {64, 24, 8, -3, 1}, {256, 16, 8, 1000, 0.1}} {
		const eps = 1e-5
		size := c.pixels * c.channels
		x, gamma, beta := random(r, size, c.mean, c.std), random(r, c.channels, 1, 1), random(r, c.channels, 0, 1)
		x[0] = float32(c.mean + 100*c.std) // the value that the statistics are shifted by, far out
		want := oracle(x, gamma, beta, c.pixels, c.channels, c.groups, eps)

		dst := make([]float32, size+1)
		for i := range dst {
			dst[i] = float32(math.NaN())
		}
		for g := range c.groups {
			F32(dst, x, gamma, beta, c.pixels, c.channels, c.groups, g, eps)
			for i, v := range dst {
				done := i < size && i%c.channels < (g+1)*c.channels/c.groups
				if done != (v == v) {
					t.Fatalf("%+v: after group %d dst[%d] is %v", c, g, i, v)
				}
			}
		}
		inPlace := append([]float32(nil), x...)
		for g := range c.groups {
			F32(inPlace, inPlace, gamma, beta, c.pixels, c.channels, c.groups, g, eps)
		}
		for i, w := range want {
			b := float64(beta[i%c.channels])
			if bound := 0x1p-24 * (6*math.Abs(w-b) + math.Abs(w)); !(math.Abs(float64(dst[i])-w) <= bound+1e-30) {
				t.Fatalf("%+v: [%d] = %v, want %v ± %v", c, i, dst[i], w, bound)
			}
			if inPlace[i] != dst[i] {
				t.Fatalf("%+v: in place [%d] = %v, want %v", c, i, inPlace[i], dst[i])
			}
		}
	}
}

func TestConstantGroupIsBeta(t *testing.T) {
	x, dst := []float32{7, 7, 1, 2, 7, 7, 3, 4}, make([]float32, 8)
	F32(dst, x, []float32{1, 2, 3, 4}, []float32{4, 5, 6, 7}, 2, 4, 2, 0, 1e-5)
	if fmt.Sprint(dst) != "[4 5 0 0 4 5 0 0]" {
		t.Errorf("got %v", dst)
	}
}

func TestWrongSizesPanicBeforeTheFirstStore(t *testing.T) {
	v := make([]float32, 8)
	cputest.Refuses(t, 8, map[string]func(dst []float32){
		"dst":    func(dst []float32) { F32(dst[:7], v, v, v, 2, 4, 2, 0, 0) },
		"x":      func(dst []float32) { F32(dst, v[:7], v, v, 2, 4, 2, 0, 0) },
		"gamma":  func(dst []float32) { F32(dst, v, v[:3], v, 2, 4, 2, 0, 0) },
		"beta":   func(dst []float32) { F32(dst, v, v, v[:3], 2, 4, 2, 0, 0) },
		"pixels": func(dst []float32) { F32(dst, v, v, v, -1, 4, 2, 0, 0) },
		"groups": func(dst []float32) { F32(dst, v, v, v, 2, 4, 3, 0, 0) },
		"group":  func(dst []float32) { F32(dst, v, v, v, 2, 4, 2, 2, 0) },
	})
}

func TestDoesNotAllocate(t *testing.T) {
	v := make([]float32, 64)
	if n := testing.AllocsPerRun(10, func() { F32(v, v, v, v, 2, 32, 8, 1, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
