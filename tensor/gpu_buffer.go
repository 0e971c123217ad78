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

// Buffer is a matrix in a GPU's memory, [Rows][Cols], as Tensor is in the host's; a row begins Ld values after the one before, so that
// columns of a Buffer are a Buffer. Values are float32 or, where an operation says so, bfloat16, or as Int8 uint8 with a scale and a
// zero point for each row. The zero Buffer is none.
type Buffer struct {
	Ptr            DevicePtr
	Rows, Cols, Ld int
	Precision      Precision

	scale Array[float32] // of Int8, [Rows]
	zero  Array[int32]
}

// Matrix views values as [rows][cols], one row right behind the other.
func Matrix(values Array[float32], rows, cols int) Buffer {
	if values.Len != rows*cols {
		panic("tensor: values do not fill the shape")
	}
	return Buffer{Ptr: values.Ptr, Rows: rows, Cols: cols, Ld: cols}
}

// Values views a Buffer of float32 whose rows lie one right behind the other.
func (b Buffer) Values() Array[float32] {
	if b.Precision != F32 {
		panic("tensor: a Buffer of bfloat16 where float32 is wanted")
	}
	wantPacked(b)
	return Array[float32]{b.Ptr, b.Rows * b.Cols}
}

// packed tells whether rows lie one right behind the other.
func (b Buffer) packed() bool { return b.Ld == b.Cols || b.Rows <= 1 }

// wantPacked panics unless the rows of all lie one right behind the other.
func wantPacked(all ...Buffer) {
	for _, b := range all {
		if !b.packed() {
			panic("tensor: rows of a Buffer that lie apart, where they must not")
		}
	}
}

// aligned tells whether rows begin at multiples of 16 bytes, as products read them.
func (b Buffer) aligned() bool { return b.Ptr%16 == 0 && (b.Ld%b.Precision.unit() == 0 || b.Rows <= 1) }

// None tells whether b is the zero Buffer.
func (b Buffer) None() bool { return b.Ptr == 0 }

// at is the address of value (i, j).
func (b Buffer) at(i, j int) DevicePtr { return b.Ptr + DevicePtr((i*b.Ld+j)*b.Precision.bytes()) }

// Slice views the rows [i, j).
func (b Buffer) Slice(i, j int) Buffer {
	if i < 0 || j < i || j > b.Rows {
		panic("tensor: Buffer.Slice out of range")
	}
	b.Ptr, b.Rows = b.at(i, 0), j-i
	if b.Precision == Int8 {
		b.scale, b.zero = b.scale.Slice(i, j), b.zero.Slice(i, j)
	}
	return b
}

// Columns views the columns [i, j).
func (b Buffer) Columns(i, j int) Buffer {
	if i < 0 || j < i || j > b.Cols {
		panic("tensor: Buffer.Columns out of range")
	}
	b.Ptr, b.Cols = b.at(0, i), j-i
	return b
}

// Front views the first rows·cols values as [rows][cols]; the rows of b lie one right behind the other.
func (b Buffer) Front(rows, cols int) Buffer {
	wantPacked(b)
	if rows*cols > b.Rows*b.Cols {
		panic("tensor: Buffer.Front out of range")
	}
	b.Rows, b.Cols, b.Ld = rows, cols, cols
	return b
}

// Reshape views the same values as [rows][cols]; the rows of b lie one right behind the other.
func (b Buffer) Reshape(rows, cols int) Buffer {
	if rows*cols != b.Rows*b.Cols {
		panic("tensor: values do not fill the shape")
	}
	return b.Front(rows, cols)
}

// same tells whether b has so many rows and columns.
func (b Buffer) same(rows, cols int) bool { return b.Rows == rows && b.Cols == cols }

// span is how many values there are from the first to the end of the last row, with what lies between rows.
func (b Buffer) span() int {
	if b.Rows == 0 {
		return 0
	}
	return (b.Rows-1)*b.Ld + b.Cols
}
