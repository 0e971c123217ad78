package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"netfusion/experts/program"
)

// listed is one line of a list of pairs: what the source is given, and what the target draws.
type listed struct {
	Line int `json:"-"`

	// One of them is what the source reads.
	Text      string         `json:"text"`
	From      string         `json:"from"`      // the file of a picture
	Condition program.Vector `json:"condition"` // what it would make of it

	// One of them is the target's.
	Image  string         `json:"image"` // the file of a picture, whose latent the encoder knows
	Latent program.Vector `json:"latent"`
	Std    program.Vector `json:"std"` // of the latent; none is a latent that is known exactly

	Class json.RawMessage `json:"class"` // its number or its name
}

// readList reads a list of pairs. Files are relative to its folder. Where the name ends with .tsv, a line is what the source reads (the
// file of a picture if it reads pictures), a tab, the file of a picture, and perhaps a tab and a class; otherwise it is a JSON object.
func readList(path string, pictures bool) ([]listed, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	read := readJSON
	if strings.EqualFold(filepath.Ext(path), ".tsv") {
		read = func(line []byte) (listed, error) { return readTabs(line, pictures) }
	}
	var list []listed
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimRight(lines.Bytes(), "\r\n ")
		if len(line) == 0 {
			continue
		}
		l, err := read(line)
		if err == nil {
			err = l.check()
		}
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, n, err)
		}
		l.Line = n
		for _, file := range []*string{&l.From, &l.Image} {
			if *file != "" && !filepath.IsAbs(*file) {
				*file = filepath.Join(filepath.Dir(path), *file)
			}
		}
		list = append(list, l)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: no pairs", path)
	}
	return list, nil
}

func readTabs(line []byte, pictures bool) (l listed, err error) {
	fields := strings.Split(string(line), "\t")
	if len(fields) < 2 || len(fields) > 3 {
		return l, fmt.Errorf("%d fields with tabs between them, want 2 or 3: what the source reads, the file of a picture, its class", len(fields))
	}
	l.Text, l.Image = fields[0], fields[1]
	if pictures {
		l.Text, l.From = "", fields[0]
	}
	if len(fields) == 3 {
		l.Class, err = json.Marshal(fields[2])
	}
	return l, err
}

func readJSON(line []byte) (l listed, err error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	return l, d.Decode(&l)
}

func (l *listed) check() error {
	given := 0
	for _, there := range []bool{l.Text != "", l.From != "", len(l.Condition) > 0} {
		if there {
			given++
		}
	}
	if given != 1 {
		return fmt.Errorf(`%d of "text", "from" and "condition", want one`, given)
	}
	if (l.Image != "") == (len(l.Latent) > 0) {
		return fmt.Errorf(`want one of "image" and "latent"`)
	}
	if n := len(l.Std); n > 0 && n != len(l.Latent) {
		return fmt.Errorf(`"std" has %d numbers, "latent" %d`, n, len(l.Latent))
	}
	for i, s := range l.Std {
		if s < 0 {
			return fmt.Errorf(`"std" is %v at %d`, s, i)
		}
	}
	return nil
}

// class finds the class among those of the target, n with or without names: by its name or by its number.
func (l *listed) class(names []string, n int) (int, error) {
	if len(l.Class) == 0 {
		if n == 1 {
			return 0, nil
		}
		return 0, fmt.Errorf("no class; the generator draws %d", n)
	}
	var name string
	if json.Unmarshal(l.Class, &name) == nil {
		for k, c := range names {
			if strings.EqualFold(c, name) {
				return k, nil
			}
		}
	}
	k := -1
	if err := json.Unmarshal([]byte(strings.Trim(string(l.Class), `"`)), &k); err != nil || k < 0 || k >= n {
		return 0, fmt.Errorf("class %s, want 0 to %d, or one of the generator's %d names", l.Class, n-1, len(names))
	}
	return k, nil
}
