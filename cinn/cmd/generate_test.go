package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"netfusion/bench/tiny"
	"netfusion/experts/biggan"
	"netfusion/tensor"
)

// tinyPack makes a pack of random weights with the program itself: checkpoints, expert files, pack.
func tinyPack(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	command := func(args ...string) {
		t.Helper()
		if code, _, stderr := commandLine(t, args...); code != exitOK {
			t.Fatalf("%q: exit %d, %s", args, code, stderr)
		}
	}
	tiny.Encoder(t, in("bert"))
	must(os.WriteFile(in("notice.txt"), []byte("made of nothing"), 0o644))
	command("convert", in("bert"), "-o", in("source"), "-dtype", "int8", "-licence", "free")
	command("convert", tiny.Generator(t), "-o", in("target"), "-dtype", "bf16")
	target, err := biggan.Open(in("target"), tensor.F32)
	must(err)
	must(tiny.Flow(t, tiny.Width, target).Save(in("flow"), false))
	command("pack", "-source", in("source"), "-flow", in("flow"), "-target", in("target"), "-notice", in("notice.txt"), "-o", in("tiny.pack"))
	return in("tiny.pack")
}

func TestGenerate(t *testing.T) {
	pack := tinyPack(t)
	t.Chdir(t.TempDir())
	draw := func(args ...string) (code int, stdout, stderr string) {
		t.Helper()
		return commandLine(t, append([]string{"-model", pack}, args...)...)
	}
	fails := func(code int, want string, args ...string) {
		t.Helper()
		got, stdout, stderr := draw(args...)
		if got != code || stdout != "" || !strings.Contains(stderr, want) || !strings.HasPrefix(stderr, "cinn") {
			t.Errorf("%q: exit %d, %q, %q; want %d and %q", args, got, stdout, stderr, code, want)
		}
	}

	code, stdout, stderr := draw("red", "heart")
	if code != exitOK || stderr != "" || !strings.HasPrefix(stdout, "red-heart.png  8 pictures, seed 1, encode ") {
		t.Fatalf("exit %d, %q, %q", code, stdout, stderr)
	}
	first := []byte(content(t, "red-heart.png"))
	sheet, err := png.Decode(bytes.NewReader(first))
	if want := 9 * (4*17 + 1); err != nil || sheet.Bounds().Dx() != want { // pictures of 16 pixels, margin 1, 9 times
		t.Fatalf("%v, a sheet of %v, want %d wide", err, sheet.Bounds(), want)
	}

	// The same again, in any way that must not matter, goes into files of other names.
	for i, args := range [][]string{{"red heart", "-workers", "1", "-backend", "cpu"}, {"-workers=7", "red", "heart"}, {"--", "red", "heart"}, {"generate"}} {
		if args[0] == "generate" {
			if code, _, stderr := commandLine(t, "generate", "-model", pack, "red heart"); code != exitOK {
				t.Fatal(stderr)
			}
		} else if code, _, stderr := draw(args...); code != exitOK {
			t.Fatal(stderr)
		}
		if name := fmt.Sprintf("red-heart-%d.png", i+2); !bytes.Equal([]byte(content(t, name)), first) {
			t.Errorf("%q: %s differs from red-heart.png", args, name)
		}
	}

	if code, stdout, stderr := draw("-backend", "cuda", "red heart"); code != exitError || stdout != "" || !strings.Contains(stderr, `built without CUDA; "go build -tags cuda"`) {
		t.Errorf("on a GPU: exit %d, %q, %q", code, stdout, stderr)
	}

	// What must matter does.
	for _, args := range [][]string{{"-seed", "2"}, {"-temperature", "0.5"}, {"-snap"}, {"-precision", "bf16"}, {"-precision", "int8"}, {"-n", "7"}, {"w1"}} {
		if code, out, stderr := draw(append(args, "-o", "-", "red heart")...); code != exitOK || bytes.Equal([]byte(out), first) {
			t.Errorf("%q: exit %d, %s, or the same picture", args, code, stderr)
		}
	}

	code, stdout, stderr = draw("-o", "-", "-n", "1", "-scale", "1", "train")
	picture, err := png.Decode(strings.NewReader(stdout))
	if code != exitOK || err != nil || picture.Bounds().Dx() != 16 || !strings.Contains(stderr, "1 picture, seed 1") {
		t.Errorf("exit %d, %v, %q", code, err, stderr)
	}

	code, stdout, _ = draw("-json", "-n", "3", "-seed", "18446744073709551615", "-guidance", "2", "-precision", "bf16", "-o", "three.png", "größe <b>")
	var r report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != exitOK || strings.Count(stdout, "\n") != 1 ||
		r.File != "three.png" || r.Pictures != 3 || r.Seed != 1<<64-1 || r.Guidance != 2 || r.Temperature != 1 || r.Precision != "bf16" || r.Prompt != "größe <b>" || r.DecodeMS <= 0 {
		t.Errorf("exit %d, %v, %q", code, err, stdout)
	}
	if three := content(t, "three.png"); !strings.Contains(three, "größe <b>") || !strings.Contains(three, "seed\x0018446744073709551615") {
		t.Error("three.png does not say how it was made")
	}

	before, _ := os.ReadDir(".")
	fails(exitError, "three.png exists already", "-o", "three.png", "sun")
	fails(exitError, "no/folder.png", "-o", "no/folder.png", "sun")
	fails(exitError, "is a folder", "-f", "-o", ".", "sun")
	fails(exitError, "empty prompt", "")
	fails(exitError, "empty prompt", " \t ")
	fails(exitError, "not valid UTF-8", "red \xff")
	fails(exitError, "temperature", "-temperature", "1000", "sun")
	fails(exitError, "guidance", "-guidance", "1e9", "sun")
	fails(exitUsage, "no prompt")
	if after, _ := os.ReadDir("."); len(after) != len(before) {
		t.Errorf("errors left files behind: %v", after)
	}
	if code, _, stderr := draw("-f", "-o", "three.png", "-n", "1", "sun"); code != exitOK || len(content(t, "three.png")) == 0 {
		t.Errorf("-f: exit %d, %s", code, stderr)
	}
	if code, _, stderr := draw("-n", "1", "-o", "huge.png", strings.Repeat("red heart ", 20000)); code != exitOK {
		t.Errorf("a huge prompt: exit %d, %s", code, stderr)
	}

	for _, path := range []string{"absent.pack", "three.png"} {
		if code, _, stderr := commandLine(t, "-model", path, "sun"); code != exitError || !strings.Contains(stderr, path) {
			t.Errorf("-model %s: exit %d, %q", path, code, stderr)
		}
	}

	var out, log bytes.Buffer
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if code := run(cancelled, []string{"-model", pack, "-o", "never.png", "sun"}, strings.NewReader(""), &out, &log); code != exitError || log.String() != "cinn: interrupted\n" || taken("never.png") {
		t.Errorf("cancelled: exit %d, %q", code, log.String())
	}
	log.Reset()
	if code := run(t.Context(), []string{"-model", pack, "-o", "-", "sun"}, strings.NewReader(""), &brokenPipe{10}, &log); code != exitError || !strings.Contains(log.String(), "broken pipe") {
		t.Errorf("broken pipe: exit %d, %q", code, log.String())
	}
}

