package program_test

import (
	"math"
	"sort"

	"netfusion/kernels/activation"
	"netfusion/kernels/matmul"
	. "netfusion/kernels/program"
	"netfusion/kernels/quantize"
)

// oracle executes a Program one instruction after the other, in float64 between what is stored: the definition of right.
type oracle struct {
	program *Program
	plain   map[uint64]any // what lies at an address
	words   [][2]float32
	local   []float32
}

// find returns the values from an address on.
func find[T any](o *oracle, at uint64, size int) []T {
	var starts []uint64
	for start, v := range o.plain {
		if _, ok := v.([]T); ok && start <= at {
			starts = append(starts, start)
		}
	}
	sort.Slice(starts, func(i, j int) bool { return starts[i] < starts[j] })
	start := starts[len(starts)-1]
	return o.plain[start].([]T)[int(at-start)/size:]
}

func (o *oracle) floats(at uint64) []float32 { return find[float32](o, at, 4) }
func (o *oracle) ints(at uint64) []int32     { return find[int32](o, at, 4) }

// value is m[i][j].
func (o *oracle) value(m Matrix, i, j int) float64 {
	switch m.Kind {
	case Plain:
		return float64(o.floats(m.At)[i*m.Ld+j])
	case Local:
		return float64(o.local[int(m.At)+i*m.Ld+j])
	case Single:
		return float64(o.words[int(m.At)/8+i*m.Ld+j][0])
	}
	return float64(o.words[int(m.At)/8+i*m.Ld+j/2][j%2])
}

func (o *oracle) set(m Matrix, i, j int, v float64) {
	switch m.Kind {
	case Plain:
		o.floats(m.At)[i*m.Ld+j] = float32(v)
	case Local:
		o.local[int(m.At)+i*m.Ld+j] = float32(v)
	case Single:
		o.words[int(m.At)/8+i*m.Ld+j][0] = float32(v)
	default:
		o.words[int(m.At)/8+i*m.Ld+j/2][j%2] = bf16(float32(v))
	}
}

func bf16(v float32) float32 { return math.Float32frombits(uint32(quantize.BF16(v)) << 16) }

func act(a matmul.Act, v float64) float64 {
	switch a {
	case matmul.GELU:
		return v / 2 * math.Erfc(-v/math.Sqrt2)
	case matmul.Tanh:
		return math.Tanh(v)
	case matmul.LeakyReLU:
		return max(v, activation.Slope*v)
	case matmul.ReLU:
		return max(v, 0)
	}
	return v
}

// norm normalises a row.
func (o *oracle) norm(n *Norm, x []float64) {
	var mean, square float64
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		square += (v - mean) * (v - mean) / float64(len(x))
	}
	if n.Fixed {
		mean, square = 0, 1-float64(n.Epsilon)
	}
	for j, v := range x {
		x[j] = float64(float32(act(n.Act, (v-mean)/math.Sqrt(square+float64(n.Epsilon))*float64(o.floats(n.Gamma)[j])+float64(o.floats(n.Beta)[j]))))
	}
}

func (o *oracle) run() {
	o.words, o.local = make([][2]float32, 1<<16), make([]float32, 1<<14)
	for _, in := range o.program.Instructions {
		switch x := in.(type) {
		case *MatMul:
			o.matmul(x)
		case *Uncouple:
			for i := range x.M {
				for j := range x.N {
					s := float64(x.Alpha) * math.Tanh(o.value(x.Raw, i, j)/float64(x.Alpha))
					o.set(x.State, i, j, (o.value(x.State, i, j)-o.value(x.Shift, i, j))*math.Exp(-s))
				}
			}
		case *Move:
			o.move(x)
		case *Attend:
			for h := range x.Heads {
				o.attend(x, h*x.Depth)
			}
		case *Pool:
			o.pool(x)
		case *Embed:
			for i := range x.M {
				id, kind := o.ints(x.IDs)[i], o.ints(x.Kinds)[i]
				for j := range x.N {
					v := o.value(x.Places, i, j) + o.value(x.Types, int(kind), j)
					if x.Scale != 0 {
						v += float64(find[int8](o, x.Table, 1)[int(id)*x.Stride+j]) * float64(o.floats(x.Scale)[id])
					} else {
						v += float64(o.floats(x.Table)[int(id)*x.Stride/4+j])
					}
					o.set(x.Out, i, j, v)
				}
			}
		}
	}
}

