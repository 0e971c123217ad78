package program_test

import (
	"encoding/binary"
	"testing"

	"netfusion/kernels/matmul"
	. "netfusion/kernels/program"
)

// paper adds the 24 blocks of the flow of Rombach, Esser and Ommer 2020 to p, for m rows: four networks of 2.65 million parameters in each. Nothing
// lies where its addresses are.
func paper(p *Program, m, size int) (bytes int) {
	const at, embed, hidden, half, blocks = 256, 268, 1024, 134, 24
	row, next := p.Locals(m, 2*half+embed), p.Locals(m, 2*half+embed)
	p.Add(&Move{M: m, N: 2*half + embed, X: Matrix{Kind: Plain, At: at, Ld: 2*half + embed}, Out: row})
	for range blocks {
		for k := range 2 {
			var out [2]Matrix
			for net := range out {
				x := row.Column(k * half)
				for layer, inputs := range []int{half + embed, hidden, hidden, hidden} {
					stride := (inputs*size + 15) / 16 * 16
					l := &MatMul{M: m, N: hidden, K: inputs, X: x, Weights: Weights{At: at, Stride: stride, Scale: at, Sum: at}, Bias: at, Act: matmul.LeakyReLU}
					l.Out = p.Hidden(m, hidden)
					if layer == 3 {
						l.N, l.Act, l.Out = half, matmul.None, p.Singles(m, half)
					}
					bytes += l.N * stride
					p.Add(l)
					x = l.Out
				}
				out[net] = x
			}
			p.Add(&Uncouple{M: m, N: half, Raw: out[0], Shift: out[1], State: row.Column((1 - k) * (half + embed)), Alpha: 1})
		}
		p.Add(&Move{M: m, N: 2*half + embed, X: row, From: at, Scale: at, After: at, Out: next})
		row, next = next, row
	}
	p.Add(&Move{M: m, N: 2 * half, X: row, Out: Matrix{Kind: Plain, At: at, Ld: 2 * half}})
	return bytes
}

// On an H100 the paper's flow keeps its multiprocessors alike busy, with so much of the weights on the way that memory need not wait: by Little's
// law 3.35 TB/s for a microsecond are 25 KB for each.
func TestThePapersFlowOnAnH100(t *testing.T) {
	const multiprocessors, shared = 132, 227<<10 - StaticShared
	for _, f := range formats {
		for _, m := range []int{1, 8} {
			p := &Program{Format: f}
			size := 2
			if f == Int8 {
				size = 1
			}
			total := paper(p, m, size)
			c, err := p.Encode(Machine{Blocks: min(multiprocessors, p.Width()), Shared: shared})
			if err != nil {
				t.Fatal(err)
			}
			if c.Shared > shared || c.Blocks < 120 {
				t.Errorf("%s, %d rows: %d blocks of %d bytes", f.Entry(), m, c.Blocks, c.Shared)
			}
			if pages, page := c.Layout[0], c.Layout[1]; (pages-2)*page < 50<<10 {
				t.Errorf("%s, %d rows: %d pages of %d bytes", f.Entry(), m, pages, page)
			}
			most, sum := 0, 0
			for b := range c.Blocks {
				bytes := 0
				for i := c.Starts[b]; i < c.Starts[b+1]; i++ {
					bytes += weightsOf(c, int(i))
				}
				most, sum = max(most, bytes), sum+bytes
			}
			steps := int(c.Starts[c.Blocks]) / c.Blocks
			t.Logf("%s, %d rows: %d blocks, %d pages of %d bytes, %d steps each, %d bytes of weights, at most %d a block, %d of steps", f.Entry(), m, c.Blocks,
				c.Layout[0], c.Layout[1], steps, sum, most, len(c.Steps))
			if sum != total {
				t.Errorf("%s, %d rows: steps read %d bytes of weights, of %d", f.Entry(), m, sum, total)
			}
			if float64(most) > 1.02*float64(total)/float64(c.Blocks) {
				t.Errorf("%s, %d rows: a block reads %d bytes of weights, of %d in all", f.Entry(), m, most, total)
			}
		}
	}
}

// weightsOf is how many bytes of weights a step of products copies: rows of so many bytes.
func weightsOf(c *Code, i int) int {
	const stepBytes, at = 208, 5*16 + 7*8
	s := c.Steps[i*stepBytes:][:stepBytes]
	word := func(j int) int { return int(binary.LittleEndian.Uint32(s[at+4*j:])) }
	if op := word(4); op != 0 {
		return 0
	}
	return word(1) * word(2)
}
