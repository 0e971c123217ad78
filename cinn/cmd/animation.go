package main

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/gif"
	"image/png"
	"io"
)

// encodeGIF writes an animation that repeats for ever, at so many frames a second. All frames share one palette.
func encodeGIF(w io.Writer, frames []*image.NRGBA, rate int) error {
	p := newPalette(frames)
	g := &gif.GIF{Config: image.Config{ColorModel: p.colours, Width: frames[0].Rect.Dx(), Height: frames[0].Rect.Dy()}}
	for i, f := range frames {
		g.Image = append(g.Image, p.picture(f))
		// Delays are in hundredths of a second: they are rounded so that their sum stays right.
		g.Delay = append(g.Delay, 100*(i+1)/rate-100*i/rate)
	}
	return gif.EncodeAll(w, g)
}

// encodeAPNG writes an animation that repeats for ever, at so many frames a second (PNG specification, 3rd edition, 11.3.6). All
// frames have one size and are opaque.
func encodeAPNG(w io.Writer, frames []*image.NRGBA, rate int) error {
	var out bytes.Buffer
	sequence := uint32(0)
	for i, f := range frames {
		var plain bytes.Buffer
		if err := png.Encode(&plain, f); err != nil {
			return err
		}
		if i == 0 {
			out.Write(plain.Bytes()[:ihdrEnd])
			chunk(&out, "acTL", binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(len(frames))), 0))
		}
		control := binary.BigEndian.AppendUint32(nil, sequence)
		for _, v := range []int{f.Rect.Dx(), f.Rect.Dy(), 0, 0} { // size and place
			control = binary.BigEndian.AppendUint32(control, uint32(v))
		}
		control = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(control, 1), uint16(rate))
		chunk(&out, "fcTL", append(control, 0, 0)) // it stays, and replaces what was there
		sequence++
		for rest := plain.Bytes()[ihdrEnd:]; len(rest) >= 12; {
			n := binary.BigEndian.Uint32(rest)
			kind, data := string(rest[4:8]), rest[8:8+n]
			rest = rest[12+n:]
			switch {
			case kind != "IDAT":
			case i == 0: // what a program without animation shows
				chunk(&out, "IDAT", data)
			default:
				chunk(&out, "fdAT", append(binary.BigEndian.AppendUint32(nil, sequence), data...))
				sequence++
			}
		}
	}
	chunk(&out, "IEND", nil)
	_, err := w.Write(out.Bytes())
	return err
}

// chunk writes one chunk of a PNG file.
func chunk(b *bytes.Buffer, kind string, data []byte) {
	start := b.Len() + 4
	b.Write(binary.BigEndian.AppendUint32(nil, uint32(len(data))))
	b.WriteString(kind)
	b.Write(data)
	b.Write(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(b.Bytes()[start:])))
}
