// Package planes is the form in which safetensors files are distributed: independent zstd frames over data whose bytes
// are sorted by significance, since the sign and exponent bytes of weights repeat and their low bytes do not.
//
// A file is a sequence of zstd frames with content checksums, each of at most 4 MiB of the raw file, then an index in
// a skippable frame, so that any zstd tool still unpacks the filtered stream. A frame of element size e (2 or 4) holds
// the lowest byte of every element, then the next byte of every element, and so on, then the bytes after the last whole
// element. Element size 1 is not filtered. The index, all little-endian, is
//
//	u32 0x184D2A5E, u32 length of what follows
//	per frame: u32 packed size, u32 raw size, u8 element size
//	u64 raw size of the file, [32]byte its SHA-256, u32 number of frames, [8]byte "nfplane1"
//
// On Gaussian weights the result takes 0.70 of bf16, 0.85 of f32 and 0.91 of int8 rows. The encoder's "better" level is used:
// the default one does not shrink int8 at all, and the best one gains 2 % more but unpacks four times slower.
package planes

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"

	"netfusion/nn/safetensors"
)

const (
	maxChunk   = 4 << 20                 // raw bytes of a frame
	maxPacked  = maxChunk + maxChunk/64  // packed bytes of a frame; zstd adds at most 3 bytes per 128 KiB and a header
	skippable  = 0x184D2A5E              // one of zstd's 16 skippable magic numbers
	magic      = "nfplane1"              // ends the file
	entrySize  = 4 + 4 + 1               // of a frame in the index
	footerSize = 8 + sha256.Size + 4 + 8 // of the index, after the entries
	maxRatio   = 64                      // raw bytes per packed byte that we believe, beyond the first
	freeRaw    = 64 << 20                // bytes of any file
)

// chunk is a frame: raw[rawAt:][:rawSize] of the file that it came from, packed[at:][:size] of this one.
type chunk struct {
	rawAt, at     int64
	rawSize, size int
	element       int // bytes: 1, 2 or 4
}

type index struct {
	chunks  []chunk
	rawSize int64
	sum     [sha256.Size]byte
}

// Compress writes the distribution form of a safetensors file to w. The same file gives the same bytes.
func Compress(w io.Writer, file []byte) error {
	chunks, err := split(file)
	if err != nil {
		return err
	}
	at := int64(0)
	err = pipeline(context.Background(), len(chunks), newPacker, func(p *packer, i int) ([]byte, error) {
		c := chunks[i]
		return p.pack(file[c.rawAt:][:c.rawSize], c.element), nil
	}, func(i int, packed []byte) error {
		if len(packed) > maxPacked {
			return fmt.Errorf("frame of %d bytes, at most %d are allowed", len(packed), maxPacked)
		}
		chunks[i].at, chunks[i].size = at, len(packed)
		at += int64(len(packed))
		_, err := w.Write(packed)
		return err
	})
	if err != nil {
		return err
	}
	x := index{chunks, int64(len(file)), sha256.Sum256(file)}
	tail := x.encode()
	if err := believable(x.rawSize, at+int64(len(tail))); err != nil {
		return err
	}
	_, err = w.Write(tail)
	return err
}

// Decompress writes the raw file to w, frames in order, decoded in parallel. It checks every size before it allocates
// and the SHA-256 of the whole at the end: unless it returns nil, what was written is not to be used.
func Decompress(ctx context.Context, w io.Writer, data []byte) error {
	x, err := parseIndex(data)
	if err != nil {
		return err
	}
	hash := sha256.New()
	err = pipeline(ctx, len(x.chunks), newUnpacker, func(u *unpacker, i int) ([]byte, error) {
		raw, err := u.unpack(data, x.chunks[i])
		if err != nil {
			return nil, fmt.Errorf("frame %d: %w", i, err)
		}
		return raw, nil
	}, func(_ int, raw []byte) error {
		hash.Write(raw)
		_, err := w.Write(raw)
		return err
	})
	if err != nil {
		return err
	}
	if sum := hash.Sum(nil); [sha256.Size]byte(sum) != x.sum {
		return fmt.Errorf("unpacked file has sha256 %x, wanted %x", sum, x.sum)
	}
	return nil
}

// Sum returns the SHA-256 (in hex) and the size of the raw file, as the index states them.
func Sum(data []byte) (sum string, size int64, err error) {
	x, err := parseIndex(data)
	if err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(x.sum[:]), x.rawSize, nil
}

