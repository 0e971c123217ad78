package nn

import "netfusion/tensor"

// Conv is a 3×3 convolution with padding 1 and a bias.
type Conv struct {
	Filter tensor.Filter
	Bias   []float32 // [out]
}

// Conv reads name.weight [out][3][3][in] and name.bias [out]. The images that it reads have side×side pixels.
func (w Weights) Conv(name string, in, out, stride, side int) Conv {
	v, bias := w.F32(name+".weight", out, 3, 3, in), w.F32(name+".bias", out)
	if v == nil {
		return Conv{}
	}
	return Conv{tensor.NewFilter(w.Precision(), v, tensor.ConvShape{Out: out, In: in, Size: 3, Stride: stride, H: side, W: side}), bias}
}

// Forward computes dst [images·⌈h/stride⌉·⌈w/stride⌉][out] from x [images·h·w][in]. dev must have reserved the scratch
// memory of c.Filter. dst must not overlap x.
func (c *Conv) Forward(dev *tensor.Device, dst, x tensor.Tensor, h, w int) {
	dev.Conv(dst, x, h, w, &c.Filter, tensor.ConvEpilogue{Bias: c.Bias})
}