func TestEmbedPrintsAVectorALine(t *testing.T) {
	pack := tinyPack(t)
	type line struct {
		Text   string
		Vector []float32
	}
	parse := func(text string) (lines []line) {
		d := json.NewDecoder(strings.NewReader(text))
		for d.More() {
			var l line
			if err := d.Decode(&l); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, l)
		}
		return lines
	}
	code, stdout, stderr := commandLine(t, "embed", "-model", pack, "red", "heart", "red")
	lines := parse(stdout)
	if code != exitOK || len(lines) != 3 || lines[1].Text != "heart" || len(lines[0].Vector) != 32 ||
		!slices.Equal(lines[0].Vector, lines[2].Vector) || slices.Equal(lines[0].Vector, lines[1].Vector) {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	var out, log bytes.Buffer
	code = run(t.Context(), []string{"embed", "-model", pack, "-"}, strings.NewReader("red\nheart\nred"), &out, &log)
	if code != exitOK || out.String() != stdout {
		t.Errorf("standard input: exit %d, %q, %q", code, out.String(), log.String())
	}
	if code, _, stderr := commandLine(t, "embed", "-model", pack, "red", "\xff"); code != exitError || !strings.Contains(stderr, "UTF-8") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

func TestInspectListsAndVerifies(t *testing.T) {
	pack := tinyPack(t)
	code, stdout, stderr := commandLine(t, "inspect", pack)
	if code != exitOK || stderr != "" || !strings.Contains(stdout, "checksums: all right") || !strings.Contains(stdout, "made of nothing") ||
		!strings.Contains(stdout, "source: free") || !strings.Contains(stdout, "source.tokenizer.vocab ") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	code, stdout, _ = commandLine(t, "inspect", "-json", pack)
	var in inspection
	if err := json.Unmarshal([]byte(stdout), &in); err != nil || code != exitOK || !in.Verified || len(in.Tensors) == 0 || in.Metadata["arch"] != "fusion" {
		t.Errorf("exit %d, %v, %+v", code, err, in)
	}

	data := []byte(content(t, pack))
	data[len(data)-1] ^= 1
	broken := pack + ".broken"
	if err := os.WriteFile(broken, data, 0o644); err != nil {
		t.Fatal(err)
	}
	last := in.Tensors[len(in.Tensors)-1].Name
	if code, _, stderr := commandLine(t, "inspect", broken); code != exitError || !strings.Contains(stderr, broken) || !strings.Contains(stderr, last) {
		t.Errorf("a flipped bit: exit %d, %q, want %q named", code, stderr, last)
	}
	if err := os.WriteFile(broken, data[:len(data)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"inspect", broken}, {"-model", broken, "sun"}} {
		if code, _, stderr := commandLine(t, args...); code != exitError || !strings.Contains(stderr, broken) {
			t.Errorf("%q, half a file: exit %d, %q", args, code, stderr)
		}
	}
}

func TestPackRefusesPartsThatDoNotFit(t *testing.T) {
	dir := filepath.Dir(tinyPack(t))
	in := func(name string) string { return filepath.Join(dir, name) }
	out := in("wrong.pack")
	for _, parts := range [][3]string{{"target", "flow", "source"}, {"source", "source", "target"}, {"source", "flow", "flow"}, {"absent", "flow", "target"}} {
		code, _, stderr := commandLine(t, "pack", "-source", in(parts[0]), "-flow", in(parts[1]), "-target", in(parts[2]), "-o", out)
		if code != exitError || !strings.Contains(stderr, dir) || taken(out) {
			t.Errorf("%v: exit %d, %q", parts, code, stderr)
		}
	}
	if code, _, stderr := commandLine(t, "pack", "-source", in("source"), "-flow", in("flow"), "-target", in("target"), "-o", in("tiny.pack")); code != exitError || !strings.Contains(stderr, "exists") {
		t.Errorf("exit %d, %q", code, stderr)
	}
	if left, _ := filepath.Glob(in(".cinn*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if code, _, stderr := commandLine(t, "pack", "-source", in("source"), "-flow", in("flow"), "-target", in("target"), "-compress", "-half", "-o", in("small")); code != exitOK {
		t.Fatal(stderr)
	}
	if code, stdout, stderr := commandLine(t, "inspect", in("small")); code != exitOK || !strings.Contains(stdout, "BF16") {
		t.Errorf("the compressed pack: exit %d, %q, %q", code, stdout, stderr)
	}
	if code, _, stderr := commandLine(t, "-model", in("small"), "-o", in("small.png"), "red heart"); code != exitOK {
		t.Errorf("the compressed pack draws nothing: exit %d, %q", code, stderr)
	}
}

func TestTheBuiltInFusionDraws(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("HOME", cache)         // where macOS looks
	t.Setenv("LocalAppData", cache) // where Windows looks
	t.Chdir(t.TempDir())
	for range 2 { // the first unpacks the pack
		if code, _, stderr := commandLine(t, "red heart"); code != exitOK {
			t.Fatalf("exit %d, %s", code, stderr)
		}
	}
	if content(t, "red-heart.png") != content(t, "red-heart-2.png") {
		t.Error("the same prompt gave another sheet")
	}
}
