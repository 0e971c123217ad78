package main

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image/color"
	"image/png"
	"testing"
)

func TestNotesStandInThePNG(t *testing.T) {
	var b bytes.Buffer
	m := flatPicture(3, 2, color.NRGBA{10, 20, 30, 255})
	notes := []note{{"Description", "red heart"}, {"Comment", "rotes Herz, größer"}, {"seed", ""}}
	if err := encodePNG(&b, m, notes); err != nil {
		t.Fatal(err)
	}
	file := b.Bytes()
	back, err := png.Decode(bytes.NewReader(file)) // checks every CRC
	if err != nil || back.Bounds() != m.Rect || back.At(2, 1) != (color.RGBA{10, 20, 30, 255}) {
		t.Fatalf("%v, %v", back, err)
	}
	want := map[string]string{
		"tEXtDescription\x00red heart":                      "",
		"iTXtComment\x00\x00\x00\x00\x00rotes Herz, größer": "",
		"tEXtseed\x00": "",
	}
	for at := 8; at < len(file); {
		n := int(binary.BigEndian.Uint32(file[at:]))
		chunk := file[at+4 : at+8+n]
		if crc32.ChecksumIEEE(chunk) != binary.BigEndian.Uint32(file[at+8+n:]) {
			t.Errorf("chunk %.12q: wrong CRC", chunk)
		}
		delete(want, string(chunk))
		at += 12 + n
	}
	if len(want) > 0 {
		t.Errorf("missing chunks: %q", want)
	}
}
