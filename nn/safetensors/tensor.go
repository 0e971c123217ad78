package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"unsafe"

	"netfusion/kernels/quantize"
)

// DType is the element type of a stored tensor.
type DType uint8

// The element types of the format, by the names that it uses.
const (
	BOOL DType = iota
	F4
	F6E2M3
	F6E3M2
	U8
	I8
	F8E5M2
	F8E4M3
	F8E8M0
	F8E4M3FNUZ
	F8E5M2FNUZ
	I16
	U16
	F16
	BF16
	I32
	U32
	F32
	C64
	F64
	I64
	U64
)

var dtypes = [...]struct {
	name string
	bits int
}{
	BOOL: {"BOOL", 8}, F4: {"F4", 4}, F6E2M3: {"F6_E2M3", 6}, F6E3M2: {"F6_E3M2", 6},
	U8: {"U8", 8}, I8: {"I8", 8}, F8E5M2: {"F8_E5M2", 8}, F8E4M3: {"F8_E4M3", 8},
	F8E8M0: {"F8_E8M0", 8}, F8E4M3FNUZ: {"F8_E4M3FNUZ", 8}, F8E5M2FNUZ: {"F8_E5M2FNUZ", 8},
	I16: {"I16", 16}, U16: {"U16", 16}, F16: {"F16", 16}, BF16: {"BF16", 16},
	I32: {"I32", 32}, U32: {"U32", 32}, F32: {"F32", 32},
	C64: {"C64", 64}, F64: {"F64", 64}, I64: {"I64", 64}, U64: {"U64", 64},
}

// String returns the format's name of d, such as "BF16".
func (d DType) String() string {
	if int(d) < len(dtypes) {
		return dtypes[d].name
	}
	return fmt.Sprintf("DType(%d)", uint8(d))
}

// Bits returns the size of one element in bits, 0 for an unknown type.
func (d DType) Bits() int {
	if int(d) < len(dtypes) {
		return dtypes[d].bits
	}
	return 0
}

func parseDType(name string) (DType, bool) {
	for d := range dtypes {
		if dtypes[d].name == name {
			return DType(d), true
		}
	}
	return 0, false
}

// Tensor is a named array as it is stored: row-major, little-endian. Data may start at any address (embedded files are
// not aligned) and may be a read-only mapping: it must not be written to.
type Tensor struct {
	Name  string
	DType DType
	Shape []int
	Data  []byte
}

// Elements returns the number of elements, the product of the shape (1 for a scalar).
func (t Tensor) Elements() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Float32 decodes an F32, F16 or BF16 tensor into dst, whose length must be t.Elements().
func (t Tensor) Float32(dst []float32) error {
	if err := t.check(); err != nil {
		return err
	}
	if len(dst) != t.Elements() {
		return fmt.Errorf("tensor %q: has %d elements (shape %v), wanted %d", t.Name, t.Elements(), t.Shape, len(dst))
	}
	switch t.DType {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:]))
		}
	case F16:
		widen(dst, t.Data, quantize.F16ToF32)
	case BF16:
		widen(dst, t.Data, quantize.BF16ToF32)
	default:
		return fmt.Errorf("tensor %q: is %v, wanted F32, F16 or BF16", t.Name, t.DType)
	}
	return nil
}

// widen reads 16-bit elements in blocks, since data may start at an odd address.
func widen(dst []float32, data []byte, convert func([]float32, []uint16)) {
	var block [512]uint16
	for len(dst) > 0 {
		n := min(len(dst), len(block))
		for i := range block[:n] {
			block[i] = binary.LittleEndian.Uint16(data[2*i:])
		}
		convert(dst[:n], block[:n])
		dst, data = dst[n:], data[2*n:]
	}
}

// Float32s returns the values of an F32 tensor: a view of Data where that is aligned to 4 bytes and the machine is
// little-endian, a copy otherwise. F16 and BF16 are decoded into a new slice. The result must not be written to.
func (t Tensor) Float32s() ([]float32, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	if t.DType == F32 && len(t.Data) > 0 && littleEndian && uintptr(unsafe.Pointer(&t.Data[0]))%4 == 0 {
		return unsafe.Slice((*float32)(unsafe.Pointer(&t.Data[0])), len(t.Data)/4), nil
	}
	switch t.DType { // before the allocation
	case F32, F16, BF16:
	default:
		return nil, fmt.Errorf("tensor %q: is %v, wanted F32, F16 or BF16", t.Name, t.DType)
	}
	v := make([]float32, t.Elements())
	return v, t.Float32(v)
}

