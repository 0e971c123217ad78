package main

import (
	"bytes"
	"image"
	_ "image/png"
	"os"
	"path/filepath"
	"testing"
)

func TestThePictureIsDrawn(t *testing.T) {
	dir := t.TempDir()
	for _, cache := range []string{"XDG_CACHE_HOME", "HOME", "LocalAppData"} {
		t.Setenv(cache, dir)
	}
	var files [2][]byte
	for i, name := range []string{"one.png", "two.png"} {
		path := filepath.Join(dir, name)
		if err := draw(t.Context(), "red heart", path); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[i] = data
	}
	img, _, err := image.Decode(bytes.NewReader(files[0]))
	if err != nil {
		t.Fatal(err)
	}
	size := img.Bounds()
	r, g, b, _ := img.At(size.Dx()/2, size.Dy()/2).RGBA()
	if size.Dx() < 32 || !(r > 2*g && r > 2*b) {
		t.Errorf("%v pixels, red %d, green %d, blue %d in the middle: no red heart", size, r>>8, g>>8, b>>8)
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("the same request draws another picture the second time")
	}
	if err := draw(t.Context(), "", filepath.Join(dir, "none.png")); err == nil {
		t.Error("no error without a prompt")
	}
}
