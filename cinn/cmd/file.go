package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"netfusion/nn/disk"
)

// existsError says that a file is in the way.
func existsError(path string) error {
	return fmt.Errorf("%s exists already; -f replaces it", path)
}

// writeFile fills the file at path, all of it or nothing. A file that exists is replaced only if replace says so.
// Devices and pipes are written to, as they are.
func writeFile(path string, replace bool, fill func(io.Writer) error) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("%s is a folder", path)
	case err == nil && !info.Mode().IsRegular():
		return writeThrough(path, fill)
	case err == nil && replace:
		err = disk.WriteFile(path, fill)
	default:
		err = writeNew(path, fill)
		if errors.Is(err, fs.ErrExist) {
			return existsError(path)
		}
	}
	return named(path, err)
}

// named makes sure that the message names the file.
func named(path string, err error) error {
	if err == nil || strings.Contains(err.Error(), path) {
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}

func writeThrough(path string, fill func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(fill(f), f.Close())
}

// writeNew fills a new file at path; fs.ErrExist if there is one. The name is taken first, by an empty file, so that
// of two writers only one gets it; then the full file replaces that.
func writeNew(path string, fill func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	err = f.Close()
	if err == nil {
		err = disk.WriteFile(path, fill)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// writeFree fills the first of stem+ext, stem-2+ext, stem-3+ext, … that does not exist, and returns its name.
func writeFree(stem, ext string, fill func(io.Writer) error) (string, error) {
	for i := 1; ; i++ {
		path := stem + ext
		if i > 1 {
			path = fmt.Sprintf("%s-%d%s", stem, i, ext)
		}
		err := writeNew(path, fill)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		return path, named(path, err)
	}
}

// maxSlug is the most bytes of a file's name that a prompt gives.
const maxSlug = 64

// slug makes a file's name of a prompt: its letters and digits in lower case, with dashes between the words.
func slug(prompt string) string {
	var b strings.Builder
	gap := true // what follows begins a word
	for _, r := range strings.ToLower(prompt) {
		accent := unicode.In(r, unicode.Mn, unicode.Mc) && !gap
		if !unicode.In(r, unicode.Letter, unicode.Digit) && !accent {
			gap = true
			continue
		}
		if b.Len()+len("-")+utf8.RuneLen(r) > maxSlug {
			break
		}
		if gap && b.Len() > 0 {
			b.WriteByte('-')
		}
		b.WriteRune(r)
		gap = false
	}
	switch name := b.String(); {
	case name == "":
		return "picture"
	case reserved(name):
		return name + "-picture"
	default:
		return name
	}
}

// reserved tells whether Windows keeps the name for a device, in every folder and with every extension.
func reserved(name string) bool {
	switch name {
	case "con", "prn", "aux", "nul":
		return true
	}
	return len(name) == 4 && (name[:3] == "com" || name[:3] == "lpt") && '0' <= name[3] && name[3] <= '9'
}
