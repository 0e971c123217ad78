package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"netfusion/bench/tiny"
	"netfusion/cinn"
	"netfusion/experts/program"
)

// experts writes the folders of a text encoder and of pictures, and returns them.
func fuseFolders(t *testing.T) (texts, pictures string) {
	t.Helper()
	texts, pictures = t.TempDir(), t.TempDir()
	tiny.Encoder(t, texts)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		m := image.NewNRGBA(image.Rect(0, 0, 20, 16))
		for k := range m.Pix {
			m.Pix[k] = uint8(r.Uint32() >> (i % 8))
		}
		f, err := os.Create(filepath.Join(pictures, fmt.Sprintf("%d.png", i)))
		if err == nil {
			err = png.Encode(f, m)
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return texts, pictures
}

// list writes lines to a file in folder.
func list(t *testing.T, folder, name string, n int, line func(i int) string) string {
	t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, line(i))
	}
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFuseJoinsTwoFolders(t *testing.T) {
	texts, pictures := fuseFolders(t)
	words := list(t, pictures, "words.tsv", 60, func(i int) string { return fmt.Sprintf("w%d red\t%d.png\t%d", i%50, i, i%3) })
	sketches := list(t, pictures, "sketches.tsv", 60, func(i int) string { return fmt.Sprintf("%d.png\t%d.png\t2", i, (i+1)%60) })
	latents := list(t, pictures, "latents.jsonl", 60, func(i int) string {
		return fmt.Sprintf(`{"text": "w%d", "latent": [%d, 0.5], "std": [0.1, 0], "class": "1"}`, i%50, i%7)
	})
	vectors := list(t, pictures, "vectors.jsonl", 60, func(i int) string {
		return fmt.Sprintf(`{"condition": [%d, 1, 0], "latent": [%d, 0.5], "class": 1}`, i%5, i%7)
	})
	for name, c := range map[string]struct {
		args    []string
		kind    string
		request cinn.Request
	}{
		"text":     {[]string{"-source", texts, "-pairs", words}, cinn.Text, cinn.Request{Prompt: "w3 red"}},
		"a layer":  {[]string{"-source", texts, "-layer", "1", "-pairs", words}, cinn.Text, cinn.Request{Prompt: "w3 red"}},
		"latents":  {[]string{"-source", texts, "-pairs", latents}, cinn.Text, cinn.Request{Prompt: "w3"}},
		"pictures": {[]string{"-source", tiny.ImageEncoder(t), "-layer", "stages.0", "-pairs", sketches}, cinn.Layer, cinn.Request{Image: noise(16)}},
		"vectors":  {[]string{"-pairs", vectors}, cinn.Vector, cinn.Request{Vector: []float32{1, 1, 0}}},
		"program":  {[]string{"-program", os.Args[0] + " -test.run ^TestLengths$", "-pairs", words}, cinn.Vector, cinn.Request{Vector: []float32{1, 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("LENGTHS", "1")
			out := filepath.Join(t.TempDir(), "my.pack")
			args := append([]string{"fuse", "-target", tiny.Generator(t), "-encoder", tiny.ImageEncoder(t), "-o", out,
				"-steps", "4", "-batch", "8", "-blocks", "2", "-hidden", "8", "-workers", "1"}, c.args...)
			code, stdout, stderr := commandLine(t, args...)
			if code != exitOK || !strings.Contains(stdout, "to judge by") {
				t.Fatalf("exit %d: %s%s", code, stdout, stderr)
			}
			if name == "program" {
				picture := filepath.Join(t.TempDir(), "p.png")
				code, _, stderr := commandLine(t, "generate", "-model", out, "-program", c.args[1], "-n", "1", "-o", picture, "w3 red")
				if code != exitOK || !taken(picture) {
					t.Errorf("generate: exit %d: %s", code, stderr)
				}
				if code, _, stderr := commandLine(t, "generate", "-model", out, "w3 red"); code != exitError || !strings.Contains(stderr, "-program") {
					t.Errorf("generate without the program: exit %d: %s", code, stderr)
				}
			}
			m, err := cinn.Open(out, cinn.Options{Workers: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if got := m.Info(); got.Kind != c.kind || !got.Encoder {
				t.Errorf("a pack of kind %q, encoder: %v", got.Kind, got.Encoder)
			}
			s, err := m.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.Generate(t.Context(), image.NewNRGBA(m.Bounds()), c.request); err != nil {
				t.Error(err)
			}
		})
	}
}

// noise is a picture.
func noise(side int) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, side, side))
	for i := range m.Pix {
		m.Pix[i] = uint8(i * i >> 3)
	}
	return m
}

