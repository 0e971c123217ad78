package main

import (
	"flag"
	"fmt"
	"image"
	"io"
)

// sheetFlags are the flags of every command that makes a sheet of pictures.
type sheetFlags struct {
	file  string
	force bool
	scale int
	json  bool
}

func (o *sheetFlags) declare(f *flag.FlagSet) {
	f.StringVar(&o.file, "o", "", "`FILE` for the sheet; - is standard output (default from the prompt)")
	f.BoolVar(&o.force, "f", false, "replace the file that -o names")
	f.IntVar(&o.scale, "scale", 0, "enlarge each pixel `K` times; 0 makes a sheet of about 600 pixels")
	f.BoolVar(&o.json, "json", false, "report on standard output as one JSON object")
}

const maxScale = 64

func (o *sheetFlags) check() error {
	switch {
	case o.scale < 0 || o.scale > maxScale:
		return usagef("-scale %d: want 0 to %d", o.scale, maxScale)
	case o.json && o.file == "-":
		return usagef("-json and -o - both want standard output")
	case o.force && (o.file == "" || o.file == "-"):
		return usagef("-f needs -o FILE")
	}
	return nil
}

// free tells, before the work and not after it, whether there is something in the way of the file.
func (o *sheetFlags) free(s stdio) error {
	if o.file == "-" && s.toTerminal() {
		return usagef("-o - would write a picture file into the terminal")
	}
	if o.file != "" && o.file != "-" && !o.force && taken(o.file) {
		return existsError(o.file)
	}
	return nil
}

// enlarged is flat as it goes into the file.
func (o *sheetFlags) enlarged(flat *image.NRGBA) (*image.NRGBA, error) {
	k := o.scale
	if k == 0 {
		k = max(1, (sheetWidth+flat.Rect.Dx()/2)/flat.Rect.Dx())
	}
	const most = 1 << 28 // pixels, 1 GiB
	if size := flat.Rect.Size(); size.X*k*size.Y*k > most {
		return nil, fmt.Errorf("a sheet of %d × %d pixels is too large; take a smaller -scale or fewer pictures", size.X*k, size.Y*k)
	}
	return upscale(flat, k), nil
}

// save lets fill write where -o says, or to a new file named stem+ext, and returns the file's name: "-" is standard output.
func (o *sheetFlags) save(s stdio, stem, ext string, fill func(io.Writer) error) (string, error) {
	switch o.file {
	case "-":
		return o.file, fill(s.out)
	case "":
		return writeFree(stem, ext, fill)
	}
	return o.file, writeFile(o.file, o.force, fill)
}

// remarks is where to tell of a file that was saved: not into the file itself.
func (o *sheetFlags) remarks(s stdio) io.Writer {
	if o.file == "-" {
		return s.err
	}
	return s.out
}
