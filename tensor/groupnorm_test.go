package tensor

import (
	"math"
	"slices"
	"testing"
)

// Channels and images that only the group's own statistics can normalise: each group of each image is far from the others.
func TestGroupNormTakesEachGroupOfEachImage(t *testing.T) {
	const images, pixels, channels, groups = 3, 50, 12, 4
	x := normals(images*pixels, channels, 1)
	for p := range x.Rows {
		for c := range channels {
			x.Row(p)[c] += float32(100*(p/pixels) + 10*(c/3))
		}
	}
	gamma, beta := normals(1, channels, 2).Data, normals(1, channels, 3).Data
	var want []float32
	for _, workers := range []int{1, 2, 7} {
		d := CPU(workers)
		dst := New(x.Rows, channels)
		d.GroupNorm(dst, x, gamma, beta, images, groups, 1e-5)
		d.PReLU(dst, 0.2)
		d.Close()
		if want == nil {
			want = dst.Data
		} else if !slices.Equal(want, dst.Data) {
			t.Errorf("%d workers give other bits than 1", workers)
		}
	}
	for image := range images {
		for g := range groups {
			var sum, squares float64
			each := func(f func(v float64, p, c int)) {
				for p := image * pixels; p < (image+1)*pixels; p++ {
					for c := 3 * g; c < 3*g+3; c++ {
						f(float64(x.Row(p)[c]), p, c)
					}
				}
			}
			each(func(v float64, _, _ int) { sum += v })
			mean := sum / (3 * pixels)
			each(func(v float64, _, _ int) { squares += (v - mean) * (v - mean) })
			std := math.Sqrt(squares/(3*pixels) + 1e-5)
			each(func(v float64, p, c int) {
				y := (v-mean)/std*float64(gamma[c]) + float64(beta[c])
				if y = max(y, 0.2*y); !(math.Abs(float64(want[p*channels+c])-y) <= 1e-6*(1+math.Abs(y))) {
					t.Fatalf("pixel %d channel %d = %v, want %v", p, c, want[p*channels+c], y)
				}
			})
		}
	}
}

func TestGroupNormAndPReLUDoNotAllocate(t *testing.T) {
	d := CPU(2)
	defer d.Close()
	x, v := normals(4000, 16, 1), make([]float32, 16)
	if n := testing.AllocsPerRun(20, func() { d.GroupNorm(x, x, v, v, 2, 8, 1e-5); d.PReLU(x, 0.2) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

func TestGroupNormRefusesWrongShapes(t *testing.T) {
	d := CPU(1)
	defer d.Close()
	v := make([]float32, 4)
	for name, call := range map[string]func(){
		"dst":    func() { d.GroupNorm(New(5, 4), New(6, 4), v, v, 2, 2, 0) },
		"gamma":  func() { d.GroupNorm(New(6, 4), New(6, 4), v[:3], v, 2, 2, 0) },
		"beta":   func() { d.GroupNorm(New(6, 4), New(6, 4), v, v[:3], 2, 2, 0) },
		"images": func() { d.GroupNorm(New(6, 4), New(6, 4), v, v, 4, 2, 0) },
		"groups": func() { d.GroupNorm(New(6, 4), New(6, 4), v, v, 2, 3, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			call()
		})
	}
}
