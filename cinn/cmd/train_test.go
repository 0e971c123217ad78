package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"netfusion/cinn/pairs"
	"netfusion/cinn/train"
)

// tinyPairs writes a training set for the experts of tinyPack: 120 concepts of three classes, a picture each.
func tinyPairs(t *testing.T, path string) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	s := &pairs.Set{
		Source: "chance", Classes: []string{"a", "b", "c"}, Styles: []pairs.Style{{Name: "plain", Words: []string{"plain %s"}}, {Name: "bold", Words: []string{"bold %s"}}},
		Latent: 2, Size: 16,
	}
	for i := range 120 {
		k := i % len(s.Classes)
		s.Concepts = append(s.Concepts, pairs.Concept{Name: fmt.Sprintf("w%d w%d %s", i%50, i/50, s.Classes[k]), Class: s.Classes[k], Category: s.Classes[k/2]})
		s.Images = append(s.Images, pairs.Image{Concept: i, Style: i % 2, Class: k})
		for range s.Latent {
			s.Mean, s.Std = append(s.Mean, float32(r.NormFloat64())), append(s.Std, 0.1)
		}
		for range 3 * s.Size * s.Size {
			s.Pixels = append(s.Pixels, uint8(255*r.IntN(2)))
		}
	}
	if err := s.Write(path); err != nil {
		t.Fatal(err)
	}
}

func TestTrainAndEval(t *testing.T) {
	pack := tinyPack(t)
	dir := filepath.Dir(pack)
	t.Chdir(dir)
	tinyPairs(t, "tiny.pairs")
	common := []string{"-pairs", "tiny.pairs", "-model", pack, "-cache", dir}
	small := append([]string{"-steps", "6", "-validate", "3", "-batch", "8", "-blocks", "2", "-hidden", "8", "-embed", "4", "-embed-width", "8", "-head", "0"}, common...)
	learn := func(args ...string) (int, string, string) {
		return commandLine(t, append(append([]string{"train"}, small...), args...)...)
	}

	if code, stdout, stderr := learn("-o", "one", "-workers", "1"); code != exitOK || !strings.HasPrefix(stdout, "one: validation NLL ") || !strings.Contains(stderr, "step 3") {
		t.Fatalf("exit %d, %q, %q", code, stdout, stderr)
	}
	if code, _, stderr := learn("-o", "two", "-workers", "2", "-source", "source", "-target", "target"); code != exitOK || content(t, "one") != content(t, "two") {
		t.Errorf("experts from their own files, two workers: exit %d, %q, or another flow", code, stderr)
	}
	if code, _, stderr := learn("-o", "map", "-side", "4", "-convs", "1", "-conv-width", "3", "-pool", "2"); code != exitOK || content(t, "map") == content(t, "one") {
		t.Errorf("embeddings read as maps: exit %d, %q, or the same flow", code, stderr)
	}
	if code, _, stderr := learn("-o", "one", "-f", "-resume"); code != exitOK || content(t, "one") != content(t, "two") {
		t.Errorf("resuming a run that was done: exit %d, %q, or another flow", code, stderr)
	}
	code, _, stderr := learn("-o", "one", "-f", "-resume", "-steps", "9", "-rate", "0.01", "-batch", "8", "-depth", "2")
	if want := "the settings are those of one.checkpoint: -depth 1, not 2, -rate 0.002, not 0.01, -steps 6, not 9\n"; code != exitOK || !strings.HasSuffix(stderr, want) {
		t.Errorf("resuming with other settings: exit %d, %q, want %q", code, stderr, want)
	}
	if code, _, stderr := learn("-o", "one", "-f", "-resume", "-blind"); code != exitError || !strings.Contains(stderr, "other training data") {
		t.Errorf("resuming with other data: exit %d, %q", code, stderr)
	}
	if code, _, stderr := learn("-o", "four", "-resume"); code != exitError || !strings.Contains(stderr, "four.checkpoint does not exist") {
		t.Errorf("nothing to resume: exit %d, %q", code, stderr)
	}
	if code, _, stderr := learn("-o", filepath.Join("absent", "four")); code != exitError || !strings.Contains(stderr, "absent") {
		t.Errorf("no such folder: exit %d, %q", code, stderr)
	}
	if code, _, stderr := learn("-o", "blind", "-blind"); code != exitOK || content(t, "one") == content(t, "blind") {
		t.Errorf("-blind: exit %d, %q, or the same flow", code, stderr)
	}
	if code, _, stderr := learn("-o", "one"); code != exitError || !strings.Contains(stderr, "one exists") {
		t.Errorf("exit %d, %q", code, stderr)
	}
	os.Remove("one")
	if code, _, stderr := learn("-o", "one"); code != exitError || !strings.Contains(stderr, "one.checkpoint exists") {
		t.Errorf("exit %d, %q", code, stderr)
	}
	if code, _, stderr := learn("-o", "three", "-hidden", "0"); code != exitUsage || !strings.Contains(stderr, "hidden") {
		t.Errorf("exit %d, %q", code, stderr)
	}

	if code, _, stderr := learn("-o", "three", "-backend", "cuda"); code != exitError || !strings.Contains(stderr, "built without CUDA") {
		t.Errorf("on a GPU: exit %d, %q", code, stderr)
	}

	judge := append([]string{"eval", "-flow", "two", "-unconditional", "blind"}, common...)
	code, stdout, stderr := commandLine(t, append(judge, "-json")...)
	var r train.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != exitOK || r.Split != "test" || len(r.Likelihoods) != 8 {
		t.Errorf("exit %d, %v, %q, %q", code, err, stdout, stderr)
	}
	if code, stdout, _ := commandLine(t, append(judge, "-split", "validation")...); code != exitOK || !strings.Contains(stdout, "ridge") {
		t.Errorf("exit %d, %q", code, stdout)
	}
	if code, _, stderr := commandLine(t, append(judge, "-backend", "cuda")...); code != exitError || !strings.Contains(stderr, "built without CUDA") {
		t.Errorf("on a GPU: exit %d, %q", code, stderr)
	}
}

