package tensor

// Array is values in a GPU's memory, as a slice is in the host's. The zero Array is none.
type Array[T Value] struct {
	Ptr DevicePtr
	Len int
}

// Slice views the values [i, j).
func (a Array[T]) Slice(i, j int) Array[T] {
	if i < 0 || j < i || j > a.Len {
		panic("tensor: Array.Slice out of range")
	}
	return Array[T]{a.Ptr + DevicePtr(i*sizeOf[T]()), j - i}
}

func (a Array[T]) pointer() DevicePtr { return a.Ptr }

// Buffer is a matrix of float32 in a GPU's memory, [Rows][Cols], as Tensor is in the host's; a row begins Ld values after the one
// before. So columns of a Buffer are a Buffer. The zero Buffer is none.
type Buffer struct {
	Ptr            DevicePtr
	Rows, Cols, Ld int
}

// rowUnit is how many values begin at a multiple of 16 bytes, as rows do that products read.
const rowUnit = 4

// Matrix views values as [rows][cols], one row right behind the other.
func Matrix(values Array[float32], rows, cols int) Buffer {
	if values.Len != rows*cols {
		panic("tensor: values do not fill the shape")
	}
	return Buffer{values.Ptr, rows, cols, cols}
}

// Values views a Buffer whose rows lie one right behind the other.
func (b Buffer) Values() Array[float32] {
	if !b.packed() {
		panic("tensor: the rows of this Buffer lie apart")
	}
	return Array[float32]{b.Ptr, b.Rows * b.Cols}
}

// packed tells whether rows lie one right behind the other.
func (b Buffer) packed() bool { return b.Ld == b.Cols || b.Rows <= 1 }

// None tells whether b is the zero Buffer.
func (b Buffer) None() bool { return b.Ptr == 0 }

// Slice views the rows [i, j).
func (b Buffer) Slice(i, j int) Buffer {
	if i < 0 || j < i || j > b.Rows {
		panic("tensor: Buffer.Slice out of range")
	}
	return Buffer{b.Ptr + DevicePtr(4*i*b.Ld), j - i, b.Cols, b.Ld}
}

// Columns views the columns [i, j).
func (b Buffer) Columns(i, j int) Buffer {
	if i < 0 || j < i || j > b.Cols {
		panic("tensor: Buffer.Columns out of range")
	}
	return Buffer{b.Ptr + DevicePtr(4*i), b.Rows, j - i, b.Ld}
}

// Reshape views the same values as [rows][cols]; the rows of b lie one right behind the other.
func (b Buffer) Reshape(rows, cols int) Buffer { return Matrix(b.Values(), rows, cols) }

// Front views the first rows·cols values as [rows][cols].
func (b Buffer) Front(rows, cols int) Buffer {
	return Matrix(b.Values().Slice(0, rows*cols), rows, cols)
}

func (b Buffer) pointer() DevicePtr { return b.Ptr }

// same tells whether b has so many rows and columns.
func (b Buffer) same(rows, cols int) bool { return b.Rows == rows && b.Cols == cols }

// span is how many values there are from the first to the end of the last row, with what lies between rows.
func (b Buffer) span() int { return b.Rows * b.Ld }
