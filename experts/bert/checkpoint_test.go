package bert

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

// checkpointDir is the folder of a real checkpoint, BERT_MODEL, or the test is skipped.
func checkpointDir(t testing.TB) string {
	dir := os.Getenv("BERT_MODEL")
	if dir == "" {
		t.Skip("BERT_MODEL names no checkpoint folder")
	}
	return dir
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab += float64(a[i]) * float64(b[i])
		aa += float64(a[i]) * float64(a[i])
		bb += float64(b[i]) * float64(b[i])
	}
	return ab / math.Sqrt(aa*bb)
}

// BERT_MODEL is a checkpoint folder, BERT_GOLDEN what bench/golden/bert_reference.py wrote for it: texts and their
// embeddings, not normalised. Each storage is held to what the project promises of it.
func TestCheckpointAgreesWithTheReference(t *testing.T) {
	dir := checkpointDir(t)
	golden, err := safetensors.Open(os.Getenv("BERT_GOLDEN"))
	if err != nil {
		t.Fatal(err)
	}
	defer golden.Close()
	joined, _ := golden.Lookup("text")
	texts := strings.Split(string(joined.Data), "\n")
	embedding, _ := golden.Lookup("embedding")
	want, err := embedding.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		storage             Storage
		difference          float64 // largest
		meanCosine, minimum float64
	}{{"f32", 1e-4, 0.999999, 0.999999}, {"f16", 1e-2, 0.99999, 0.99999}, {"bf16", 1e-1, 0.9995, 0.999}, {"int8", math.Inf(1), 0.998, 0.99}} {
		meta, tensors, err := Convert(dir, ConvertOptions{Storage: c.storage})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "expert.safetensors")
		if err := safetensors.WriteFile(path, meta, tensors); err != nil {
			t.Fatal(err)
		}
		m, err := Open(path, tensor.F32)
		if err != nil {
			t.Fatal(err)
		}
		s := newSession(t, m, 2, SessionOptions{Tokens: 1024, Representation: &Representation{Layer: m.Config.Layers, Pooling: Mean}})
		got := make([]float32, len(want))
		if err := s.EmbedAll(context.Background(), got, texts); err != nil {
			t.Fatal(err)
		}
		n := m.Width()
		mean, worst := 0.0, 1.0
		for i := range texts {
			cos := cosine(got[i*n:][:n], want[i*n:][:n])
			mean, worst = mean+cos/float64(len(texts)), min(worst, cos)
		}
		d := maxDifference(got, want)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%-4s %d texts, %.1f MB: max difference %.3g, cosine mean %.7f worst %.7f", c.storage, len(texts), float64(info.Size())/1e6, d, mean, worst)
		if !(d <= c.difference && mean >= c.meanCosine && worst >= c.minimum) {
			t.Errorf("%s: want max difference %g, cosine mean %g worst %g", c.storage, c.difference, c.meanCosine, c.minimum)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkCheckpoint(b *testing.B) {
	m, err := Open(checkpointDir(b), tensor.F32)
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	for _, workers := range []int{1, 2} {
		for _, tokens := range []int{8, 16, 32, 128} {
			b.Run(fmt.Sprintf("workers=%d/tokens=%d", workers, tokens), func(b *testing.B) {
				s := newSession(b, m, workers, SessionOptions{})
				ids := slices.Repeat([]int32{2417}, tokens)
				dst := make([]float32, m.Width())
				b.ReportAllocs()
				for b.Loop() {
					if err := s.EmbedTokens(context.Background(), dst, ids, nil); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
