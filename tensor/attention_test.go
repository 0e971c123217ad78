package tensor

import (
	"math"
	"slices"
	"testing"
)

// packed returns where sequences of these lengths begin, and where the last ends.
func packed(lengths []int) []int32 {
	starts := []int32{0}
	for _, n := range lengths {
		starts = append(starts, starts[len(starts)-1]+int32(n))
	}
	return starts
}

// Sequences attend to themselves alone, and in batches of any shape and on any number of workers a sequence gets the bits
// that it gets by itself.
func TestAttentionOfASequenceIsItsOwn(t *testing.T) {
	const heads, c = 3, 48
	for _, lengths := range [][]int{{}, {1}, {8}, {64}, {65}, {5, 1, 130, 2, 70}, slices.Repeat([]int{9}, 40), {300}} {
		starts := packed(lengths)
		tokens := int(starts[len(starts)-1])
		qkv, want := normals(tokens, 3*c, 7), New(tokens, c)
		one := CPU(1)
		one.ReserveAttention(c / heads)
		for s := range lengths {
			i, j := int(starts[s]), int(starts[s+1])
			one.Attention(want.Slice(i, j), qkv.Slice(i, j), starts[s:s+2], heads)
		}
		one.Close()
		for _, workers := range []int{1, 2, 7} {
			d := CPU(workers)
			d.ReserveAttention(c / heads)
			dst := New(tokens, c)
			for i := range dst.Data {
				dst.Data[i] = float32(math.NaN())
			}
			if n := testing.AllocsPerRun(20, func() { d.Attention(dst, qkv, starts, heads) }); n != 0 {
				t.Errorf("%v: %v allocations", lengths, n)
			}
			d.Close()
			if !slices.Equal(dst.Data, want.Data) {
				t.Errorf("%v, %d workers: not the same bits as one by one", lengths, workers)
			}
		}
		attentionIsRight(t, want, qkv, starts, heads)
	}
}

// attentionIsRight compares dst with a float64 computation.
func attentionIsRight(t *testing.T, dst, qkv Tensor, starts []int32, heads int) {
	t.Helper()
	c := dst.Cols
	d := c / heads
	for s := 1; s < len(starts); s++ {
		for i := int(starts[s-1]); i < int(starts[s]); i++ {
			for h := range heads {
				q := qkv.Row(i)[h*d:][:d]
				want, sum := make([]float64, d), 0.0
				for j := int(starts[s-1]); j < int(starts[s]); j++ {
					score := 0.0
					for p, v := range qkv.Row(j)[c+h*d:][:d] {
						score += float64(q[p]) * float64(v)
					}
					e := math.Exp(score)
					sum += e
					for p, v := range qkv.Row(j)[2*c+h*d:][:d] {
						want[p] += e * float64(v)
					}
				}
				for p, v := range dst.Row(i)[h*d:][:d] {
					if w := want[p] / sum; !(math.Abs(float64(v)-w) <= 1e-4) {
						t.Fatalf("token %d head %d: [%d] = %v, want %v", i, h, p, v, w)
					}
				}
			}
		}
	}
}

func TestAttentionRefusesWrongShapes(t *testing.T) {
	d := CPU(1)
	defer d.Close()
	d.ReserveAttention(4)
	for name, call := range map[string]func(){
		"qkv":      func() { d.Attention(New(5, 8), New(5, 23), []int32{0, 5}, 2) },
		"rows":     func() { d.Attention(New(5, 8), New(4, 24), []int32{0, 5}, 2) },
		"heads":    func() { d.Attention(New(5, 8), New(5, 24), []int32{0, 5}, 3) },
		"starts":   func() { d.Attention(New(5, 8), New(5, 24), []int32{0, 4}, 2) },
		"reserved": func() { d.Attention(New(5, 40), New(5, 120), []int32{0, 5}, 2) },
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