// Int8s returns the values of an I8 tensor as a view of Data, which must not be written to. It panics on another type.
func (t Tensor) Int8s() []int8 {
	if t.DType != I8 {
		panic("safetensors: Int8s of a tensor that is not I8")
	}
	return unsafe.Slice((*int8)(unsafe.Pointer(unsafe.SliceData(t.Data))), len(t.Data))
}

// littleEndian tells whether this machine stores numbers as the format does.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// check tells whether the shape, the type and the length of the data agree.
func (t Tensor) check() error {
	size, err := byteSize(t.DType, t.Shape)
	if err != nil {
		return fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	if size != len(t.Data) {
		return fmt.Errorf("tensor %q: %v %v takes %d bytes, has %d", t.Name, t.DType, t.Shape, size, len(t.Data))
	}
	return nil
}

// byteSize returns the number of bytes that a tensor takes; all products are checked.
func byteSize(d DType, shape []int) (int, error) {
	if d.Bits() == 0 {
		return 0, fmt.Errorf("unknown dtype %v", d)
	}
	if len(shape) > maxRank {
		return 0, fmt.Errorf("shape has %d dimensions, at most %d are supported", len(shape), maxRank)
	}
	total := uint64(d.Bits())
	for _, n := range shape {
		if n < 0 {
			return 0, fmt.Errorf("shape %v has a negative dimension", shape)
		}
		hi, lo := bits.Mul64(total, uint64(n))
		if hi != 0 {
			return 0, fmt.Errorf("shape %v of %v overflows", shape, d)
		}
		total = lo
	}
	if total%8 != 0 {
		return 0, fmt.Errorf("shape %v of %v does not fill whole bytes", shape, d)
	}
	if total/8 > math.MaxInt {
		return 0, fmt.Errorf("shape %v of %v overflows", shape, d)
	}
	return int(total / 8), nil
}

// NewF32 stores v as F32. It panics if len(v) is not the product of shape, as do all the constructors here.
func NewF32(name string, shape []int, v []float32) Tensor {
	t := newTensor(name, F32, shape, len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint32(t.Data[4*i:], math.Float32bits(x))
	}
	return t
}

// ViewF32 is NewF32 without the copy where this machine stores numbers as the format does: what is large, and written to a file
// before it changes again, need not be in memory twice.
func ViewF32(name string, shape []int, v []float32) Tensor {
	if !littleEndian {
		return NewF32(name, shape, v)
	}
	data := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v))
	return checked(Tensor{Name: name, DType: F32, Shape: append([]int(nil), shape...), Data: data})
}

// NewF16 stores v as F16, rounded to nearest even; 65520 and above become infinite.
func NewF16(name string, shape []int, v []float32) Tensor {
	return narrow(newTensor(name, F16, shape, len(v)), v, quantize.F32ToF16)
}

// NewBF16 stores v as BF16, rounded to nearest even.
func NewBF16(name string, shape []int, v []float32) Tensor {
	return narrow(newTensor(name, BF16, shape, len(v)), v, quantize.F32ToBF16)
}

// NewI8Rows stores v as int8 with one scale per row, where shape[0] counts the rows: q is name, I8, of the given shape;
// scale is name+".scale", F32 [shape[0]]; value = scale[row]·q. Values must be finite.
func NewI8Rows(name string, shape []int, v []float32) (q, scale Tensor) {
	if len(shape) == 0 {
		panic("safetensors: NewI8Rows: a scalar has no rows")
	}
	q = newTensor(name, I8, shape, len(v))
	rows, cols := shape[0], 0
	if rows > 0 {
		cols = len(v) / rows
	}
	s := make([]float32, rows)
	quantize.F32ToI8Rows(q.Int8s(), s, v, rows, cols)
	return q, NewF32(name+".scale", []int{rows}, s)
}

func newTensor(name string, d DType, shape []int, n int) Tensor {
	return checked(Tensor{Name: name, DType: d, Shape: append([]int(nil), shape...), Data: make([]byte, n*d.Bits()/8)})
}

func checked(t Tensor) Tensor {
	if err := t.check(); err != nil {
		panic("safetensors: " + err.Error())
	}
	return t
}

func narrow(t Tensor, v []float32, convert func([]uint16, []float32)) Tensor {
	h := make([]uint16, len(v))
	convert(h, v)
	for i, x := range h {
		binary.LittleEndian.PutUint16(t.Data[2*i:], x)
	}
	return t
}
