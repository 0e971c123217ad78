package attention

import (
	"math"
	"math/rand/v2"
	"testing"

	"netfusion/kernels/cpu/cputest"
	"netfusion/kernels/matmul"
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
		sizes := [][4]int{{1, 1, 1, 1}, {4, 4, 1, 3}, {7, 5, 3, 17}, {13, 64, 32, 40}, {50, 100, 32, 128}} // m, n, depth, width
		for i := range 2 * len(sizes) {
			s, bf16 := sizes[i/2], i%2 == 1
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
			most := 1e-5
			if bf16 {
				packed := make([]uint16, matmul.PackedLenBF16(width, n))
				for p := 0; p < n; p += 6 {
					PackValues(packed, values[p*width:], p, min(6, n-p), n, width)
				}
				PooledBF16(dst, ldd, q, ldq, keys, packed, append(scores, make([]float32, len(scores)/2)...), m, n, depth, width)
				most = 1.0 / 120 // two roundings to 8 bits
			} else {
				Pooled(dst, ldd, q, ldq, keys, values, scores, m, n, depth, width)
			}
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
					if !(math.Abs(got-want) <= most*abs) {
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
		"dst":         func(dst []float32) { call(dst[:3], 4, 256, 4, 192) },
		"q":           func(dst []float32) { call(dst, 3, 256, 4, 192) },
		"keys":        func(dst []float32) { call(dst, 4, 255, 4, 192) },
		"values":      func(dst []float32) { call(dst, 4, 256, 3, 192) },
		"work":        func(dst []float32) { call(dst, 4, 256, 4, 191) },
		"bf16 values": func(dst []float32) { PooledBF16(dst, 2, buf(4), 2, buf(256), make([]uint16, 31), buf(288), 2, 2, 2, 2) },
		"bf16 work":   func(dst []float32) { PooledBF16(dst, 2, buf(4), 2, buf(256), make([]uint16, 32), buf(287), 2, 2, 2, 2) },
		"odd place":   func(dst []float32) { PackValues(make([]uint16, 64), buf(4), 1, 2, 3, 2) },
		"bf16 dst":    func(dst []float32) { PackValues(make([]uint16, 31), buf(4), 0, 2, 2, 2) },
		"pack dst":    func(dst []float32) { PackKeys(dst, buf(4), 2, 2) },
		"pack keys":   func(dst []float32) { PackKeys(dst, buf(3), 2, 2) },
	})
}
