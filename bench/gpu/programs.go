package main

import (
	"fmt"

	"netfusion/kernels/matmul"
	"netfusion/kernels/program"
	"netfusion/tensor"
)

// chainLayers is how many layers a timed Program has: enough that its beginning and its end do not count.
const chainLayers = 16

// ofPrograms times chains of layers as a flow's subnets are, two side by side.
func (s suite) ofPrograms() []operation {
	var all []operation
	width := s.flow[2]
	for _, p := range []tensor.Precision{tensor.BF16, tensor.Int8} {
		for _, m := range []int{1, 8} {
			all = append(all, operation{
				shape: fmt.Sprintf("m=%d n=%d layers=%d", m, 2*width, chainLayers),
				flops: 4 * float64(m) * float64(width) * float64(width) * chainLayers,
				make: func(o *operands) func(q *tensor.Queue) {
					chain := o.q.NewProgram(o.chain(p, m, width))
					return func(q *tensor.Queue) {
						if chain != nil { // or the device is too small
							q.Execute(chain)
						}
					}
				},
			})
		}
	}
	return all
}

// chain is a Program of chainLayers layers.
func (o *operands) chain(p tensor.Precision, m, width int) *program.Program {
	f, _ := tensor.ProgramFormat(p)
	c := &program.Program{Format: f}
	x := o.in(m, 2*width).Program()
	for i := range chainLayers {
		y := c.Hidden(m, 2*width)
		if i == chainLayers-1 {
			y = o.out(m, 2*width).Program()
		}
		for at := 0; at < 2*width; at += width {
			c.Add(&program.MatMul{M: m, N: width, K: width, X: x.Column(at), Weights: o.weight(p, width, width).Program(),
				Bias: o.values(width).Address(), Act: matmul.LeakyReLU, Out: y.Column(at)})
		}
		x = y
	}
	return c
}

// weight is a matrix of the device's, until it is closed.
func (o *operands) weight(p tensor.Precision, n, k int) tensor.GPUWeight {
	o.bytes += n * k * map[tensor.Precision]int{tensor.BF16: 2, tensor.Int8: 1}[p]
	return o.q.GPU().NewWeightFrom(p, n, k, func(dst []float32, _ int) {
		for len(dst) > 0 {
			dst = dst[copy(dst, o.pattern):]
		}
	})
}
