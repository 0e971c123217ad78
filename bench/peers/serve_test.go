package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// speak runs a case with some input and returns what it answers, a line each.
func speak(t *testing.T, words []string, in string) []map[string]any {
	t.Helper()
	var out bytes.Buffer
	if err := run(words, strings.NewReader(in), &out); err != nil {
		t.Fatalf("%v: %v", words, err)
	}
	var all []map[string]any
	for line := range strings.Lines(out.String()) {
		var answer map[string]any
		if err := json.Unmarshal([]byte(line), &answer); err != nil {
			t.Fatalf("%v: %q: %v", words, line, err)
		}
		all = append(all, answer)
	}
	return all
}

// numbers writes the file of random numbers: n times 0, 1, …, 7.
func numbers(t *testing.T, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "numbers")
	one := []byte{0, 0, 0, 0, 0, 0, 128, 63, 0, 0, 0, 64, 0, 0, 64, 64, 0, 0, 128, 64, 0, 0, 160, 64, 0, 0, 192, 64, 0, 0, 224, 64}
	if err := os.WriteFile(path, bytes.Repeat(one, n), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestACaseAnswersTheDriver(t *testing.T) {
	data := numbers(t, 64)
	result := filepath.Join(t.TempDir(), "result")
	in := fmt.Sprintf("run 0\noutput %s\nrun 0.01\n", result)
	for _, precision := range []string{"f32", "bf16", "int8"} {
		words := strings.Fields("matmul m=2 n=3 k=8 copies=2 threads=1 data=" + data + " precision=" + precision)
		answers := speak(t, words, in)
		if len(answers) != 4 {
			t.Fatalf("%s: answers %v", precision, answers)
		}
		if answers[0]["ready"] != ours || answers[1]["calls"] != 1.0 || answers[2]["values"] != 6.0 {
			t.Errorf("%s: answers %v", precision, answers)
		}
		if median, ok := answers[3]["median"].(float64); !ok || median < answers[3]["least"].(float64) || answers[3]["calls"].(float64) < 2 {
			t.Errorf("%s: answer %v", precision, answers[3])
		}
		written, err := readRandom(result)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range written {
			if v < 138 || v > 142 { // Σ i² of 0 … 7, as rounded in the precision
				t.Errorf("%s: result %d is %v, want 140", precision, i, v)
			}
		}
	}
}

func TestConvolutionAndControlRun(t *testing.T) {
	for _, words := range []string{"control threads=2", "conv in=4 out=2 size=4 precision=f32 threads=1 data=" + numbers(t, 64)} {
		if answers := speak(t, strings.Fields(words), "run 0\n"); len(answers) != 2 || answers[1]["calls"] != 1.0 {
			t.Errorf("%s: answers %v", words, answers)
		}
	}
}

func TestWhatCannotBeDoneIsAnError(t *testing.T) {
	data := numbers(t, 1)
	for _, words := range []string{
		"nonsense",
		"control threads=many",
		"matmul m=2 n=3 k=8 copies=1 threads=1 precision=f64 data=" + data,
		"matmul m=2 n=3 k=8 copies=1 threads=1 precision=f32 data=" + data, // too few numbers
		"conv in=4 out=2 size=4 precision=f32 threads=1 data=" + data + "none",
		"flow rows=1 precision=f32 threads=1 model=" + data,
	} {
		if err := run(strings.Fields(words), strings.NewReader(""), &bytes.Buffer{}); err == nil {
			t.Errorf("%s: no error", words)
		}
	}
	if err := run([]string{"control", "threads=1"}, strings.NewReader("sing 1\n"), &bytes.Buffer{}); err == nil {
		t.Error("a line that is no command is no error")
	}
}
