package flow

import (
	"slices"

	"netfusion/tensor"
)

// gpuMaps is how a condition that is a map lies on a GPU, [row][column][channel], with zeros behind the channels of a pixel up to a
// multiple of gpuUnit wherever a convolution wrote it; and so what goes where on the way to the embedder.
type gpuMaps struct {
	standardise tensor.ColumnMap    // the condition, as the convolutions read it
	average     tensor.Array[int32] // [Pool²][pooled], what sums make the linear layer's condition
	pixels      int                 // Pool²
	convs       []gpuConv
	last        tensor.ColumnMap // the last map, as the embedder reads it
	nothing     tensor.ColumnMap // the same of the null condition
}

// gpuConv is a convolution: its patches times its filters.
type gpuConv struct {
	side    int // of what comes out
	in, out int // channels, with those that are zeros
	patches tensor.Array[int32]
	// A lean Flow's, which does not change:
	weight tensor.GPUWeight      // scale·W, [out][16·in]
	bias   tensor.Array[float32] // scale·loc, [out]
}

// gpuMaps lays out the maps of f.
func (f *Flow) gpuMaps(g *tensor.GPU) *gpuMaps {
	c := &f.Config
	if c.Side == 0 {
		return nil
	}
	m := &gpuMaps{pixels: c.Pool * c.Pool, average: tensor.Put(g, c.averaged())}
	channels := c.channels(0)
	whole := newColumns(c.Cond)
	for i := range c.Cond {
		whole.from[i], whole.before[i], whole.scale[i] = int32(i), -f.maps.mean[i], f.maps.inverse[i%channels]
	}
	m.standardise = whole.put(g)
	stride := channels // of a pixel, in memory
	for i := range c.Convs {
		v := gpuConv{side: c.Side >> (i + 1), in: up(c.channels(i)), out: up(c.channels(i + 1))}
		v.patches = tensor.Put(g, patches(v.side, c.channels(i), stride, v.in))
		m.convs = append(m.convs, v)
		stride = v.out
	}
	last := newColumns(up(c.features()))
	channels = c.channels(c.Convs)
	for i := range c.features() {
		last.from[i] = int32(i/channels*stride + i%channels)
	}
	m.last = last.put(g)
	return m
}

// averaged lists what is summed for each element of the linear layer's condition, [Pool²][pooled].
func (c *Config) averaged() (from []int32) {
	channels, side := c.channels(0), c.Side/c.Pool
	for at := range c.Pool * c.Pool {
		for i := range c.pooled() {
			pixel, channel := i/channels, i%channels
			y, x := pixel/side*c.Pool+at/c.Pool, pixel%side*c.Pool+at%c.Pool
			from = append(from, int32((y*c.Side+x)*channels+channel))
		}
	}
	return from
}

// patches lists what a convolution that leaves side×side pixels multiplies, [side²][4][4][wide]: values of pixels that are stride apart,
// of which there are channels, and negative numbers for what is outside or behind them.
func patches(side, channels, stride, wide int) []int32 {
	from := slices.Repeat([]int32{-1}, side*side*kernelPixels*wide)
	eachTap(side, func(patch, pixel int) {
		for k := range channels {
			from[patch*wide+k] = int32(pixel*stride + k)
		}
	})
	return from
}

// eachTap calls do with each place of a patch, and the pixel of the input that is there.
func eachTap(side int, do func(patch, pixel int)) {
	in := 2 * side
	for i := range side * side * kernelPixels {
		at, tap := i/kernelPixels, i%kernelPixels
		y, x := 2*(at/side)-1+tap/kernelSide, 2*(at%side)-1+tap%kernelSide
		if y >= 0 && y < in && x >= 0 && x < in {
			do(i, y*in+x)
		}
	}
}

// filters is where the inputs of a convolution's filters are, with zeros behind the channels of a pixel.
func filters(channels, wide int) (columns []int) {
	for i := range kernelPixels * channels {
		columns = append(columns, i/channels*wide+i%channels)
	}
	return columns
}

// maps uploads the convolutions, and what they make of the null condition.
func (l gpuLoader) maps(p tensor.Precision, m *gpuMaps) {
	f, c := l.f, &l.f.Config
	for i := range m.convs {
		v, on := &f.maps.convolutions[i], &m.convs[i]
		loc, scale := f.values[v.loc:][:v.out], f.values[v.scale:][:v.out]
		bias := make([]float32, on.out)
		for k, s := range scale {
			bias[k] = s * loc[k]
		}
		columns, width := filters(c.channels(i), on.in), kernelPixels*on.in
		on.bias = tensor.Put(l.g, bias)
		on.weight = l.g.NewWeightFrom(p, on.out, width, func(dst []float32, row int) {
			for ; len(dst) > 0; dst, row = dst[width:], row+1 {
				l.layerRow(dst[:width], &v.dense, row, columns)
				for k := range dst[:width] {
					if row < v.out {
						dst[k] *= scale[row]
					}
				}
			}
		})
	}
	nothing := newColumns(up(c.features()))
	copy(nothing.after, f.nothing(l.read))
	m.nothing = nothing.put(l.g)
}

// nothing returns what the embedder reads of the null condition.
func (f *Flow) nothing(read reader) []float32 {
	dev := tensor.CPU(1)
	defer dev.Close()
	f.maps.pack(tensor.F32, f.values, read)
	p := pass{front: front{flow: f, dev: dev, rows: 1}}
	tensor.Plan(func(a *tensor.Arena) { p.look.layout(a, f, 1) })
	f.maps.reserve(dev, 1)
	dst := tensor.New(1, f.Config.features())
	p.features(dst, tensor.Of(1, f.Config.Cond, f.NullCondition()))
	return dst.Data
}

// look records what the embedder reads of c [m][Cond], dst [m][features and a gap].
func (m *gpuMaps) look(q *tensor.Queue, dst, c tensor.Buffer) {
	defer q.Release(q.Taken())
	x := q.TakePacked(c.Rows, c.Cols)
	q.Columns(x, c, m.standardise)
	for i := range m.convs {
		v := &m.convs[i]
		y := q.TakePacked(c.Rows*v.side*v.side, v.out)
		q.MatMul(y, v.gather(q, x), v.weight, tensor.GPUEpilogue{Bias: v.bias})
		q.PReLU(y, y, mapSlope)
		x = y.Reshape(c.Rows, v.side*v.side*v.out)
	}
	q.Columns(dst, x, m.last)
}

// gather records the patches of the maps x, [m·side²][16·in].
func (v *gpuConv) gather(q *tensor.Queue, x tensor.Buffer) tensor.Buffer {
	pixels, width := v.side*v.side, kernelPixels*v.in
	all := q.TakePacked(x.Rows, pixels*width)
	q.Columns(all, x, tensor.ColumnMap{From: v.patches})
	return all.Reshape(x.Rows*pixels, width)
}
