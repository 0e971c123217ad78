package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"netfusion/bench/tiny"
)

// photoFile writes a picture that no generator drew, half of it transparent, and returns its path.
func photoFile(t *testing.T, name string, shade uint8) string {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, 40, 24))
	for y := range 24 {
		for x := range 20 {
			img.SetNRGBA(x, y, color.NRGBA{uint8(12 * x), uint8(10 * y), shade, 255})
		}
	}
	path := filepath.Join(t.TempDir(), name)
	if err := writeFile(path, false, func(w io.Writer) error { return png.Encode(w, img) }); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAnOperandIsAPromptOrAFile(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("a=b.png", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for word, want := range map[string]operand{
		"red heart":          {text: "red heart"},
		" @home":             {text: " @home"},
		"@x.png":             {file: "x.png"},
		"@x.png=red = heart": {file: "x.png", text: "red = heart"},
		"@a=b.png":           {file: "a=b.png"},
	} {
		if got, err := parseOperand(word); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", word, got, err, want)
		}
	}
	for _, word := range []string{"", "@", "\xff", "@x.png=", "@x.png=\xff"} {
		if got, err := parseOperand(word); err == nil {
			t.Errorf("%q: %+v, want an error", word, got)
		}
	}
}

func TestOperationsMakeSheets(t *testing.T) {
	pack, photo := tiny.Pack(t), photoFile(t, "photo.png", 100)
	t.Chdir(t.TempDir())
	const cell = 17 // a picture of 16 pixels and a margin
	for _, test := range []struct {
		args          []string
		file          string
		columns, rows int
	}{
		{[]string{"edit", "red heart", "w1", "w2"}, "edit-red-heart-w1-w2.png", 4, 3},
		{[]string{"edit", "@" + photo + "=red", "w1", "-o", "photo.png"}, "photo.png", 2, 1},
		{[]string{"exemplar", "-n", "2", "red heart", "w1"}, "exemplar-red-heart-w1.png", 2, 2},
		{[]string{"exemplar", "-n", "3", "@" + photo, "w1", "-o", "style.png"}, "style.png", 3, 2},
		{[]string{"interpolate", "red", "heart"}, "interpolate-red-heart.png", 9, 1},
		{[]string{"interpolate", "-frames", "4", "red", "@" + photo, "w3", "-o", "way.png"}, "way.png", 4, 2},
	} {
		code, stdout, stderr := commandLine(t, append(test.args, "-model", pack, "-scale", "1")...)
		if code != exitOK || stderr != "" || !strings.HasPrefix(stdout, test.file+"  ") {
			t.Errorf("%q: exit %d, %q, %q", test.args, code, stdout, stderr)
			continue
		}
		sheet, err := png.Decode(strings.NewReader(content(t, test.file)))
		if want := image.Rect(0, 0, test.columns*cell+1, test.rows*cell+1); err != nil || sheet.Bounds() != want {
			t.Errorf("%q: %v, %v, want %v", test.args, sheet.Bounds(), err, want)
		}
		if !strings.Contains(content(t, test.file), test.args[0]+": ") {
			t.Errorf("%s does not say how it was made", test.file)
		}
	}
	// A sheet begins with the pictures that generate draws.
	if code, _, stderr := commandLine(t, "-model", pack, "-n", "1", "-scale", "1", "-o", "one.png", "red heart"); code != exitOK {
		t.Fatal(stderr)
	}
	one, _ := png.Decode(strings.NewReader(content(t, "one.png")))
	sheet, _ := png.Decode(strings.NewReader(content(t, "edit-red-heart-w1-w2.png")))
	for y := range 16 {
		for x := range 16 {
			if one.At(x, y) != sheet.At(x+1, y+1) {
				t.Fatalf("pixel %d %d of the first picture is %v, want %v", x, y, sheet.At(x+1, y+1), one.At(x, y))
			}
		}
	}
}

func TestOperationsReportJSON(t *testing.T) {
	pack := tiny.Pack(t)
	t.Chdir(t.TempDir())
	code, stdout, stderr := commandLine(t, "edit", "-model", pack, "-json", "-n", "2", "-seed", "5", "-guidance", "2", "-o", "e.png", "red", "größe")
	var r operationReport
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != exitOK || r.Command != "edit" || r.File != "e.png" || r.Pictures != 4 || r.Seed != 5 ||
		r.Guidance != 2 || r.Temperature != 1 || len(r.Words) != 2 || r.Words[1] != "größe" || r.Precision != "f32" || !(r.MS > 0) || r.Width < 500 {
		t.Errorf("exit %d, %v, %q, %q", code, err, stdout, stderr)
	}
}