// split cuts a safetensors file into the header and runs of tensors of one element size, each of at most maxChunk bytes.
func split(file []byte) ([]chunk, error) {
	f, err := safetensors.Parse("file to compress", file)
	if err != nil {
		return nil, err
	}
	var chunks []chunk
	add := func(begin, end int64, element int) {
		for at := begin; at < end; at += maxChunk {
			chunks = append(chunks, chunk{rawAt: at, rawSize: int(min(end-at, maxChunk)), element: element})
		}
	}
	begin, element := int64(0), 1 // of the run that is open; the header comes first, by itself
	for i, t := range f.Tensors() {
		at, e := int64(f.Offset(i)), elementSize(t.DType)
		if i > 0 && e == element && (at-begin)%int64(e) == 0 {
			continue // joins the run, with the padding before it
		}
		add(begin, at, element)
		begin, element = at, e
	}
	add(begin, int64(len(file)), element)
	return chunks, nil
}

func elementSize(d safetensors.DType) int {
	switch d.Bits() {
	case 16:
		return 2
	case 32:
		return 4
	}
	return 1
}

func (x *index) encode() []byte {
	n := len(x.chunks)*entrySize + footerSize
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, 8+n), skippable)
	b = binary.LittleEndian.AppendUint32(b, uint32(n))
	for _, c := range x.chunks {
		b = binary.LittleEndian.AppendUint32(b, uint32(c.size))
		b = binary.LittleEndian.AppendUint32(b, uint32(c.rawSize))
		b = append(b, byte(c.element))
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(x.rawSize))
	b = append(b, x.sum[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(x.chunks)))
	return append(b, magic...)
}

// parseIndex reads the index from the end of data and checks that its frames cover all before it, and the raw file.
func parseIndex(data []byte) (*index, error) {
	if len(data) < 8+footerSize || string(data[len(data)-8:]) != magic {
		return nil, fmt.Errorf("not a plane file: %d bytes that do not end in %q", len(data), magic)
	}
	footer := data[len(data)-footerSize:]
	raw := binary.LittleEndian.Uint64(footer)
	x := &index{rawSize: int64(raw), sum: [sha256.Size]byte(footer[8:])}
	n := uint64(binary.LittleEndian.Uint32(footer[8+sha256.Size:]))
	size := n*entrySize + footerSize
	if size+8 > uint64(len(data)) {
		return nil, fmt.Errorf("index of %d frames does not fit the file of %d bytes", n, len(data))
	}
	start := len(data) - int(size) - 8
	if binary.LittleEndian.Uint32(data[start:]) != skippable || uint64(binary.LittleEndian.Uint32(data[start+4:])) != size {
		return nil, errors.New("index does not start where it should")
	}
	if raw > math.MaxInt64 {
		return nil, fmt.Errorf("file of %d bytes", raw)
	}
	if err := believable(x.rawSize, int64(len(data))); err != nil {
		return nil, err
	}
	x.chunks = make([]chunk, n)
	var at, rawAt int64
	for i := range x.chunks {
		e := data[start+8+i*entrySize:]
		packed, raw := binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:])
		c := chunk{rawAt: rawAt, at: at, element: int(e[8])}
		if packed > maxPacked || raw > maxChunk {
			return nil, fmt.Errorf("frame %d: %d bytes of %d, at most %d of %d are allowed", i, packed, raw, maxPacked, maxChunk)
		}
		if c.element != 1 && c.element != 2 && c.element != 4 {
			return nil, fmt.Errorf("frame %d: elements of %d bytes, wanted 1, 2 or 4", i, c.element)
		}
		c.size, c.rawSize = int(packed), int(raw)
		x.chunks[i] = c
		at += int64(packed)
		rawAt += int64(raw)
	}
	if at != int64(start) || rawAt != x.rawSize {
		return nil, fmt.Errorf("frames take %d bytes and unpack to %d, wanted %d and %d", at, rawAt, start, x.rawSize)
	}
	return x, nil
}

// believable refuses sizes that only a bomb has.
func believable(raw, packed int64) error {
	if raw > freeRaw && (raw-freeRaw)/maxRatio > packed {
		return fmt.Errorf("%d bytes would unpack to %d, more than weights do", packed, raw)
	}
	return nil
}