// TestLengths is no test but, started by one, a program that answers each text with its length and that of its first word.
func TestLengths(t *testing.T) {
	if os.Getenv("LENGTHS") == "" {
		return
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		m, err := program.Parse(in.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		word, _, _ := strings.Cut(m.Text, " ")
		answer, err := json.Marshal(program.Message{Vector: program.Vector{float32(len(m.Text)), float32(len(word))}})
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.Write(append(answer, '\n'))
	}
	os.Exit(0)
}

func TestFuseSaysWhatIsWrongAndWhere(t *testing.T) {
	texts, pictures := fuseFolders(t)
	for want, c := range map[string]struct {
		name string
		bad  string // the third line
		args []string
	}{
		"line 3: 1 fields":                    {"a.tsv", "red", []string{"-source", texts}},
		"line 3: open":                        {"b.tsv", "red\tnone.png\t1", []string{"-source", texts}},
		"line 3: class \"7\", want 0 to 2":    {"c.tsv", "red\t1.png\t7", []string{"-source", texts}},
		"line 3: no class":                    {"d.tsv", "red\t1.png", []string{"-source", texts}},
		"unknown field \"txt\"":               {"e.jsonl", `{"txt": "red", "latent": [1, 2], "class": 1}`, []string{"-source", texts}},
		"a latent of 3 dimensions":            {"f.jsonl", `{"text": "red", "latent": [1, 2, 3], "class": 1}`, []string{"-source", texts}},
		`"std" has 1 numbers, "latent" 2`:     {"g.jsonl", `{"text": "red", "latent": [1, 2], "std": [1], "class": 1}`, []string{"-source", texts}},
		`2 of "text", "from" and "condition"`: {"h.jsonl", `{"text": "red", "from": "1.png", "latent": [1, 2]}`, []string{"-source", texts}},
		`no "text"`:                           {"i.jsonl", `{"from": "1.png", "latent": [1, 2], "class": 1}`, []string{"-source", texts}},
		"a condition of 2 dimensions, want 3": {"j.jsonl", `{"condition": [1, 2], "latent": [1, 2], "class": 1}`, nil},
	} {
		good := func(i int) string { return fmt.Sprintf("w%d\t%d.png\t1", i, i) }
		if strings.HasSuffix(c.name, ".jsonl") {
			good = func(i int) string { return fmt.Sprintf(`{"text": "w%d", "latent": [1, %d], "class": 1}`, i, i) }
			if c.args == nil {
				good = func(i int) string {
					return fmt.Sprintf(`{"condition": [1, 2, %d], "latent": [1, %d], "class": 1}`, i, i)
				}
			}
		}
		path := list(t, pictures, c.name, 50, func(i int) string {
			if i == 2 {
				return c.bad
			}
			return good(i)
		})
		out := filepath.Join(t.TempDir(), "my.pack")
		code, _, stderr := commandLine(t, append([]string{"fuse", "-target", tiny.Generator(t), "-encoder", tiny.ImageEncoder(t), "-pairs", path, "-o", out}, c.args...)...)
		if code != exitError || !strings.Contains(stderr, want) || !strings.Contains(stderr, path+", line 3") || taken(out) {
			t.Errorf("%s: exit %d, %s", c.bad, code, stderr)
		}
	}
	few := list(t, pictures, "few.tsv", 5, func(i int) string { return fmt.Sprintf("w%d\t%d.png\t1", i, i) })
	for want, args := range map[string][]string{
		"5 pairs of 5 conditions":    {"-source", texts, "-pairs", few},
		"want -encoder":              {"-source", texts, "-pairs", few, "-encoder", ""},
		"-source or -program":        {"-pairs", few},
		"want a number from 0 to":    {"-source", texts, "-layer", "stages.0", "-pairs", few},
		"layer 9 of an encoder with": {"-source", texts, "-layer", "9", "-pairs", few},
		`"stages.7", want stages.0`:  {"-source", tiny.ImageEncoder(t), "-layer", "stages.7", "-pairs", few},
		"want one":                   {"-source", texts, "-program", "x", "-pairs", few},
		"no such file":               {"-source", texts + "x", "-pairs", few},
	} {
		out := filepath.Join(t.TempDir(), "my.pack")
		code, _, stderr := commandLine(t, append([]string{"fuse", "-target", tiny.Generator(t), "-encoder", tiny.ImageEncoder(t), "-o", out}, args...)...)
		if code == exitOK || !strings.Contains(stderr, want) || taken(out) {
			t.Errorf("%v: exit %d, %s", args, code, stderr)
		}
	}
}