func TestInterpolateAnimates(t *testing.T) {
	pack := tiny.Pack(t)
	t.Chdir(t.TempDir())
	run := func(args ...string) string {
		t.Helper()
		file := args[len(args)-1]
		if code, _, stderr := commandLine(t, append([]string{"interpolate", "-model", pack, "-scale", "2", "red", "heart", "w5"}, append(args[:len(args)-1], "-o", file)...)...); code != exitOK {
			t.Fatal(stderr)
		}
		return content(t, file)
	}
	g, err := gif.DecodeAll(strings.NewReader(run("-frames", "5", "-fps", "30", "a.gif")))
	if err != nil || len(g.Image) != 9 || g.LoopCount != 0 || g.Config.Width != 32 { // 5 + 5 with one in common
		t.Fatalf("%v, %d frames", err, len(g.Image))
	}
	total := 0
	for _, d := range g.Delay {
		total += d
	}
	if total != 30 { // 9/30 of a second
		t.Errorf("it takes %d hundredths of a second", total)
	}
	if g, err := gif.DecodeAll(strings.NewReader(run("-frames", "5", "-bounce", "b.gif"))); err != nil || len(g.Image) != 16 {
		t.Errorf("bounced: %v, %d frames", err, len(g.Image))
	}
	apng := run("-frames", "3", "c.apng")
	img, err := png.Decode(strings.NewReader(apng)) // a program that knows no animations
	if err != nil || img.Bounds().Dx() != 32 {
		t.Fatalf("%v, %v", err, img)
	}
	if n := strings.Count(apng, "fcTL"); n != 5 || strings.Count(apng, "acTL\x00\x00\x00\x05\x00\x00\x00\x00") != 1 {
		t.Errorf("%d frames", n)
	}
}

// Every frame of an animated PNG, taken out of it, is the frame that went in.
func TestAnAnimatedPNGHoldsItsFrames(t *testing.T) {
	var frames []*image.NRGBA
	for i := range 3 {
		f := image.NewNRGBA(image.Rect(0, 0, 5, 4))
		for p := range f.Pix {
			if f.Pix[p] = uint8(p * (i + 1)); p%4 == 3 {
				f.Pix[p] = 255
			}
		}
		frames = append(frames, f)
	}
	var out bytes.Buffer
	if err := encodeAPNG(&out, frames, 12); err != nil {
		t.Fatal(err)
	}
	file := out.Bytes()
	type part struct {
		kind string
		data []byte
	}
	var parts []part
	for rest := file[8:]; len(rest) > 0; {
		n := int(rest[0])<<24 | int(rest[1])<<16 | int(rest[2])<<8 | int(rest[3])
		parts = append(parts, part{string(rest[4:8]), rest[8 : 8+n]})
		rest = rest[12+n:]
	}
	next := uint32(0) // sequence number
	var data [][]byte
	for _, p := range parts {
		if p.kind == "fcTL" || p.kind == "fdAT" {
			if got := uint32(p.data[3]) | uint32(p.data[2])<<8; got != next {
				t.Errorf("%s has number %d, want %d", p.kind, got, next)
			}
			next++
		}
		switch p.kind {
		case "fcTL":
			data = append(data, nil)
		case "IDAT":
			data[len(data)-1] = append(data[len(data)-1], p.data...)
		case "fdAT":
			data[len(data)-1] = append(data[len(data)-1], p.data[4:]...)
		}
	}
	for i, d := range data {
		var plain bytes.Buffer
		plain.Write(file[:ihdrEnd])
		chunk(&plain, "IDAT", d)
		chunk(&plain, "IEND", nil)
		got, err := png.Decode(&plain)
		if err != nil {
			t.Fatal(err)
		}
		for y := range 4 {
			for x := range 5 {
				if r, g, b, _ := got.At(x, y).RGBA(); [3]uint8{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8)} != [3]uint8(frames[i].Pix[frames[i].PixOffset(x, y):][:3]) {
					t.Fatalf("frame %d: pixel %d %d is %v", i, x, y, got.At(x, y))
				}
			}
		}
	}
}

