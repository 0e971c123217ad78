package main

import (
	"bytes"
	"image"
	"image/png"
	"io"
)

// note is one text in a PNG file.
type note struct{ keyword, text string }

// ihdrEnd is where the first chunk of every PNG file ends: signature (8), then IHDR (length 4, type 4, data 13, CRC 4).
const ihdrEnd = 8 + 4 + 4 + 13 + 4

// encodePNG writes m with notes behind its header.
func encodePNG(w io.Writer, m image.Image, notes []note) error {
	var plain, full bytes.Buffer
	if err := png.Encode(&plain, m); err != nil {
		return err
	}
	full.Write(plain.Next(ihdrEnd))
	for _, n := range notes {
		n.encode(&full)
	}
	full.Write(plain.Bytes())
	_, err := w.Write(full.Bytes())
	return err
}

// encode writes n as a tEXt chunk if it is ASCII, which every tool reads, and as UTF-8 in an iTXt chunk otherwise
// (PNG specification, 3rd edition, 11.3.3).
func (n note) encode(b *bytes.Buffer) {
	kind, gap := "tEXt", "\x00"
	if !ascii(n.text) {
		kind, gap = "iTXt", "\x00\x00\x00\x00\x00" // not compressed, no language, no translated keyword
	}
	data := n.keyword + gap + n.text
	chunk(b, kind, []byte(data))
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
