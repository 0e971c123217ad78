// Package npz reads NumPy's array files: .npy (a header and the values; NumPy's NEP 1, versions 1 to 3) and .npz (a zip
// of those). It reads what data sets are made of, little-endian integers and floats in C order, and refuses the rest.
package npz

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"

	"netfusion/kernels/quantize"
	"netfusion/nn/disk"
)

// Array is one array, row-major.
type Array struct {
	Type  string // NumPy's code, without the byte order: u1 i1 i2 i4 i8 f2 f4 f8
	Shape []int
	Data  []byte // little-endian
}

const (
	maxBytes = 1 << 30 // of one array
	maxRank  = 8
	maxRatio = 1032 // Deflate cannot expand further than this, so an entry that claims more is lying.
)

// Elements is the product of the shape.
func (a Array) Elements() int {
	n := 1
	for _, s := range a.Shape {
		n *= s
	}
	return n
}

// Open reads every array of the .npz file at path, by name without ".npy".
func Open(path string) (map[string]Array, error) {
	data, unmap, err := disk.Map(path)
	if err != nil {
		return nil, err
	}
	defer unmap()
	arrays, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return arrays, nil
}

// Parse reads every array of a .npz file that is in memory.
func Parse(data []byte) (map[string]Array, error) {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	arrays := make(map[string]Array, len(z.File))
	var total uint64
	for _, f := range z.File {
		name, ok := strings.CutSuffix(f.Name, ".npy")
		if _, twice := arrays[name]; !ok || twice {
			return nil, fmt.Errorf("entry %q: want distinct names that end in .npy", f.Name)
		}
		size := f.UncompressedSize64
		if size > maxBytes || f.CompressedSize64 > uint64(len(data)) || size > maxRatio*f.CompressedSize64+64 {
			return nil, fmt.Errorf("entry %q claims %d bytes packed in %d", f.Name, size, f.CompressedSize64)
		}
		// Entries may overlap in the zip, so that each is plausible and their sum is not.
		if total += size; total > 2*maxBytes {
			return nil, fmt.Errorf("entry %q: the arrays take more than %d bytes together", f.Name, 2*maxBytes)
		}
		raw, err := read(f, int(size))
		if err != nil {
			return nil, fmt.Errorf("entry %q: %w", f.Name, err)
		}
		if arrays[name], err = ParseArray(raw); err != nil {
			return nil, fmt.Errorf("entry %q: %w", f.Name, err)
		}
	}
	return arrays, nil
}

func read(f *zip.File, size int) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw := make([]byte, size)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, err
	}
	// One read more makes the zip reader compare the checksum.
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return nil, fmt.Errorf("does not end after %d bytes: %v", size, err)
	}
	return raw, nil
}

// ParseArray reads a .npy file. The array's Data is a view of data.
func ParseArray(data []byte) (Array, error) {
	const magic = "\x93NUMPY"
	if len(data) < 10 || string(data[:6]) != magic {
		return Array{}, fmt.Errorf("not a .npy file")
	}
	var begin, length int
	switch version := data[6]; version {
	case 1:
		begin, length = 10, int(binary.LittleEndian.Uint16(data[8:]))
	case 2, 3:
		if len(data) < 12 {
			return Array{}, fmt.Errorf("header is cut off")
		}
		begin, length = 12, int(min(binary.LittleEndian.Uint32(data[8:]), math.MaxInt32))
	default:
		return Array{}, fmt.Errorf("version %d, want 1 to 3", version)
	}
	if length > len(data)-begin {
		return Array{}, fmt.Errorf("header of %d bytes, file has %d", length, len(data)-begin)
	}
	a, err := parseHeader(string(data[begin : begin+length]))
	if err != nil {
		return Array{}, err
	}
	a.Data = data[begin+length:]
	if want := size(a); want < 0 {
		return Array{}, fmt.Errorf("%s %v takes more than %d bytes", a.Type, a.Shape, maxBytes)
	} else if want != len(a.Data) {
		return Array{}, fmt.Errorf("%s %v takes %d bytes, file has %d", a.Type, a.Shape, want, len(a.Data))
	}
	return a, nil
}

// size is the number of bytes, or -1 if that is more than we read.
func size(a Array) int {
	n := int(a.Type[1] - '0')
	for _, s := range a.Shape {
		if s == 0 {
			return 0
		}
		if n > maxBytes/s {
			return -1
		}
		n *= s
	}
	return n
}

// Ints returns the values of an integer array.
func (a Array) Ints() ([]int, error) {
	v := make([]int, a.Elements())
	for i := range v {
		switch a.Type {
		case "u1":
			v[i] = int(a.Data[i])
		case "i1":
			v[i] = int(int8(a.Data[i]))
		case "i2":
			v[i] = int(int16(binary.LittleEndian.Uint16(a.Data[2*i:])))
		case "i4":
			v[i] = int(int32(binary.LittleEndian.Uint32(a.Data[4*i:])))
		case "i8":
			x := int64(binary.LittleEndian.Uint64(a.Data[8*i:]))
			if int64(int(x)) != x {
				return nil, fmt.Errorf("element %d is %d, which does not fit", i, x)
			}
			v[i] = int(x)
		default:
			return nil, fmt.Errorf("is %s, want integers", a.Type)
		}
	}
	return v, nil
}

// Float32s returns the values of an array of floats, rounded to float32.
func (a Array) Float32s() ([]float32, error) {
	v := make([]float32, a.Elements())
	switch a.Type {
	case "f2":
		h := make([]uint16, len(v))
		for i := range h {
			h[i] = binary.LittleEndian.Uint16(a.Data[2*i:])
		}
		quantize.F16ToF32(v, h)
	case "f4":
		for i := range v {
			v[i] = math.Float32frombits(binary.LittleEndian.Uint32(a.Data[4*i:]))
		}
	case "f8":
		for i := range v {
			v[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(a.Data[8*i:])))
		}
	default:
		return nil, fmt.Errorf("is %s, want floats", a.Type)
	}
	return v, nil
}
