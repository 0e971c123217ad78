package main

import (
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"netfusion/bench/tiny"
	"netfusion/cinn"
)

// Every preset runs from data to pictures, on experts that know nothing.
func TestPresets(t *testing.T) {
	pack := tiny.Pack(t)
	dir := filepath.Dir(pack)
	t.Chdir(dir)
	tinyPairs(t, "tiny.pairs")
	kinds := map[string]string{
		"superres": cinn.Picture, "inpaint": cinn.Picture, "edges": cinn.Picture, "colour": cinn.Picture,
		"attribute": cinn.Label, "style": cinn.Label, "text": cinn.Text, "layers": cinn.Layer,
	}
	for _, p := range presets {
		kind, ok := kinds[p.name]
		if !ok {
			t.Fatalf("no kind for %q", p.name)
		}
		args := []string{"preset", p.name, "-o", p.name, "-pairs", "tiny.pairs", "-model", pack, "-cache", dir, "-steps", "2", "-workers", "1"}
		if p.name == "layers" {
			args = append(args, "-layer", "stages.0")
		}
		code, stdout, stderr := commandLine(t, args...)
		if code != exitOK || !strings.Contains(stdout, "2 steps of 128 pairs") || !strings.Contains(stdout, "ridge") {
			t.Fatalf("%s: exit %d, %s%s", p.name, code, stdout, stderr)
		}
		files := presetFiles{p.name, p.name}
		m, err := cinn.Open(files.pack(), cinn.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Info().Kind; got != kind {
			t.Errorf("%s: a pack of kind %q, want %q", p.name, got, kind)
		}
		m.Close()
		if taken(files.checkpoint()) {
			t.Errorf("%s: the checkpoint is still there", p.name)
		}
		f, err := os.Open(files.sheet())
		if err != nil {
			t.Fatal(err)
		}
		if sheet, err := png.Decode(f); err != nil || sheet.Bounds().Dx() < 3*16 || sheet.Bounds().Dy() < sheetRows/2*16 {
			t.Errorf("%s: the sheet is %v, %v", p.name, sheet.Bounds(), err)
		}
		f.Close()
		if table, err := os.ReadFile(files.table()); err != nil || !strings.Contains(stdout, string(table)) {
			t.Errorf("%s: the table in the file is another one, %v", p.name, err)
		}
		if kind != cinn.Text {
			code, _, stderr := commandLine(t, "eval", "-pairs", "tiny.pairs", "-model", files.pack(), "-cache", dir)
			if code != exitError || !strings.Contains(stderr, "of the kind "+kind) {
				t.Errorf("%s: eval exits with %d, %s", p.name, code, stderr)
			}
		}
		if code, _, stderr := commandLine(t, args...); code != exitError || !strings.Contains(stderr, "-f replaces") {
			t.Errorf("%s again: exit %d, %s", p.name, code, stderr)
		}
	}
}

func TestAllLayersStandBesideEachOther(t *testing.T) {
	pack := tiny.Pack(t)
	t.Chdir(filepath.Dir(pack))
	tinyPairs(t, "tiny.pairs")
	code, stdout, stderr := commandLine(t, "preset", "layers", "-o", "all", "-pairs", "tiny.pairs", "-model", pack, "-steps", "2", "-workers", "1")
	if code != exitOK || !strings.Contains(stdout, "\nstages.0 ") || !strings.Contains(stdout, "\nhead ") {
		t.Fatalf("exit %d: %s%s", code, stdout, stderr)
	}
	for _, file := range []string{"layers.png", "layers.txt", "layers-stages.0.pack", "layers-head.pack"} {
		if !taken(filepath.Join("all", file)) {
			t.Errorf("no %s", file)
		}
	}
}

func TestPresetsThatThereAreNotAreRefused(t *testing.T) {
	for want, args := range map[string][]string{
		`no preset is called "superduper"`: {"superduper", "-o", "x"},
		"-o FOLDER":                        {"superres"},
		"-layer is for":                    {"superres", "-layer", "head", "-o", "x"},
	} {
		if code, _, stderr := commandLine(t, append([]string{"preset"}, args...)...); code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit %d, %s", args, code, stderr)
		}
	}
}
