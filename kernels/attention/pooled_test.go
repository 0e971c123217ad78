package attention

import (
	"math"
	"math/rand/v2"
	"testing"

	"netfusion/kernels/cpu/cputest"
)

func normals(r *rand.Rand, n int) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(r.NormFloat64())
	}
	return s
}

func TestPooled(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 1))
		for _, s := range [][4]int{{1, 1, 1, 1}, {4, 4, 1, 3}, {7, 5, 3, 17}, {13, 64, 32, 40}, {50, 100, 32, 128}} { // m, n, depth, width
			m, n, depth, width := s[0], s[1], s[2], s[3]
			ldq, ldd := depth+2, width+3
			q, key, value := normals(r, m*ldq), normals(r, n*depth), normals(r, n*width)
			keys, values := make([]float32, KeysLen(n, depth)), cputest.AtPageEnd[float32](t, n*width)
			for j := 0; j < n; j += 16 {
				PackKeys(keys[KeysLen(j, depth):], key[j*depth:], min(16, n-j), depth)
			}
			copy(values, value)
			dst, scores := make([]float32, m*ldd), make([]float32, PooledWork(n))
			for i := range dst {
				dst[i] = float32(math.NaN())
			}
			Pooled(dst, ldd, q, ldq, keys, values, scores, m, n, depth, width)
			for i := range m {
				weight, total := make([]float64, n), 0.0
				for j := range n {
					dot := 0.0
					for p := range depth {
						dot += float64(q[i*ldq+p]) * float64(key[j*depth+p])
					}
					weight[j] = math.Exp(dot)
					total += weight[j]
				}
				for c := range ldd {
					got := float64(dst[i*ldd+c])
					if c >= width {
						if got == got {
							t.Fatalf("%v: wrote between rows", s)
						}
						continue
					}
					want, abs := 0.0, 0.0
					for j := range n {
						want += weight[j] / total * float64(value[j*width+c])
						abs += weight[j] / total * math.Abs(float64(value[j*width+c]))
					}
					if !(math.Abs(got-want) <= 1e-5*abs) {
						t.Fatalf("%v: dst[%d][%d] = %v, want %v", s, i, c, got, want)
					}
				}
			}
		}
	})
}

func TestPooledPanicsBeforeItWrites(t *testing.T) {
	buf := func(n int) []float32 { return make([]float32, n) }
	call := func(dst []float32, q, keys, values, work int) {
		Pooled(dst, 2, buf(q), 2, buf(keys), buf(values), buf(work), 2, 2, 2, 2)
	}
	cputest.Refuses(t, 4, map[string]func(dst []float32){
		"dst":       func(dst []float32) { call(dst[:3], 4, 256, 4, 192) },
		"q":         func(dst []float32) { call(dst, 3, 256, 4, 192) },
		"keys":      func(dst []float32) { call(dst, 4, 255, 4, 192) },
		"values":    func(dst []float32) { call(dst, 4, 256, 3, 192) },
		"work":      func(dst []float32) { call(dst, 4, 256, 4, 191) },
		"pack dst":  func(dst []float32) { PackKeys(dst, buf(4), 2, 2) },
		"pack keys": func(dst []float32) { PackKeys(dst, buf(3), 2, 2) },
	})
}
