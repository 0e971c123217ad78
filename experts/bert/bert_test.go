package bert

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"netfusion/kernels/cpu/cputest"
	"netfusion/nn"
	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

// tiny is an encoder of random weights with what the reference makes of it.
type tiny struct {
	*Model
	golden *safetensors.File
}

// precisions are those that a Model can be opened in.
var precisions = []tensor.Precision{tensor.F32, tensor.BF16, tensor.Int8}

func openTiny(t testing.TB, name string) tiny {
	t.Helper()
	return openTinyIn(t, name, tensor.F32)
}

func openTinyIn(t testing.TB, name string, p tensor.Precision) tiny {
	t.Helper()
	return openGolden(t, "testdata/tiny-"+name+".safetensors", p)
}

// openGolden reads what bench/golden/bert_tiny.py wrote.
func openGolden(t testing.TB, path string, p tensor.Precision) tiny {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	c, err := ParseConfig([]byte(f.Metadata()["config"]))
	if err != nil {
		t.Fatal(err)
	}
	m, err := Load(nn.Under(f, "checkpoint/"), c, tinyTokenizer(t), p)
	if err != nil {
		t.Fatal(err)
	}
	return tiny{m, f}
}

func tinyVocab() string {
	v := "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nred\nheart\n##s\n"
	for i := range 50 {
		v += fmt.Sprintf("w%d\n", i)
	}
	return v
}

