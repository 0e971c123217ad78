package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const results = `{"case": "bert/minilm/1x16", "threads": 1, "rounds": 9, "dropped": 1, "contestants": [{"name": "onnxruntime", "version": "1", "precision": "f32", "form": "raw", "median": 4.5}, {"name": "netfusion", "precision": "f32", "median": 3}], "ratios": {"f32": 1.5}}
{"case": "bert/minilm/1x16", "threads": 1, "rounds": 9, "dropped": 2, "contestants": [{"name": "onnxruntime", "version": "1", "precision": "f32", "form": "raw", "median": 4.4}, {"name": "onnxruntime", "version": "1", "precision": "f32", "form": "fused", "median": 4}, {"name": "netfusion", "precision": "f32", "median": 2}], "ratios": {"f32": 2}}
{"case": "bert/minilm/1x16", "threads": 2, "rounds": 9, "dropped": 0, "contestants": [{"name": "onnxruntime", "version": "1", "precision": "f32", "form": "raw", "median": 2.4}, {"name": "netfusion", "precision": "f32", "median": 1.6}], "ratios": {"f32": 1.5}}
{"case": "bert/minilm/1x16", "threads": 2, "busy": true, "contestants": [], "ratios": {}}
{"ceilings": "avx2", "threads": 1, "values": {"GFLOP/s": 100, "DRAM-GB/s": 20}}
{"ceilings": "avx512", "threads": 1, "values": {"GFLOP/s": 190, "DRAM-GB/s": 20}}
{"ceilings": "avx512", "threads": 1, "values": {"GFLOP/s": 200, "DRAM-GB/s": 20}}
{"ceilings": "generic", "threads": 1, "values": {"GFLOP/s": 10, "DRAM-GB/s": 20}}
{"case": "matmul/n=1000,k=1000/m=8", "threads": 1, "rounds": 9, "contestants": [{"name": "netfusion", "precision": "f32", "median": 0.1}], "ratios": {"f32": 1.1}}
{"case": "matmul/n=500,k=1000/m=8", "threads": 1, "rounds": 9, "contestants": [{"name": "netfusion", "precision": "f32", "median": 0.1}], "ratios": {"f32": 0.9}}
{"case": "matmul/n=1000,k=1000/m=1,memory", "threads": 1, "rounds": 9, "contestants": [{"name": "netfusion", "precision": "f32", "median": 0.25}], "ratios": {"f32": 1}}
{"case": "biggan/128", "threads": 1, "rounds": 9, "contestants": [{"name": "netfusion", "precision": "f32", "median": 100}, {"name": "netfusion", "precision": "bf16", "median": 50}]}
{"case": "biggan/128", "threads": 2, "rounds": 9, "contestants": [{"name": "netfusion", "precision": "f32", "median": 50}, {"name": "netfusion", "precision": "bf16", "median": 31.25}]}
{"case": "conv/channels=64/size=8", "threads": 1, "rounds": 9, "contestants": [{"name": "oneDNN", "version": "2", "precision": "f32", "form": "winograd", "median": 0.5}, {"name": "netfusion", "precision": "f32", "median": 0.4}], "ratios": {"f32": 1.25}}
`

const proofs = `
== 2026-01-01 commit old
    BenchmarkGenerate/f32/workers=1-2  5  1 ns/op  99.0 p50-ms
== 2026-01-02 commit new
+ go test
    BenchmarkGenerate/f32/workers=1-2  5  1 ns/op  9.70 p50-ms  13.1 p99-ms
    BenchmarkGenerate/f32/workers=2-2  5  1 ns/op  6.75 p50-ms  10.3 p99-ms
+ env XDG_CACHE_HOME=WORK/cache
    WORK/first.png  8 pictures, seed 1, encode 1.7 ms, flow 5 ms
    real 0.27
+ env XDG_CACHE_HOME=WORK/cache
    WORK/second.png  8 pictures, seed 1, encode 1.4 ms, flow 4 ms
    real 0.15
`

func folder(t *testing.T, readme string) string {
	t.Helper()
	dir := t.TempDir()
	for path, text := range map[string]string{"README.md": readme, "bench/results/peers-x.jsonl": results, "bench/results/prove-x.txt": proofs} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFiguresAreThoseOfTheResults(t *testing.T) {
	dir := folder(t, "before\n"+begin+"old\n"+end+"after\n")
	if err := run(dir, false); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, want := range []string{
		// The last line of a case counts, the peer's fastest form, and nothing that was measured on a busy machine.
		"| MiniLM-L6, 16 tokens | 4.00 / 2.40 | – | 2.00 / 1.60 (2.00 / 1.50) | – | – |",
		// 16 MFLOP in 0.1 ms are 160 of 200 GFLOP/s, 8 are 80: 60 % in the middle.
		"| 8 rows | 1.00 (0.90), 60 % | – | – |",
		// 4 MB in 0.25 ms are 16 of 20 GB/s.
		"| 1 row, weights from memory | 1.00 (1.00), 80 % | – | – |",
		"| 64 channels, 8×8 | 1.25 (from 0.50 ms winograd) |",
		"| a new prompt to a picture, 1 / 2 cores: median | 9.70 / 6.75 ms | – | – |",
		// MiniLM at 16 tokens gains 1.25, but it reads more than it computes.
		"Two cores are 1.80 times as fast as one, the median of 2 cases of more than a millisecond's arithmetic; at least 1.60 (biggan/128 in bf16).",
		"takes 0.15 s, 0.27 s the first time, when it unpacks its weights: encode 1.4 ms, flow 4 ms.",
		"2026-01-02 commit new",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if !strings.HasPrefix(text, "before\n"+begin) || !strings.HasSuffix(text, end+"after\n") || strings.Contains(text, "old\n") {
		t.Errorf("what is around the figures has changed:\n%s", text)
	}
}

func TestCheckFailsUntilTheREADMEIsWritten(t *testing.T) {
	dir := folder(t, begin+end)
	if err := run(dir, true); err == nil {
		t.Error("an empty table passes")
	}
	if err := run(dir, false); err != nil {
		t.Fatal(err)
	}
	if err := run(dir, true); err != nil {
		t.Errorf("what was written does not pass: %v", err)
	}
}

func TestAREADMEWithoutMarksIsAnError(t *testing.T) {
	dir := folder(t, "text\n")
	if err := run(dir, false); err == nil {
		t.Error("no error")
	}
}