func TestAPaletteKeepsFewColoursAndComesNearToMany(t *testing.T) {
	few, many := image.NewNRGBA(image.Rect(0, 0, 16, 16)), image.NewNRGBA(image.Rect(0, 0, 64, 64))
	for i := range 256 {
		few.SetNRGBA(i%16, i/16, color.NRGBA{uint8(i), uint8(i * 7), uint8(i * 13), 255})
	}
	for i := range 64 * 64 {
		many.SetNRGBA(i%64, i/64, color.NRGBA{uint8(i % 64 * 4), uint8(i / 64 * 4), 128, 255})
	}
	for name, test := range map[string]struct {
		img  *image.NRGBA
		most int
	}{"few": {few, 0}, "many": {many, 14}} {
		p := newPalette([]*image.NRGBA{test.img})
		if len(p.colours) > paletteSize {
			t.Errorf("%s: %d colours", name, len(p.colours))
		}
		got := p.picture(test.img)
		eachPixel(test.img, func(x, y int, c rgb) {
			k := got.At(x, y).(color.NRGBA)
			for i, v := range [3]uint8{k.R, k.G, k.B} {
				if d := int(v) - int(c[i]); d > test.most || d < -test.most {
					t.Fatalf("%s: pixel %d %d is %v, want %v", name, x, y, k, c)
				}
			}
		})
	}
}

func TestRankSortsAndScoreDoesNot(t *testing.T) {
	pack, photo := tiny.Pack(t), photoFile(t, "photo.png", 100)
	parse := func(args ...string) (lines []scored) {
		t.Helper()
		code, stdout, stderr := commandLine(t, append(args, "-json", "-model", pack)...)
		if code != exitOK {
			t.Fatal(stderr)
		}
		d := json.NewDecoder(strings.NewReader(stdout))
		for d.More() {
			var l scored
			if err := d.Decode(&l); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, l)
		}
		return lines
	}
	scores := parse("score", "@"+photo, "red", "heart", "w1")
	if len(scores) != 3 || scores[0].Text != "red" || scores[2].Text != "w1" || scores[0].LogProb != scores[0].Z+scores[0].Class {
		t.Fatalf("%+v", scores)
	}
	by := map[string]func(scored) float64{
		"match": func(s scored) float64 { return s.Match }, "gain": func(s scored) float64 { return s.Gain }, "logp": func(s scored) float64 { return s.LogProb },
	}
	for name, of := range by {
		ranked := parse("rank", "-by", name, "@"+photo, "red", "heart", "w1")
		if len(ranked) != 3 || of(ranked[0]) < of(ranked[1]) || of(ranked[1]) < of(ranked[2]) {
			t.Errorf("by %s: %+v", name, ranked)
		}
		for _, r := range ranked {
			for _, s := range scores {
				if r.Text == s.Text && r != s {
					t.Errorf("%s scores %+v, and ranks %+v", s.Text, s, r)
				}
			}
		}
	}
	pictures := parse("rank", "-pictures", "-top", "2", "red", "@"+photo, "red", "w7 w8")
	if len(pictures) != 2 || pictures[0].Match < pictures[1].Match || pictures[0].Picture == "" || pictures[0].Text != "" {
		t.Errorf("%+v", pictures)
	}
	var out, log bytes.Buffer
	if code := run(t.Context(), []string{"rank", "-model", pack, "@" + photo, "-"}, strings.NewReader("red\nw1\n"), &out, &log); code != exitOK ||
		strings.Count(out.String(), "\n") != 3 || !strings.Contains(out.String(), "match") {
		t.Errorf("exit %d, %q, %q", code, out.String(), log.String())
	}
}

