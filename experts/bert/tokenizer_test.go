package bert

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// unzip opens a file of testdata, or fails the test.
func unzip(t testing.TB, path string) io.Reader {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// uncased is the tokenizer of bert-base-uncased.
func uncased(t testing.TB, o TokenizerOptions) *Tokenizer {
	t.Helper()
	tok, err := ReadVocab(unzip(t, "testdata/vocab.txt.gz"), o)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

type tokenCase struct {
	Text  string
	Pair  *string
	Limit int
	IDs   []int32
	Types []int32
}

// The golden strings are compared on every run; TOKENIZER_CASES names a file of any number more.
func TestTokenizerAgreesWithTheOfficialOne(t *testing.T) {
	sources := []io.Reader{unzip(t, "testdata/tokens.jsonl.gz")}
	if path := os.Getenv("TOKENIZER_CASES"); path != "" {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		sources = append(sources, f)
	}
	tok := uncased(t, TokenizerOptions{})
	var ids, types []int32
	total, wrong := 0, 0
	for _, r := range sources {
		d := json.NewDecoder(r)
		for d.More() {
			var c tokenCase
			if err := d.Decode(&c); err != nil {
				t.Fatal(err)
			}
			total++
			if c.Pair != nil {
				ids, types = tok.EncodePair(ids[:0], types[:0], c.Text, *c.Pair, c.Limit)
			} else {
				ids, types = tok.Encode(ids[:0], c.Text, c.Limit), types[:0]
			}
			if !slices.Equal(ids, c.IDs) || !slices.Equal(types, c.Types) {
				if wrong++; wrong <= 10 {
					t.Errorf("%q: ids %v types %v, want %v %v", c.Text, ids, types, c.IDs, c.Types)
				}
			}
		}
	}
	t.Logf("%d strings, %d differ", total, wrong)
	if total < 2000 {
		t.Errorf("only %d strings were compared", total)
	}
}

func TestPlainTextReadsSpecialTokensAsText(t *testing.T) {
	plain, special := uncased(t, TokenizerOptions{PlainText: true}), uncased(t, TokenizerOptions{})
	if got := special.Append(nil, "a [SEP] b"); !slices.Contains(got, special.sep) {
		t.Errorf("[SEP] in the text is not the token: %v", got)
	}
	if got := plain.Append(nil, "a [SEP] b"); slices.Contains(got, plain.sep) {
		t.Errorf("[SEP] in plain text became the token: %v", got)
	}
}

func TestCasedKeepsCaseAndAccents(t *testing.T) {
	tok, err := ReadVocab(strings.NewReader("[PAD]\n[UNK]\n[CLS]\n[SEP]\nÉcole\necole\n"), TokenizerOptions{Cased: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := tok.Append(nil, "École ecole ECOLE"); !slices.Equal(got, []int32{4, 5, 1}) {
		t.Errorf("ids %v", got)
	}
}

func TestInvalidBytesAreDropped(t *testing.T) {
	tok := uncased(t, TokenizerOptions{})
	want := tok.Append(nil, "red heart")
	for _, s := range []string{"r\xffed heart", "red\xc3 heart", "\xf0\x9fred he\x80art\xe2"} {
		if got := tok.Append(nil, s); !slices.Equal(got, want) {
			t.Errorf("%q: ids %v, want %v", s, got, want)
		}
	}
}

func TestLimitCountsSpecialTokens(t *testing.T) {
	tok := uncased(t, TokenizerOptions{})
	text := strings.Repeat("red heart ", 1<<17)
	if got := tok.Encode(nil, text, 256); len(got) != 256 || got[0] != tok.cls || got[255] != tok.sep {
		t.Errorf("%d ids from %d to %d", len(got), got[0], got[len(got)-1])
	}
}

func TestASCIIDoesNotAllocate(t *testing.T) {
	tok := uncased(t, TokenizerOptions{})
	ids := make([]int32, 0, 64)
	if n := testing.AllocsPerRun(100, func() { ids = tok.Encode(ids[:0], "A red heart, naively drawn.", 64) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
	if n := testing.AllocsPerRun(100, func() { ids = tok.Encode(ids[:0], "Ein rotes Herz, schön 한국 漢字", 64) }); n != 0 {
		t.Errorf("%v allocations a call beyond ASCII", n)
	}
}

func TestReadVocabRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"empty":          {"", "no [PAD]"},
		"no unknown":     {"[PAD]\n[CLS]\n[SEP]\n", "no [UNK]"},
		"a long token":   {"[PAD]\n" + strings.Repeat("x", 2000) + "\n", "line 2: longer than 1024 bytes"},
		"too many lines": {strings.Repeat("\n", maxVocabTokens+1), "more than 1048576 tokens"},
		"too many bytes": {strings.Repeat(strings.Repeat("x", 1000)+"\n", 17000), "16777216 bytes"},
	} {
		if _, err := ReadVocab(strings.NewReader(c.text), TokenizerOptions{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

func FuzzTokenizer(f *testing.F) {
	for _, s := range []string{"red heart", "[CLS]naïve", "a\xffb", "한국어 ガ 漢字", strings.Repeat("é", 101), "\u037e\U0002f800"} {
		f.Add(s, s, 12)
	}
	tok := uncased(f, TokenizerOptions{})
	f.Fuzz(func(t *testing.T, a, b string, limit int) {
		ids := tok.Append(nil, a)
		for _, id := range ids {
			if id < 0 || int(id) >= tok.Size() {
				t.Fatalf("id %d of %d", id, tok.Size())
			}
		}
		if len(ids) > 3*utf8.RuneCountInString(a) { // a syllable folds to three jamo at most
			t.Fatalf("%d ids of %d characters", len(ids), utf8.RuneCountInString(a))
		}
		if valid := strings.ToValidUTF8(a, ""); !slices.Equal(ids, tok.Append(nil, valid)) && !strings.Contains(a, "[") {
			t.Fatalf("%q and %q differ", a, valid)
		}
		if limit >= 3 && limit < 1<<20 {
			pair, types := tok.EncodePair(nil, nil, a, b, limit)
			if len(pair) > limit || len(pair) != len(types) {
				t.Fatalf("%d ids and %d types of at most %d", len(pair), len(types), limit)
			}
		}
	})
}

func FuzzReadVocab(f *testing.F) {
	f.Add("[PAD]\n[UNK]\n[CLS]\n[SEP]\nred\n##s\n##\n\n", "reds")
	f.Fuzz(func(t *testing.T, vocab, text string) {
		tok, err := ReadVocab(strings.NewReader(vocab), TokenizerOptions{})
		if err != nil {
			return
		}
		for _, id := range tok.Encode(nil, text, 0) {
			if id < 0 || int(id) >= tok.Size() {
				t.Fatalf("id %d of %d", id, tok.Size())
			}
		}
	})
}

func BenchmarkTokenizer(b *testing.B) {
	tok := uncased(b, TokenizerOptions{})
	for name, text := range map[string]string{
		"english": "The quick brown fox jumps over the lazy dog, again; smiling face with heart-eyes. Unaffable embeddings! ",
		"german":  "Ein rotes Herz, schön gezeichnet für die Mädchen über den Dächern; größer und süßer als früher. ",
		"russian": "Красное сердце и улыбающееся лицо с глазами, очень красивое и большое, на белом фоне. ",
	} {
		b.Run("text="+name, func(b *testing.B) {
			text := strings.Repeat(text, 100)
			ids := tok.Append(nil, text)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				ids = tok.Append(ids[:0], text)
			}
		})
	}
}

func BenchmarkReadVocab(b *testing.B) {
	vocab, err := io.ReadAll(unzip(b, "testdata/vocab.txt.gz"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := ReadVocab(bytes.NewReader(vocab), TokenizerOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
