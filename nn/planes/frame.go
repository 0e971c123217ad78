package planes

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// packer encodes frames; one goroutine uses it at a time.
type packer struct {
	zstd *zstd.Encoder
	buf  []byte
}

func newPacker() (*packer, error) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true), zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	return &packer{zstd: e, buf: make([]byte, maxChunk)}, err
}

func (p *packer) pack(raw []byte, element int) []byte {
	if element > 1 {
		shuffle(p.buf[:len(raw)], raw, element)
		raw = p.buf[:len(raw)]
	}
	return p.zstd.EncodeAll(raw, nil)
}

// unpacker decodes frames; one goroutine uses it at a time.
type unpacker struct {
	zstd *zstd.Decoder
	buf  []byte
}

func newUnpacker() (*unpacker, error) {
	// The limit on the capacity makes a frame that is longer than its index says an error, not an allocation.
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(maxChunk))
	return &unpacker{zstd: d}, err
}

func (u *unpacker) unpack(data []byte, c chunk) ([]byte, error) {
	raw := make([]byte, c.rawSize) // handed on, whereas buf is used again
	planes := raw
	if c.element > 1 {
		if cap(u.buf) < c.rawSize {
			u.buf = make([]byte, maxChunk)
		}
		planes = u.buf[:c.rawSize]
	}
	got, err := u.zstd.DecodeAll(data[c.at:][:c.size], planes[:0:c.rawSize])
	if err != nil {
		return nil, err
	}
	if len(got) != c.rawSize {
		return nil, fmt.Errorf("unpacks to %d bytes, wanted %d", len(got), c.rawSize)
	}
	if c.element > 1 {
		unshuffle(raw, planes, c.element)
	}
	return raw, nil
}

// shuffle sorts the bytes of src by their place in the element: dst is the planes [element][n], then the rest.
func shuffle(dst, src []byte, element int) {
	n := len(src) / element
	for k := range element {
		plane := dst[k*n:][:n]
		for i := range plane {
			plane[i] = src[i*element+k]
		}
	}
	copy(dst[n*element:], src[n*element:])
}

// unshuffle undoes shuffle.
func unshuffle(dst, src []byte, element int) {
	n := len(src) / element
	switch element {
	case 2:
		p0, p1, out := src[:n], src[n:][:n], dst[:2*n]
		for i := range p0 {
			out[2*i] = p0[i]
			out[2*i+1] = p1[i]
		}
	case 4:
		p0, p1, p2, p3, out := src[:n], src[n:][:n], src[2*n:][:n], src[3*n:][:n], dst[:4*n]
		for i := range p0 {
			out[4*i] = p0[i]
			out[4*i+1] = p1[i]
			out[4*i+2] = p2[i]
			out[4*i+3] = p3[i]
		}
	}
	copy(dst[n*element:], src[n*element:])
}
