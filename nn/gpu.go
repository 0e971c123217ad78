package nn

import (
	"netfusion/kernels/matmul"
	"netfusion/tensor"
)

// GPUWeights reads a checkpoint as Weights does, into the memory of a GPU. The methods of Weights that it does not replace
// read into the host's.
type GPUWeights struct {
	Weights
	g *tensor.GPU
}

// On returns w on g.
func (w Weights) On(g *tensor.GPU) GPUWeights { return GPUWeights{w, g} }

// GPU is where the weights go.
func (w GPUWeights) GPU() *tensor.GPU { return w.g }

// In returns the part of the checkpoint under prefix.
func (w GPUWeights) In(prefix string) GPUWeights { return GPUWeights{w.Weights.In(prefix), w.g} }

// Err is the first failure, of the checkpoint or of the GPU.
func (w GPUWeights) Err() error {
	if err := w.g.Err(); err != nil {
		w.Fail(err)
	}
	return w.Weights.Err()
}

// F32 uploads the tensor name in float32.
func (w GPUWeights) F32(name string, shape ...int) tensor.Array[float32] {
	return tensor.Put(w.g, w.Weights.F32(name, shape...))
}

// Table uploads the tensor name [rows][cols]; int8 stays int8.
func (w GPUWeights) Table(name string, rows, cols int) tensor.GPUTable {
	t := w.Weights.Table(name, rows, cols)
	return tensor.GPUTable{Rows: rows, Cols: cols, F32: tensor.Put(w.g, t.F32), I8: tensor.Put(w.g, t.I8), Scale: tensor.Put(w.g, t.Scale)}
}

// Pack uploads the matrices, one below the other, in the precision that As chose.
func (w GPUWeights) Pack(parts ...Matrix) tensor.GPUWeight {
	if w.Err() != nil {
		return tensor.GPUWeight{}
	}
	rows, cols, read := below(parts)
	return w.g.NewWeightFrom(w.Precision(), rows, cols, read)
}

// GPULinear is a Linear on a GPU.
type GPULinear struct {
	W    tensor.GPUWeight      // [out][in]
	Bias tensor.Array[float32] // [out], or none
}

// Linear reads name.weight [out][in] and name.bias [out].
func (w GPUWeights) Linear(name string, in, out int) GPULinear {
	l := w.Projection(name, in, out)
	l.Bias = w.F32(name+".bias", out)
	return l
}

// Projection reads name.weight [out][in], a layer without bias.
func (w GPUWeights) Projection(name string, in, out int) GPULinear {
	return GPULinear{W: w.Pack(w.Matrix(name+".weight", out, in))}
}

// Forward computes dst [m][out] from x [m][in].
func (l GPULinear) Forward(q *tensor.Queue, dst, x tensor.Buffer, act matmul.Act) {
	q.MatMul(dst, x, l.W, tensor.GPUEpilogue{Bias: l.Bias, Act: act})
}
