package nn

import (
	"netfusion/kernels/matmul"
	"netfusion/tensor"
)

// Linear is a fully connected layer, y = act(x·Wᵀ + b).
type Linear struct {
	W    tensor.Weight // [out][in]
	Bias []float32     // [out], or nil
}

// Linear reads name.weight [out][in] and name.bias [out].
func (w Weights) Linear(name string, in, out int) Linear {
	l := w.Projection(name, in, out)
	l.Bias = w.F32(name+".bias", out)
	return l
}

// Projection reads name.weight [out][in], a layer without bias.
func (w Weights) Projection(name string, in, out int) Linear {
	return Linear{W: w.Pack(w.Matrix(name+".weight", out, in))}
}

// Reserve prepares dev for up to rows rows.
func (l Linear) Reserve(dev *tensor.Device, rows int) { l.W.Reserve(dev, rows) }

// Forward computes dst [m][out] from x [m][in].
func (l Linear) Forward(dev *tensor.Device, dst, x tensor.Tensor, act matmul.Act) {
	dev.MatMul(dst, x, l.W, matmul.Epilogue{Bias: l.Bias, Act: act})
}