func TestInvertRedraws(t *testing.T) {
	pack, a, b := tiny.Pack(t), photoFile(t, "a.png", 100), photoFile(t, "b.png", 200)
	t.Chdir(t.TempDir())
	code, stdout, stderr := commandLine(t, "invert", "-model", pack, "-steps", "30", "-scale", "1", "-o", "rows.png", a, b+"=red")
	if code != exitOK || stderr != "" || !strings.Contains(stdout, a+": ") || !strings.Contains(stdout, " (red): ") || !strings.Contains(stdout, "rows.png  2 pictures") {
		t.Fatalf("exit %d, %q, %q", code, stdout, stderr)
	}
	sheet, err := png.Decode(strings.NewReader(content(t, "rows.png")))
	if want := image.Rect(0, 0, 3*17+1, 2*17+1); err != nil || sheet.Bounds() != want {
		t.Errorf("%v, %v", sheet.Bounds(), err)
	}
	code, stdout, stderr = commandLine(t, "invert", "-model", pack, "-steps", "30", "-json", a)
	var i inversion
	if err := json.Unmarshal([]byte(stdout), &i); err != nil || code != exitOK || i.Picture != a || len(i.Latent) != 4 || !(i.After > i.Before) {
		t.Errorf("exit %d, %v, %q, %q", code, err, stdout, stderr)
	}
	// -refine changes what an edit begins with.
	for i, refine := range []string{"0", "30"} {
		if code, _, stderr := commandLine(t, "edit", "-model", pack, "-refine", refine, "-o", fmt.Sprint(i, ".png"), "@"+a, "red"); code != exitOK {
			t.Fatal(stderr)
		}
	}
	if content(t, "0.png") == content(t, "1.png") {
		t.Error("-refine changes nothing")
	}
}

func TestOperationsRefuse(t *testing.T) {
	pack := tiny.Pack(t)
	t.Chdir(t.TempDir())
	if err := os.WriteFile("text.png", []byte("no picture"), 0o644); err != nil {
		t.Fatal(err)
	}
	huge := append([]byte("GIF89a\xff\xff\xff\xff\x00\x00\x00"), make([]byte, 20)...)
	if err := os.WriteFile("huge.gif", huge, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		code int
		want string
		args []string
	}{
		{exitUsage, "a picture and a text", []string{"edit", "red"}},
		{exitUsage, "a picture and a text", []string{"exemplar"}},
		{exitUsage, "two pictures", []string{"interpolate", "red"}},
		{exitUsage, "picture and texts", []string{"rank", "red"}},
		{exitUsage, "-n 5000", []string{"edit", "-n", "5000", "red", "heart"}},
		{exitUsage, "-frames 1", []string{"interpolate", "-frames", "1", "red", "heart"}},
		{exitUsage, "-fps 99", []string{"interpolate", "-fps", "99", "red", "heart"}},
		{exitUsage, "-bounce", []string{"interpolate", "-bounce", "red", "heart"}},
		{exitUsage, "match, gain or logp", []string{"rank", "-by", "luck", "red", "heart"}},
		{exitUsage, "-top", []string{"rank", "-top", "-1", "red", "heart"}},
		{exitUsage, "@FILE", []string{"edit", "@", "heart"}},
		{exitUsage, "-refine -1", []string{"edit", "-refine", "-1", "red", "heart"}},
		{exitUsage, "-steps 0", []string{"invert", "-steps", "0", "text.png"}},
		{exitUsage, "no picture", []string{"invert"}},
		{exitUsage, "no sheet", []string{"invert", "-json", "-o", "x.png", "text.png"}},
		{exitError, "text.png", []string{"invert", "text.png"}},
		{exitUsage, "-f needs", []string{"edit", "-f", "red", "heart"}},
		{exitError, "absent.png", []string{"edit", "@absent.png", "heart"}},
		{exitError, "text.png", []string{"edit", "@text.png", "heart"}},
		{exitError, "65535 × 65535", []string{"edit", "@huge.gif", "heart"}},
		{exitError, "empty prompt", []string{"edit", "red", " "}},
		{exitError, "not valid UTF-8", []string{"exemplar", "red", "\xff"}},
		{exitError, "exists", []string{"edit", "-o", "text.png", "red", "heart"}},
		{exitError, "guidance", []string{"interpolate", "-guidance", "1e9", "red", "heart"}},
	} {
		code, stdout, stderr := commandLine(t, append(test.args, "-model", pack)...)
		if code != test.code || stdout != "" || !strings.Contains(stderr, test.want) {
			t.Errorf("%q: exit %d, %q, %q; want %d and %q", test.args, code, stdout, stderr, test.code, test.want)
		}
	}
	if files, _ := os.ReadDir("."); len(files) != 2 {
		t.Errorf("errors left files behind: %v", files)
	}
}