// Without a file for it, eval trains the unconditional flow itself: once, for as long as nothing that it depends on changes.
func TestEvalTrainsTheUnconditionalFlowOnce(t *testing.T) {
	pack := tinyPack(t)
	dir := filepath.Dir(pack)
	t.Chdir(dir)
	tinyPairs(t, "tiny.pairs")
	judge := func(ctx context.Context, steps int, split string) (table, log string, err error) {
		t.Helper()
		var out, remarks strings.Builder
		e := &evaluator{
			lessonFlags: lessonFlags{pairs: "tiny.pairs", model: pack, cache: "cache"},
			split:       split, seed: 1, options: train.Defaults(),
		}
		e.options.Steps, e.options.Validate, e.options.Batch = steps, 3, 8
		err = e.run(ctx, stdio{out: &output{w: &out}, err: &remarks}, nil)
		return out.String(), remarks.String(), err
	}
	cached := func(want int) {
		t.Helper()
		files, err := filepath.Glob("cache/unconditional-*")
		files = slices.DeleteFunc(files, func(path string) bool { return strings.HasSuffix(path, ".best") }) // beside its checkpoint
		if err != nil || len(files) != want {
			t.Errorf("%v, %q in the cache, want %d files", err, files, want)
		}
	}

	first, log, err := judge(t.Context(), 6, "test")
	if err != nil || !strings.Contains(first, "unconditional flow") || !strings.Contains(log, "step 6") {
		t.Fatalf("%v, %q, %q", err, first, log)
	}
	cached(1)
	again, log, err := judge(t.Context(), 6, "test")
	if err != nil || again != first || strings.Contains(log, "step") {
		t.Errorf("the second time: %v, %q, or another table", err, log)
	}
	if _, log, err := judge(t.Context(), 6, "validation"); err != nil || strings.Contains(log, "step") {
		t.Errorf("another split: %v, %q", err, log)
	}
	if _, log, err := judge(t.Context(), 9, "test"); err != nil || !strings.Contains(log, "step 9") {
		t.Errorf("other options: %v, %q", err, log)
	}
	cached(2)

	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for i, damaged := range []bool{false, true} {
		steps := 12 + i
		if _, _, err := judge(stopped, steps, "test"); !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted: %v", err)
		}
		cached(3 + i) // the checkpoint, which then gives way to the flow
		checkpoint, _ := filepath.Glob("cache/unconditional-*.checkpoint")
		if len(checkpoint) != 1 {
			t.Fatalf("checkpoints: %q", checkpoint)
		}
		if damaged {
			if err := os.Truncate(checkpoint[0], 5000); err != nil {
				t.Fatal(err)
			}
		}
		_, log, err := judge(t.Context(), steps, "test")
		if err != nil || !strings.Contains(log, fmt.Sprintf("step %d", steps)) || strings.Contains(log, "step 0") != damaged {
			t.Errorf("going on, damaged %v: %v, %q", damaged, err, log)
		}
		cached(3 + i)
	}
}

func TestTrainAndEvalWithoutDataSayWhatIsMissing(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, test := range []struct{ args, want string }{
		{"train", "want -o FILE"},
		{"train -o x", "no data: want -pairs FILE"},
		{"eval", "no data: want -pairs FILE"},
		{"eval -split all", "-split"},
	} {
		code, _, stderr := commandLine(t, strings.Fields(test.args)...)
		name, _, _ := strings.Cut(test.args, " ")
		if code != exitUsage || !strings.Contains(stderr, test.want) || !strings.Contains(stderr, "to draw one: cinn generate "+name) {
			t.Errorf("%s: exit %d, %q", test.args, code, stderr)
		}
	}
	if code, _, stderr := commandLine(t, "train", "-pairs", "absent.pairs", "-o", "x"); code != exitError || !strings.Contains(stderr, "absent.pairs") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}
