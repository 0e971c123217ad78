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
		for _, s := range [][4]int{{1, 1, 1, 1}, {4, 4, 1, 3}, {7, 5, 3, 17}, {13, 64, 32, 40}} { // m, n, depth, width
			m, n, depth, width := s[0], s[1], s[2], s[3]
			ldq, ldd := depth+2, width+3
			q, key, value := normals(r, m*ldq), normals(r, n*depth), normals(r, n*width)
			keys, values := make([]float32, matmul.PackedLen(n, depth)), make([]float32, matmul.PackedLen(width, n))
			matmul.Pack(keys, key, n, depth)
			matmul.PackT(values, value, width, n)
			dst, scores := make([]float32, m*ldd), make([]float32, m*n)
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

func TestMaxPool(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, s := range [][3]int{{2, 2, 1}, {4, 6, 5}, {8, 2, 16}} {
		h, w, c := s[0], s[1], s[2]
		ldx := c + 3
		x, dst := normals(r, h*w*ldx), make([]float32, h/2*w/2*c)
		for i := range dst {
			dst[i] = float32(math.NaN())
		}
		MaxPool(dst, x, ldx, h, w, c)
		for i, got := range dst {
			want := float32(math.Inf(-1))
			for dy := range 2 {
				for dx := range 2 {
					y, col := i/c/(w/2)*2+dy, i/c%(w/2)*2+dx
					want = max(want, x[(y*w+col)*ldx+i%c])
				}
			}
			if got != want {
				t.Fatalf("%v: [%d] = %v, want %v", s, i, got, want)
			}
		}
	}
}

func TestPooledPanicsBeforeItWrites(t *testing.T) {
	buf := func(n int) []float32 { return make([]float32, n) }
	cputest.Refuses(t, 4, map[string]func(dst []float32){
		"scores":   func(dst []float32) { Pooled(dst, 2, buf(4), 2, buf(32), buf(32), buf(3), 2, 2, 2, 2) },
		"pool dst": func(dst []float32) { MaxPool(dst[:1], buf(8), 1, 2, 4, 1) },
		"pool x":   func(dst []float32) { MaxPool(dst, buf(7), 1, 2, 4, 1) },
		"odd":      func(dst []float32) { MaxPool(dst, buf(9), 1, 3, 2, 1) },
	})
}
