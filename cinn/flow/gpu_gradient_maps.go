package flow

import "netfusion/tensor"

// gpuTrainConv is a convolution in training, the linear layer of a pixel with loc as its bias.
type gpuTrainConv struct {
	gpuTrainPart
	scale *gpuPiece
	fold  tensor.Array[int32] // [4][pixels of what it reads · in], the patches that each value is in; unless it is the first
}

// gpuMapTrace is what the way forth through a convolution leaves for the way back.
type gpuMapTrace struct {
	patches tensor.Buffer // [rows·side²][16·in]
	shifted tensor.Buffer // [rows·side²][out], W∗x + loc
	y       tensor.Buffer // the same, what comes out
}

// convolutions lays out those of a condition that is a map.
func (d *GPUGradient) convolutions(b *slabBuilder) {
	if d.maps == nil {
		return
	}
	c, g := &d.flow.Config, d.q.GPU()
	for i := range d.maps.convs {
		on, v := &d.maps.convs[i], &d.flow.maps.convolutions[i]
		t := gpuTrainConv{scale: b.add(v.scale, vectorKind, 1, on.out, nil)}
		t.weight = gpuView{b.add(v.w, matrixKind, on.out, kernelPixels*on.in, filters(c.channels(i), on.in)), 1}
		t.bias = gpuView{b.add(v.loc, vectorKind, 1, on.out, nil), 1}
		t.scale.gap = 1
		if i > 0 {
			t.fold = tensor.Put(g, unpatched(on.side, on.in))
		}
		d.convs = append(d.convs, t)
	}
	if n := len(d.convs); n > 0 {
		last := &d.maps.convs[n-1]
		from := newColumns(last.side * last.side * last.out).from
		for i := range c.features() {
			channels := c.channels(n)
			from[i/channels*last.out+i%channels] = int32(i)
		}
		d.unlast = tensor.Put(g, from)
	}
}

// unpatched lists the values of patches, [side²][4][4][wide], that each of the values that they were gathered from went to, [4][4·side²·wide]:
// strides of 2 put it in at most two patches along each axis.
func unpatched(side, wide int) []int32 {
	values := 4 * side * side * wide
	from := newColumns(4 * values).from
	eachTap(side, func(patch, pixel int) {
		for k := range wide {
			at := pixel*wide + k
			for from[at] >= 0 {
				at += values
			}
			from[at] = int32(patch*wide + k)
		}
	})
	return from
}

// look runs the maps c [rows][Cond] to what the embedder reads of them, dst [rows][features and a gap].
func (r *gpuRun) look(dst, c tensor.Buffer) (traces []gpuMapTrace) {
	q := r.q
	x := q.TakePacked(r.Rows, c.Cols)
	q.Columns(x, c, r.maps.standardise)
	if r.regularisation.Noise > 0 && !r.frozen {
		noise := q.TakePacked(r.Rows, c.Cols)
		q.Normal(noise, r.draw, blurStream, 0)
		q.AddScaled(x, noise, r.noise)
	}
	for i := range r.convs {
		v, l := &r.maps.convs[i], &r.convs[i]
		pixels := v.side * v.side
		t := gpuMapTrace{v.gather(q, x), q.TakePacked(r.Rows*pixels, v.out), q.TakePacked(r.Rows*pixels, v.out)}
		q.MatMul(t.shifted, t.patches, tensor.AsWeight(l.weight.matrix(r.values)), tensor.GPUEpilogue{Bias: l.bias.vector(r.values)})
		q.Columns(t.y, t.shifted, tensor.ColumnMap{Scale: l.scale.vector(r.values)})
		q.PReLU(t.y, t.y, mapSlope)
		traces = append(traces, t)
		x = t.y.Reshape(r.Rows, pixels*v.out)
	}
	q.Columns(dst, x, r.maps.last)
	return traces
}

// lookBack writes the gradients of the convolutions' parameters from that of what the embedder read of them, d [rows][features and a gap].
func (r *gpuRun) lookBack(d tensor.Buffer) {
	q, traces := r.q, r.looked
	defer q.Release(q.Taken())
	for i := len(traces) - 1; i >= 0; i-- {
		v, l, t := &r.maps.convs[i], &r.convs[i], &traces[i]
		pixels, width := v.side*v.side, kernelPixels*v.in
		if i == len(traces)-1 {
			last := q.TakePacked(r.Rows, pixels*v.out)
			q.Columns(last, d, tensor.ColumnMap{From: r.unlast})
			d = last
		}
		d = d.Reshape(r.Rows*pixels, v.out)
		q.PReLUBack(d, t.y, mapSlope)
		q.ColumnSums(l.scale.vector(r.Gradient), d, t.shifted)
		q.Columns(d, d, tensor.ColumnMap{Scale: l.scale.vector(r.values)})
		var patches tensor.Buffer
		if i > 0 {
			patches = q.TakePacked(r.Rows*pixels, width)
		}
		q.LinearBack(tensor.LinearBack{DX: patches, DY: d, X: t.patches, W: l.weight.matrix(r.values),
			DW: l.weight.matrix(r.Gradient), DB: l.bias.vector(r.Gradient), Squares: r.Squares.Slice(l.squares[0], l.squares[1])})
		if i == 0 {
			return
		}
		d = q.TakePacked(r.Rows, 4*pixels*v.in)
		q.Gather(d, patches.Reshape(r.Rows, pixels*width), l.fold, 4)
	}
}
