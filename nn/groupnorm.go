package nn

import "netfusion/tensor"

// GroupNorm is a group normalisation with a gain and a shift per channel.
type GroupNorm struct {
	Groups      int
	Eps         float32
	Gamma, Beta []float32 // [channels]
}

// GroupNorm reads name.weight and name.bias, both [channels].
func (w Weights) GroupNorm(name string, channels, groups int, eps float32) GroupNorm {
	return GroupNorm{groups, eps, w.F32(name+".weight", channels), w.F32(name+".bias", channels)}
}

// Forward computes dst from x, both [images·pixels][channels]; dst may be x.
func (g GroupNorm) Forward(dev *tensor.Device, dst, x tensor.Tensor, images int) {
	dev.GroupNorm(dst, x, g.Gamma, g.Beta, images, g.Groups, g.Eps)
}
