// Package tensor is memory and who computes: Tensor is a view of float32 values, Arena plans the memory of a
// whole network once, Device runs operations over it, and Pool holds the workers that a Device splits them over.
//
// Shapes are checked here and only here: a wrong shape is a programmer's error and panics. Everything below, in
// kernels/…, sees slices and numbers; everything above, in nn/ and experts/…, sees Tensors and a Device.
package tensor

// Tensor is a row-major matrix of float32, [Rows][Cols]. A batch of token states is [tokens][channels]; a batch of
// images is NHWC: Rows = N·H·W and Cols = C. The zero Tensor is empty.
type Tensor struct {
	Rows, Cols int
	Data       []float32
}

// New allocates a zeroed Tensor.
func New(rows, cols int) Tensor {
	return Tensor{rows, cols, make([]float32, rows*cols)}
}

// Of views data, whose length must be rows·cols.
func Of(rows, cols int, data []float32) Tensor {
	if len(data) != rows*cols {
		panic("tensor: data does not fill the shape")
	}
	return Tensor{rows, cols, data}
}

// Row returns row i, [Cols].
func (t Tensor) Row(i int) []float32 { return t.Data[i*t.Cols : (i+1)*t.Cols : (i+1)*t.Cols] }

// Slice views rows [i, j).
func (t Tensor) Slice(i, j int) Tensor {
	return Tensor{j - i, t.Cols, t.Data[i*t.Cols : j*t.Cols : j*t.Cols]}
}

// Reshape views the same values as [rows][cols].
func (t Tensor) Reshape(rows, cols int) Tensor { return Of(rows, cols, t.Data) }

// Front views the first rows·cols values as [rows][cols]: of memory that is planned for the largest use, what one use takes.
func (t Tensor) Front(rows, cols int) Tensor { return Of(rows, cols, t.Data[:rows*cols]) }
