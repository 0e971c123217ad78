package groupnorm_test

import (
	"math"
	"testing"

	"netfusion/kernels/groupnorm"
	. "netfusion/tensor/kerneltest"
)

func TestMain(m *testing.M) { Main(m, groupnorm.PTX) }

func TestPTXIsTheCPUs(t *testing.T) {
	k := Load(t, groupnorm.PTX, "groupnorm_f32")
	const eps, slope = 1e-5, 0.2
	for _, s := range []struct{ images, pixels, channels, groups int }{{1, 1, 2, 1}, {2, 50, 12, 4}, {3, 7, 5, 5}, {1, 64, 32, 2}} {
		size := s.pixels * s.channels
		x, gamma, beta := Normals(1, s.images*size, 1), Normals(2, s.channels, 1), Normals(3, s.channels, 1)
		dst, want := Poison(len(x)), Poison(len(x))
		for i := range x {
			x[i] += float32(100 * (i % s.channels * s.groups / s.channels))
		}
		for image := range s.images {
			for g := range s.groups {
				groupnorm.F32(want[image*size:], x[image*size:], gamma, beta, s.pixels, s.channels, s.groups, g, eps)
			}
		}
		k.Run(Size{s.groups, s.images}, Size{256}, dst, x, gamma, beta, s.pixels, s.channels, s.groups, float32(eps), float32(slope))
		Near(t, dst, func(i int) (float64, float64) {
			w, b := float64(want[i]), math.Abs(float64(beta[i%s.channels]))
			tolerance := 1e-6 * (math.Abs(w) + 2*b + math.Abs(float64(gamma[i%s.channels])))
			return max(w, slope*w), tolerance
		})
	}
}

func TestPTXNeedsEveryBarrier(t *testing.T) {
	x, one := Normals(1, 64*16, 1), Normals(2, 16, 1)
	Needs(t, groupnorm.PTX, "groupnorm_f32", func(k *Kernel) error {
		return k.Try(Size{2, 1}, Size{256}, Poison(len(x)), x, one, one, 64, 16, 2, float32(1e-5), float32(1))
	})
}
