package biggan

import (
	"netfusion/nn"
	"netfusion/tensor"
)

// GPUModel is a generator's weights on a GPU, for one truncation, in whose Queues it computes what a Session computes. It never changes.
//
// Every convolution reads a map that is normalised already and in the precision of the filter: what makes the map leaves it so, beside
// the plain map that the skip needs. Channels are padded to a multiple of channelUnit by such as are always 0.
type GPUModel struct {
	Config
	g         *tensor.GPU
	norms     tensor.GPUWeight // [2·channels][cond]: the gains of all blocks, then the shifts
	channels  int              // of the conditional normalisations of all blocks
	biases    tensor.Array[float32]
	mean      tensor.Array[float32] // [channels]
	invStd    tensor.Array[float32] // [channels]
	first     nn.GPULinear
	blocks    []gpuBlock
	attention *gpuAttention
	last      tensor.GPUAffine // [1][Width]
	rgb       tensor.GPUFilter
	rgbBias   tensor.Array[float32]

	rgbPrecision tensor.Precision // of the map that rgb reads

	weights []tensor.GPUWeight // of all products, in their order
}

// gpuBlock is a block whose input has size×size pixels.
type gpuBlock struct {
	up        bool
	size      int
	precision tensor.Precision // of its maps
	norms     [4]norm          // places among GPUModel.channels
	filters   [4]tensor.GPUFilter
	bias      tensor.Array[float32] // of the last convolution
}

// gpuAttention precedes a block. It works in float32, on tensor cores in tf32 unless that is what the model is in.
type gpuAttention struct {
	projections tensor.GPUFilter // queries, keys and values
	output      tensor.GPUFilter
	precision   tensor.Precision
}
