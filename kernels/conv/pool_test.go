package conv

import (
	"math"
	"math/rand/v2"
	"testing"

	"netfusion/kernels/cpu/cputest"
)

func TestMaxPool(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(2, 2))
		for _, s := range [][3]int{{2, 2, 1}, {4, 6, 5}, {8, 2, 16}, {2, 4, 37}, {4, 2, 8}} {
			h, w, c := s[0], s[1], s[2]
			ldx := c + 2
			x := cputest.AtPageEnd[float32](t, (h*w-1)*ldx+c)
			copy(x, random(r, len(x)))
			for i := range c {
				x[(i%4%2+i%4/2*w)*ldx+i] = float32(math.NaN()) // in every place of the first four pixels
			}
			dst := cputest.AtPageEnd[float32](t, h/2*w/2*c)
			copy(dst, poisoned(len(dst)))
			MaxPool(dst, x, ldx, h, w, c)
			for i, got := range dst {
				want := float32(math.Inf(-1))
				for dy := range 2 {
					for dx := range 2 {
						y, col := i/c/(w/2)*2+dy, i/c%(w/2)*2+dx
						want = max(want, x[(y*w+col)*ldx+i%c])
					}
				}
				if got != want && (got == got || want == want) {
					t.Fatalf("%v: [%d] = %v, want %v", s, i, got, want)
				}
			}
		}
	})
}

func TestMaxPoolPanicsBeforeItWrites(t *testing.T) {
	buf := func(n int) []float32 { return make([]float32, n) }
	cputest.Refuses(t, 4, map[string]func(dst []float32){
		"dst": func(dst []float32) { MaxPool(dst[:1], buf(8), 1, 2, 4, 1) },
		"x":   func(dst []float32) { MaxPool(dst, buf(7), 1, 2, 4, 1) },
		"odd": func(dst []float32) { MaxPool(dst, buf(9), 1, 3, 2, 1) },
	})
}
