package torchbin

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// pickler writes pickles opcode by opcode.
type pickler struct{ bytes.Buffer }

func newPickle() *pickler {
	p := &pickler{}
	return p.op("\x80\x02")
}

func (p *pickler) op(ops string) *pickler {
	p.WriteString(ops)
	return p
}

func (p *pickler) text(s string) *pickler {
	p.WriteByte(opBinUnicode)
	binary.Write(p, binary.LittleEndian, uint32(len(s)))
	return p.op(s)
}

func (p *pickler) int(v int64) *pickler {
	p.op("\x8a\x08")
	binary.Write(p, binary.LittleEndian, v)
	return p
}

func (p *pickler) ints(vs []int64) *pickler {
	p.op("(")
	for _, v := range vs {
		p.int(v)
	}
	return p.op("t")
}

func (p *pickler) global(module, name string) *pickler {
	return p.op("c" + module + "\n" + name + "\n")
}

// spec describes one tensor of a hand-made checkpoint.
type spec struct {
	name           string
	class, key     string
	numel, offset  int64
	shape, strides []int64
}

// tensor pushes one tensor.
func (p *pickler) tensor(s spec) *pickler {
	p.global("torch._utils", "_rebuild_tensor_v2").op("((").text("storage").global("torch", s.class+"Storage").text(s.key).text("cpu").int(s.numel)
	p.op("NtQ").int(s.offset).ints(s.shape).ints(s.strides)
	return p.op("\x89").global("collections", "OrderedDict").op(")RtR")
}

// state is a whole pickle: a dictionary of tensors.
func state(specs ...spec) []byte {
	p := newPickle().op("}(")
	for _, s := range specs {
		p.text(s.name).tensor(s)
	}
	return p.op("u.").Bytes()
}

// legacyFile wraps a pickle and raw storages, in the order of keys.
func legacyFile(pickle []byte, keys []string, numels []uint64, data [][]byte) []byte {
	var b bytes.Buffer
	b.WriteString("\x80\x02\x8a\x0a" + string(legacyMagic) + ".")
	b.WriteString("\x80\x02M\xe9\x03.")
	b.Write(newPickle().op("}").text("little_endian").op("\x88s.").Bytes())
	b.Write(pickle)
	p := newPickle().op("](")
	for _, k := range keys {
		p.text(k)
	}
	b.Write(p.op("e.").Bytes())
	for i := range keys {
		binary.Write(&b, binary.LittleEndian, numels[i])
		b.Write(data[i])
	}
	return b.Bytes()
}

// floats is a legacy file of one pickle and one float32 storage "0".
func floats(pickle []byte, values ...float32) []byte {
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, values)
	return legacyFile(pickle, []string{"0"}, []uint64{uint64(len(values))}, [][]byte{b.Bytes()})
}

type zipEntry struct {
	name    string
	data    []byte
	method  uint16
	claimed uint64 // unpacked size to claim instead of the true one, if not 0
}

func zipFile(entries ...zipEntry) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: e.method}
		if e.claimed == 0 {
			f, err := w.CreateHeader(h)
			if err != nil {
				panic(err)
			}
			f.Write(e.data)
			continue
		}
		h.UncompressedSize64, h.CompressedSize64, h.CRC32 = e.claimed, uint64(len(e.data)), crc32.ChecksumIEEE(e.data)
		f, err := w.CreateRaw(h)
		if err != nil {
			panic(err)
		}
		f.Write(e.data)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}
