package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestSlug(t *testing.T) {
	for prompt, want := range map[string]string{
		"red heart":                "red-heart",
		"  Red   HEART!! ":         "red-heart",
		"a cat, in the Noto style": "a-cat-in-the-noto-style",
		"../../etc/passwd":         "etc-passwd",
		`C:\x`:                     "c-x",
		".hidden":                  "hidden",
		"-o":                       "o",
		"":                         "picture",
		"❤️":                       "picture",
		"❤️ heart":                 "heart",
		"Größe 12":                 "größe-12",
		"сердце":                   "сердце",
		"हिन्दी":                   "हिन्दी",
		"赤い ハート":                   "赤い-ハート",
		"a\x00b\nc":                "a-b-c",
		"con":                      "con-picture",
		"LPT1":                     "lpt1-picture",
		"cone":                     "cone",
		strings.Repeat("a", 500):   strings.Repeat("a", 63),
	} {
		if got := slug(prompt); got != want {
			t.Errorf("%q: got %q, want %q", prompt, got, want)
		}
	}
	for _, prompt := range []string{strings.Repeat("ж", 999), strings.Repeat("ab ", 999), strings.Repeat("𐐨x ", 99)} {
		got := slug(prompt)
		if len(got) > maxSlug || len(got) < maxSlug-8 || !utf8.ValidString(got) || strings.HasSuffix(got, "-") {
			t.Errorf("%.20q…: got %q, %d bytes", prompt, got, len(got))
		}
	}
}

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFilesAreReplacedOnlyWhenAsked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.png")
	if err := writeFile(path, false, text("1")); err != nil || content(t, path) != "1" {
		t.Fatal(err)
	}
	if err := writeFile(path, false, text("2")); err == nil || !strings.Contains(err.Error(), path+" exists") || content(t, path) != "1" {
		t.Errorf("%v, the file holds %q", err, content(t, path))
	}
	if err := writeFile(path, true, text("3")); err != nil || content(t, path) != "3" {
		t.Errorf("%v, the file holds %q", err, content(t, path))
	}
}

func TestFreeNamesAreCounted(t *testing.T) {
	stem := filepath.Join(t.TempDir(), "red-heart")
	for i, want := range []string{".png", "-2.png", "-3.png"} {
		got, err := writeFree(stem, ".png", text(want))
		if err != nil || got != stem+want || content(t, got) != want {
			t.Errorf("file %d: %s, %v", i, got, err)
		}
	}
}

func TestAFailureLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.png")
	fail := func(w io.Writer) error {
		w.Write(make([]byte, 1<<21))
		return errors.New("no space left")
	}
	if err := writeFile(path, false, fail); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	writeFile(path, false, text("good"))
	if err := writeFile(path, true, fail); err == nil || content(t, path) != "good" {
		t.Errorf("%v, the file holds %q", err, content(t, path))
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestUnwritablePathsAreNamed(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	writeFile(file, false, text("x"))
	for _, path := range []string{dir, filepath.Join(dir, "no", "folder.png"), filepath.Join(file, "a.png")} {
		for _, replace := range []bool{false, true} {
			if err := writeFile(path, replace, text("x")); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: got %v", path, err)
			}
		}
	}
	if content(t, file) != "x" {
		t.Error("the file was changed")
	}
}

func TestDevicesAreWrittenThrough(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("NUL is not in a folder there")
	}
	if err := writeFile(os.DevNull, true, text("x")); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(os.DevNull); err != nil || info.Mode().IsRegular() {
		t.Errorf("%s is a file now: %v", os.DevNull, err)
	}
}
