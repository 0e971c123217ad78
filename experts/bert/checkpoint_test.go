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

// reference is what bench/golden/bert_reference.py wrote, BERT_GOLDEN: texts and their embeddings, not normalised.
type reference struct {
	texts      []string
	embeddings []float32 // [texts][Width]
}

func readReference(t *testing.T) reference {
	t.Helper()
	golden, err := safetensors.Open(os.Getenv("BERT_GOLDEN"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { golden.Close() })
	joined, _ := golden.Lookup("text")
	embeddings, _ := golden.Lookup("embedding")
	v, err := embeddings.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	return reference{strings.Split(string(joined.Data), "\n"), v}
}

// agreement is how far embeddings are from the reference's.
type agreement struct {
	difference  float64 // largest
	mean, worst float64 // cosine
}

// of embeds the reference's texts with m.
func (r reference) of(t *testing.T, m *Model) agreement {
	t.Helper()
	s := newSession(t, m, 2, SessionOptions{Tokens: 1024, Representation: &Representation{Layer: m.Config.Layers, Pooling: Mean}})
	got := make([]float32, len(r.embeddings))
	if err := s.EmbedAll(context.Background(), got, r.texts); err != nil {
		t.Fatal(err)
	}
	n := m.Width()
	a := agreement{difference: maxDifference(got, r.embeddings), worst: 1}
	for i := range r.texts {
		cos := cosine(got[i*n:][:n], r.embeddings[i*n:][:n])
		a.mean, a.worst = a.mean+cos/float64(len(r.texts)), min(a.worst, cos)
	}
	return a
}

// within fails where a is worse than what the project promises.
func (a agreement) within(t *testing.T, what string, promise agreement) {
	t.Helper()
	t.Logf("%s: max difference %.3g, cosine mean %.7f worst %.7f", what, a.difference, a.mean, a.worst)
	if !(a.difference <= promise.difference && a.mean >= promise.mean && a.worst >= promise.worst) {
		t.Errorf("%s: want max difference %g, cosine mean %g worst %g", what, promise.difference, promise.mean, promise.worst)
	}
}

// The checkpoint in each storage, and in each precision of the products from float32 and, as int8 packs have it, from int8.
func TestCheckpointAgreesWithTheReference(t *testing.T) {
	dir := checkpointDir(t)
	want := readReference(t)
	for _, c := range []struct {
		storage   Storage
		precision tensor.Precision
		promise   agreement
	}{
		{"f32", tensor.F32, agreement{1e-4, 0.999999, 0.999999}},
		{"f16", tensor.F32, agreement{1e-2, 0.99999, 0.99999}},
		{"bf16", tensor.F32, agreement{1e-1, 0.9995, 0.999}},
		{"int8", tensor.F32, agreement{math.Inf(1), 0.998, 0.99}},
		{"f32", tensor.BF16, agreement{1e-1, 0.9995, 0.999}},
		{"f32", tensor.Int8, agreement{math.Inf(1), 0.998, 0.99}},
		{"int8", tensor.Int8, agreement{math.Inf(1), 0.998, 0.99}},
	} {
		meta, tensors, err := Convert(dir, ConvertOptions{Storage: c.storage})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "expert.safetensors")
		if err := safetensors.WriteFile(path, meta, tensors); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Open(path, c.precision)
		if err != nil {
			t.Fatal(err)
		}
		what := fmt.Sprintf("stored as %-4s (%.1f MB), multiplied in %-4s", c.storage, float64(info.Size())/1e6, c.precision)
		want.of(t, m).within(t, what, c.promise)
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