func tinyTokenizer(t testing.TB) *Tokenizer {
	t.Helper()
	tok, err := ReadVocab(strings.NewReader(tinyVocab()), TokenizerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func (m tiny) ints(t *testing.T, name string) []int32 {
	t.Helper()
	x, ok := m.golden.Lookup(name)
	if !ok {
		t.Fatalf("no %s", name)
	}
	out := make([]int32, x.Elements())
	for i := range out {
		out[i] = int32(binary.LittleEndian.Uint32(x.Data[4*i:]))
	}
	return out
}

func (m tiny) floats(t *testing.T, name string) []float32 {
	t.Helper()
	x, ok := m.golden.Lookup(name)
	if !ok {
		t.Fatalf("no %s", name)
	}
	v, err := x.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func newSession(t testing.TB, m *Model, workers int, o SessionOptions) *Session {
	t.Helper()
	dev := tensor.CPU(workers)
	t.Cleanup(dev.Close)
	s, err := m.NewSession(dev, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Every layer's state of four packed sequences, in each dialect of names, each activation and each precision. (States are
// normalised, so their values are of the size of 1.)
func TestEveryLayerAgreesWithTheReference(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		for p, bound := range map[tensor.Precision]float64{tensor.F32: 5e-6, tensor.BF16: 0.06, tensor.Int8: 0.25} {
			for _, name := range []string{"plain", "legacy", "nested"} {
				d := openTinyIn(t, name, p).worstLayer(t)
				t.Logf("%s in %v: max difference %.3g", name, p, d)
				if !(d <= bound) {
					t.Errorf("%s in %v: max difference %.3g, want at most %g", name, p, d, bound)
				}
				if p != tensor.F32 && !(d > 1e-4) {
					t.Errorf("%s in %v: max difference %.3g: the products were float32", name, p, d)
				}
			}
		}
	})
}

// The size of bert-base: BERT_BASE_GOLDEN is what "bench/golden/bert_tiny.py base" wrote.
func TestBaseSizeAgreesWithTheReference(t *testing.T) {
	path := os.Getenv("BERT_BASE_GOLDEN")
	if path == "" {
		t.Skip("BERT_BASE_GOLDEN is not set")
	}
	m := openGolden(t, path, tensor.F32)
	d := m.worstLayer(t)
	t.Logf("%d layers of %d: max difference %.3g", m.Config.Layers, m.Width(), d)
	if !(d <= 1e-4) {
		t.Errorf("max difference %.3g", d)
	}
}

// worstLayer returns the largest difference from the golden in any layer's state of its four sequences, in one pass.
func (m tiny) worstLayer(t *testing.T) float64 {
	t.Helper()
	s := newSession(t, m.Model, 2, SessionOptions{Tokens: 80, Texts: 4})
	worst := 0.0
	for i := range m.Config.Layers + 1 {
		s.reset()
		clear(s.types)
		var want []float32
		for q := range 4 {
			copy(s.types[len(s.ids):], m.ints(t, fmt.Sprintf("%d.types", q)))
			s.ids = append(s.ids, m.ints(t, fmt.Sprintf("%d.ids", q))...)
			s.end()
			want = append(want, m.floats(t, fmt.Sprintf("%d.state.%d", q, i))...)
		}
		got, err := s.forward(context.Background(), i)
		if err != nil {
			t.Fatal(err)
		}
		if d := maxDifference(got.Data, want); !(d <= worst) {
			worst = d
		}
	}
	return worst
}

func maxDifference(a, b []float32) float64 {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	var d float64
	for i := range a {
		if e := math.Abs(float64(a[i]) - float64(b[i])); !(e <= d) {
			d = e
		}
	}
	return d
}

func TestRepresentations(t *testing.T) {
	m := openTiny(t, "plain")
	ids, types := m.ints(t, "1.ids"), m.ints(t, "1.types")
	h := m.Width()
	for layer := range m.Config.Layers + 1 {
		state := m.floats(t, fmt.Sprintf("1.state.%d", layer))
		mean := make([]float32, h)
		for i, v := range state {
			mean[i%h] += v / float32(len(ids))
		}
		for _, r := range []Representation{{layer, Mean, false}, {layer, CLS, false}, {layer, Mean, true}, {layer, CLS, true}} {
			want := slices.Clone(state[:h])
			if r.Pooling == Mean {
				want = slices.Clone(mean)
			}
			if r.Normalize {
				var sum float64
				for _, v := range want {
					sum += float64(v) * float64(v)
				}
				for i := range want {
					want[i] /= float32(math.Sqrt(sum))
				}
			}
			s := newSession(t, m.Model, 1, SessionOptions{Representation: &r})
			got := make([]float32, h)
			if err := s.EmbedTokens(context.Background(), got, ids, types); err != nil {
				t.Fatal(err)
			}
			if d := maxDifference(got, want); !(d <= 5e-6) {
				t.Errorf("%+v: max difference %.3g", r, d)
			}
		}
	}
}

// A text's embedding depends neither on its neighbours, nor on the workers, nor on how many texts share a pass, in any precision.
func TestSameBitsForAnyBatchAndWorkers(t *testing.T) {
	var texts []string
	for i := range 40 {
		texts = append(texts, strings.Repeat(fmt.Sprintf("w%d red hearts ", i), i%9))
	}
	for _, p := range precisions {
		m := openTinyIn(t, "plain", p)
		h := m.Width()
		want := make([]float32, len(texts)*h)
		one := newSession(t, m.Model, 1, SessionOptions{})
		for i, text := range texts {
			if err := one.Embed(context.Background(), want[i*h:][:h], text); err != nil {
				t.Fatal(err)
			}
		}
		for _, workers := range []int{1, 2, 7} {
			for _, o := range []SessionOptions{{}, {Tokens: 100, Texts: 50}, {Tokens: 2000, Texts: 40}, {Tokens: 41, Texts: 2}} {
				got := make([]float32, len(want))
				if err := newSession(t, m.Model, workers, o).EmbedAll(context.Background(), got, texts); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, want) {
					t.Errorf("%v, %d workers, %+v: embeddings differ", p, workers, o)
				}
			}
		}
	}
}

func TestSessionsRunSideBySide(t *testing.T) {
	m := openTiny(t, "plain")
	var wg sync.WaitGroup
	results := make([][]float32, 4)
	for i := range results {
		s := newSession(t, m.Model, 2, SessionOptions{})
		results[i] = make([]float32, m.Width())
		wg.Go(func() {
			for range 20 {
				if err := s.Embed(context.Background(), results[i], "red hearts w3"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, r := range results[1:] {
		if !slices.Equal(r, results[0]) {
			t.Error("sessions differ")
		}
	}
}

func TestEmbedDoesNotAllocate(t *testing.T) {
	long := strings.Repeat("red hearts ", 10000)
	for _, p := range precisions {
		m := openTinyIn(t, "plain", p)
		s := newSession(t, m.Model, 2, SessionOptions{})
		dst, ctx := make([]float32, m.Width()), context.Background()
		for _, text := range []string{"red hearts", "Größe 한국", long} {
			if n := testing.AllocsPerRun(20, func() {
				if err := s.Embed(ctx, dst, text); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%v, %.20q: %v allocations", p, text, n)
			}
		}
	}
}

func TestSessionRefuses(t *testing.T) {
	m := openTiny(t, "plain")
	s := newSession(t, m.Model, 1, SessionOptions{})
	ctx, dst := context.Background(), make([]float32, m.Width())
	if err := s.Embed(ctx, dst[1:], "red"); err == nil {
		t.Error("a short dst was accepted")
	}
	if err := s.EmbedTokens(ctx, dst, make([]int32, 41), nil); !errors.Is(err, ErrTooLong) {
		t.Errorf("41 tokens for 40 positions: %v", err)
	}
	for _, ids := range [][]int32{{-1}, {60}} {
		if err := s.EmbedTokens(ctx, dst, ids, nil); err == nil {
			t.Errorf("ids %v were accepted", ids)
		}
	}
	if err := s.EmbedTokens(ctx, dst, []int32{1, 2}, []int32{0, 2}); err == nil {
		t.Error("type 2 of 2 was accepted")
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Embed(cancelled, dst, "red"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := m.NewSession(tensor.CPU(1), SessionOptions{Representation: &Representation{Layer: 3, Pooling: Mean}}); err == nil {
		t.Error("layer 3 of 2 was accepted")
	}
}

func TestConfigRefusesByName(t *testing.T) {
	const good = `{"hidden_size":32,"num_hidden_layers":2,"num_attention_heads":4,"intermediate_size":64,"vocab_size":60`
	if _, err := ParseConfig([]byte(good + "}")); err != nil {
		t.Fatal(err)
	}
	for add, want := range map[string]string{
		`,"model_type":"roberta"}`:                                    `model_type "roberta"`,
		`,"position_embedding_type":"relative_key"}`:                  `"relative_key"`,
		`,"hidden_act":"quick_gelu"}`:                                 `"quick_gelu"`,
		`,"is_decoder":true}`:                                         "is_decoder",
		`,"num_attention_heads":5}`:                                   "no multiple",
		`,"hidden_size":0}`:                                           "hidden_size is 0",
		`,"vocab_size":1e18}`:                                         "config",
		`,"num_hidden_layers":-1}`:                                    "num_hidden_layers is -1",
		`,"layer_norm_eps":0}`:                                        "layer_norm_eps",
		`,"representation":{"pooling":"max"}}`:                        `"max"`,
		`,"representation":{"layer":7}}`:                              "layer 7",
		`,"max_position_embeddings":1152921504606846976}`:             "max_position_embeddings",
		`,"max_position_embeddings":65536,"intermediate_size":65536}`: "65536 tokens of 65536 values",
		``: "config",
	} {
		if _, err := ParseConfig([]byte(good + add)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", add, err, want)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"hidden_size":32,"num_hidden_layers":2,"num_attention_heads":4,"intermediate_size":64,"vocab_size":60}`))
	f.Add([]byte(`{"max_position_embeddings":1e3,"representation":{"layer":-1,"pooling":"cls"},"max_tokens":9}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig(data)
		if err != nil {
			return
		}
		total := 0
		for _, x := range c.tensors() {
			n := 1
			for _, d := range x.shape {
				n *= d
			}
			if total += n; n <= 0 || total > 1<<50 {
				t.Fatalf("tensor %q of shape %v in %+v", x.name, x.shape, c)
			}
		}
	})
}

// edited is a checkpoint with one tensor changed.
type edited struct {
	nn.Source
	name string
	with func(safetensors.Tensor) (safetensors.Tensor, bool)
}

func (e edited) Lookup(name string) (safetensors.Tensor, bool) {
	t, ok := e.Source.Lookup(name)
	if name == e.name {
		return e.with(t)
	}
	return t, ok
}

func (e edited) Names() []string {
	if e.with == nil {
		return append(e.Source.Names(), e.name)
	}
	return e.Source.Names()
}

func TestLoadRefuses(t *testing.T) {
	m := openTiny(t, "plain")
	source := nn.Under(m.golden, "checkpoint/")
	const name = "encoder.layer.1.output.dense.weight"
	for want, with := range map[string]func(safetensors.Tensor) (safetensors.Tensor, bool){
		`"` + name + `" is missing`: func(x safetensors.Tensor) (safetensors.Tensor, bool) { return x, false },
		`"` + name + `" has shape`: func(x safetensors.Tensor) (safetensors.Tensor, bool) {
			x.Shape = []int{x.Shape[1], x.Shape[0]}
			return x, true
		},
		name: func(x safetensors.Tensor) (safetensors.Tensor, bool) {
			x.DType, x.Data = safetensors.U8, x.Data[:len(x.Data)/4]
			return x, true
		},
	} {
		_, err := Load(edited{source, name, with}, m.Config, m.Tokenizer, tensor.F32)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "tiny-plain.safetensors") {
			t.Errorf("error %v, want %s and the file", err, want)
		}
	}
	if _, err := Load(edited{source, "encoder.layer.2.extra", nil}, m.Config, m.Tokenizer, tensor.F32); err == nil || !strings.Contains(err.Error(), `"encoder.layer.2.extra"`) {
		t.Errorf("an unknown tensor: %v", err)
	}
	if _, err := Load(nn.Under(m.golden, "nothing/"), m.Config, m.Tokenizer, tensor.F32); err == nil || !strings.Contains(err.Error(), "not a BERT encoder") {
		t.Errorf("no encoder: %v", err)
	}
	c := m.Config
	c.Vocab = 20
	if _, err := Load(source, c, m.Tokenizer, tensor.F32); err == nil {
		t.Error("a vocabulary beyond the word table was accepted")
	}
}

// writeFolder makes a checkpoint folder of a tiny encoder.
func writeFolder(t *testing.T, m tiny, extra map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	source := nn.Under(m.golden, "checkpoint/")
	var tensors []safetensors.Tensor
	for _, name := range source.Names() {
		x, _ := source.Lookup(name)
		tensors = append(tensors, x)
	}
	if err := safetensors.WriteFile(filepath.Join(dir, "model.safetensors"), nil, tensors); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"config.json": m.golden.Metadata()["config"], "vocab.txt": tinyVocab(),
		"README.md": "---\nlanguage: en\nlicense: apache-2.0\n---\n# tiny\n",
	}
	for name, text := range extra {
		files[name] = text
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var sentenceFiles = map[string]string{
	"modules.json": `[{"path":"","type":"sentence_transformers.models.Transformer"},{"path":"1_Pooling","type":"sentence_transformers.models.Pooling"},
		{"path":"2_Normalize","type":"sentence_transformers.models.Normalize"}]`,
	"1_Pooling/config.json":       `{"word_embedding_dimension":32,"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":false}`,
	"sentence_bert_config.json":   `{"max_seq_length":12,"do_lower_case":false}`,
	"tokenizer_config.json":       `{"do_lower_case":true,"strip_accents":null}`,
	"2_Normalize/ignored-file.md": "",
}

func embed(t *testing.T, m *Model, text string) []float32 {
	t.Helper()
	dst := make([]float32, m.Width())
	if err := newSession(t, m, 1, SessionOptions{}).Embed(context.Background(), dst, text); err != nil {
		t.Fatal(err)
	}
	return dst
}

func TestConvertedFilesEmbedAsTheirFolder(t *testing.T) {
	for _, name := range []string{"plain", "legacy"} {
		dir := writeFolder(t, openTiny(t, name), sentenceFiles)
		m, err := Open(dir, tensor.F32)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if want := (Representation{m.Config.Layers, CLS, true}); m.Config.Representation != want || m.Config.MaxTokens != 12 || m.Config.Cased {
			t.Errorf("config %+v", m.Config)
		}
		want := embed(t, m, "w1 red hearts w2 w3 w4 w5 w6 w7 w8 w9 w10 w11")
		weights, err := os.ReadFile(filepath.Join(dir, "model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		sum := fmt.Sprintf("%x", sha256.Sum256(weights))
		for storage, bound := range map[Storage]float64{"f32": 0, "f16": 1e-3, "bf16": 1e-2, "int8": 2e-2} {
			meta, tensors, err := Convert(dir, ConvertOptions{Storage: storage, Source: "a test"})
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "expert.safetensors")
			if err := safetensors.WriteFile(path, meta, tensors); err != nil {
				t.Fatal(err)
			}
			e, err := Open(path, tensor.F32)
			if err != nil {
				t.Fatal(err)
			}
			if e.Config != m.Config {
				t.Errorf("%s: config %+v, want %+v", storage, e.Config, m.Config)
			}
			f, err := safetensors.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			got := f.Metadata()
			if got["licence"] != "apache-2.0" || got["source"] != "a test" || got["source.sha256"] != sum {
				t.Errorf("metadata %v", got)
			}
			if err := errors.Join(f.Verify(), f.Close()); err != nil {
				t.Error(err)
			}
			d := maxDifference(embed(t, e, "w1 red hearts w2 w3 w4 w5 w6 w7 w8 w9 w10 w11"), want)
			if !(d <= bound) || d == 0 && bound > 0 {
				t.Errorf("%s: max difference %.3g, want at most %.3g", storage, d, bound)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// pytorch_model.bin, in the zip and in the legacy format, stands for model.safetensors: the same bits.
func TestPyTorchCheckpoints(t *testing.T) {
	const text = "w1 red hearts w2 w3"
	for _, name := range []string{"plain", "legacy"} {
		dir := writeFolder(t, openTiny(t, name), nil)
		m, err := Open(dir, tensor.F32)
		if err != nil {
			t.Fatal(err)
		}
		want := embed(t, m, text)
		_, tensors, err := Convert(dir, ConvertOptions{})
		if err := errors.Join(err, m.Close(), os.Remove(filepath.Join(dir, "model.safetensors"))); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, tensor.F32); err == nil || !strings.Contains(err.Error(), dir+": neither model.safetensors nor pytorch_model.bin") {
			t.Errorf("%s: without weights: %v", name, err)
		}

		weights, err := os.ReadFile("testdata/tiny-" + name + ".bin")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "pytorch_model.bin")
		if err := os.WriteFile(path, weights, 0o644); err != nil {
			t.Fatal(err)
		}
		m, err = Open(dir, tensor.F32)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(embed(t, m, text), want) {
			t.Errorf("%s: embeds otherwise than model.safetensors", name)
		}
		meta, again, err := Convert(dir, ConvertOptions{})
		if err := errors.Join(err, m.Close()); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(again, tensors) || meta["source.sha256"] != fmt.Sprintf("%x", sha256.Sum256(weights)) {
			t.Errorf("%s: converts otherwise than model.safetensors, %v", name, meta)
		}

		if err := os.WriteFile(path, weights[:len(weights)-9], 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, tensor.F32); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: a cut file: %v", name, err)
		}
	}
}

func TestOpenRefusesFolders(t *testing.T) {
	m := openTiny(t, "plain")
	for name, c := range map[string]struct{ file, text, want string }{
		"dense module":   {"modules.json", `[{"path":"2_Dense","type":"sentence_transformers.models.Dense"}]`, "models.Dense"},
		"max pooling":    {"1_Pooling/config.json", `{"pooling_mode_max_tokens":true}`, "pooling_mode_max_tokens"},
		"two poolings":   {"1_Pooling/config.json", `{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":true}`, "2 pooling modes"},
		"path outside":   {"modules.json", `[{"path":"../x","type":"Pooling"}]`, "out of the folder"},
		"kept accents":   {"tokenizer_config.json", `{"do_lower_case":true,"strip_accents":false}`, "strip_accents"},
		"short texts":    {"sentence_bert_config.json", `{"max_seq_length":2}`, "max_tokens is 2"},
		"broken JSON":    {"config.json", `{`, "config.json"},
		"other sizes":    {"config.json", strings.Replace(m.golden.Metadata()["config"], `"hidden_size": 32`, `"hidden_size": 64`, 1), "has shape"},
		"fewer layers":   {"config.json", strings.Replace(m.golden.Metadata()["config"], `"num_hidden_layers": 2`, `"num_hidden_layers": 1`, 1), "no part of this encoder"},
		"long vocab":     {"vocab.txt", tinyVocab() + "one\ntwo\nthree\n", "vocabulary has 61 tokens"},
		"empty vocab":    {"vocab.txt", "", "vocab.txt"},
		"broken weights": {"model.safetensors", "x", "model.safetensors"},
	} {
		files := map[string]string{}
		for k, v := range sentenceFiles {
			files[k] = v
		}
		files[c.file] = c.text
		dir := writeFolder(t, m, files)
		if _, err := Open(dir, tensor.F32); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: error %v, want %q and the folder", name, err, c.want)
		}
		if _, _, err := Convert(dir, ConvertOptions{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: converted, with error %v, want %q", name, err, c.want)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none"), tensor.F32); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := Open("testdata/tiny-plain.safetensors", tensor.F32); err == nil || !strings.Contains(err.Error(), "arch") {
		t.Errorf("a file that is no expert: %v", err)
	}
}