func (o *oracle) move(x *Move) {
	for i := range x.M {
		for j := range x.N {
			from := j
			if x.From != 0 {
				from = int(o.ints(x.From)[j])
			}
			v := 0.0
			if from >= 0 {
				v = o.value(x.X, i, from)
			}
			if x.Base.Kind != None {
				base := o.value(x.Base, i, j)
				v = base + float64(o.floats(x.Factor)[0])*(v-base)
			}
			if x.Before != 0 {
				v += float64(o.floats(x.Before)[j])
			}
			if x.Scale != 0 {
				v *= float64(o.floats(x.Scale)[j])
			}
			if x.After != 0 {
				v += float64(o.floats(x.After)[j])
			}
			o.set(x.Out, i, j, v)
		}
	}
}

func (o *oracle) matmul(x *MatMul) {
	row := make([]float64, x.K)
	for i := range x.M {
		for p := range row {
			row[p] = o.value(x.X, i, p)
		}
		if x.Norm != nil {
			o.norm(x.Norm, row)
			if x.Norm.Copy.Kind != None {
				for p, v := range row {
					o.set(x.Norm.Copy, i, p, v)
				}
			}
		}
		sums := o.sums(x, row)
		for j, v := range sums {
			if x.Bias != 0 {
				v += float64(o.floats(x.Bias)[j])
			}
			v = act(x.Act, v)
			if x.Residual.Kind != None {
				v += o.value(x.Residual, i, j)
			}
			o.set(x.Out, i, j, v)
		}
	}
}

// sums are those of one row, scaled.
func (o *oracle) sums(x *MatMul, row []float64) []float64 {
	sums, w := make([]float64, x.N), x.Weights
	if o.program.Format == BF16 {
		for j := range sums {
			weights := find[uint16](o, w.At, 2)[j*w.Stride/2:]
			for p, v := range row {
				sums[j] += float64(bf16(float32(v))) * float64(math.Float32frombits(uint32(weights[p])<<16))
			}
			if w.Scale != 0 {
				sums[j] *= float64(o.floats(w.Scale)[j])
			}
		}
		return sums
	}
	x32, q, scale, zero := make([]float32, x.K), make([]uint8, x.K), make([]float32, 1), make([]int32, 1)
	for p, v := range row {
		x32[p] = float32(v)
	}
	quantize.F32ToU8Rows(q, x.K, scale, zero, x32, x.K, 1, x.K)
	for j := range sums {
		weights, sum := find[int8](o, w.At, 1)[j*w.Stride:], 0
		for p := range row {
			sum += (int(q[p]) - int(zero[0])) * int(weights[p])
		}
		sums[j] = float64(sum) * float64(scale[0]) * float64(o.floats(w.Scale)[j])
	}
	return sums
}

// count is how many of n rows count.
func (o *oracle) count(at uint64, n int) int {
	if at == 0 {
		return n
	}
	return int(o.ints(at)[0])
}

func (o *oracle) attend(x *Attend, at int) {
	for i := range x.Tokens {
		weights, total := make([]float64, o.count(x.Count, x.Tokens)), 0.0
		for j := range weights {
			var dot float64
			for p := range x.Depth {
				dot += o.value(x.Q, i, at+p) * o.value(x.K, j, at+p)
			}
			weights[j] = math.Exp(dot)
			total += weights[j]
		}
		for p := range x.Depth {
			var v float64
			for j, w := range weights {
				v += w / total * o.value(x.V, j, at+p)
			}
			o.set(x.Out, i, at+p, v)
		}
	}
}

func (o *oracle) pool(x *Pool) {
	mean, square := make([]float64, x.N), 0.0
	m := o.count(x.Count, x.M)
	for i := range m {
		row := make([]float64, x.N)
		for j := range row {
			row[j] = o.value(x.X, i, j)
		}
		o.norm(&x.Norm, row)
		for j, v := range row {
			mean[j] += v / float64(m)
		}
	}
	for _, v := range mean {
		square += v * v
	}
	for j, v := range mean {
		if x.Unit {
			v /= max(math.Sqrt(square), 1e-12)
		}
		o.set(x.Out, 0, j, v)
	}
}
