package bert

import (
	"fmt"
	"io"
	"math"
	"unicode/utf8"
)

// maxWordRunes is the longest word, in code points after folding, that WordPiece takes apart; longer ones are [UNK].
const maxWordRunes = 100

// Tokenizer is BERT's WordPiece (Devlin et al. 2018), with the token ids of the official "fast" tokenizer for every
// input, invalid UTF-8 among it (an invalid byte is dropped). It never changes: goroutines may share one.
type Tokenizer struct {
	trie    *trie
	unicode *codepoints
	ascii   [128]kind // unicode's, at hand
	lower   [256]byte // ASCII upper case to lower, unless cased
	size    int       // tokens in the vocabulary
	special []addedToken

	unk, cls, sep int32
	cased         bool
}

// TokenizerOptions differ from one checkpoint to another; the zero value is right for the uncased ones.
type TokenizerOptions struct {
	// Cased keeps case and accents.
	Cased bool
	// PlainText reads "[SEP]" and the like in a text as text. Otherwise they become those tokens, as the official
	// tokenizer has it, which lets whoever writes the text end its sentence early.
	PlainText bool
}

type addedToken struct {
	text string
	id   int32
}

// ReadVocab makes a Tokenizer from a vocab.txt, one token a line. It fails on a vocabulary that is too large, or that
// lacks [PAD], [UNK], [CLS] or [SEP].
func ReadVocab(r io.Reader, o TokenizerOptions) (*Tokenizer, error) {
	tokens, err := readTokens(r)
	if err != nil {
		return nil, err
	}
	t := &Tokenizer{unicode: parseCodepoints(unicodeText), size: len(tokens), cased: o.Cased}
	ids := map[string]int32{"[PAD]": -1, "[UNK]": -1, "[CLS]": -1, "[SEP]": -1, "[MASK]": -1}
	for id, token := range tokens {
		if _, ok := ids[token]; ok {
			ids[token] = int32(id)
		}
	}
	for _, name := range []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"} {
		if ids[name] < 0 && name != "[MASK]" {
			return nil, fmt.Errorf("vocabulary: no %s among its %d tokens", name, len(tokens))
		}
		if ids[name] >= 0 && !o.PlainText {
			t.special = append(t.special, addedToken{name, ids[name]})
		}
	}
	t.unk, t.cls, t.sep = ids["[UNK]"], ids["[CLS]"], ids["[SEP]"]
	t.trie = newTrie(tokens)
	for i := range t.lower {
		t.lower[i] = byte(i)
		if !o.Cased && i >= 'A' && i <= 'Z' {
			t.lower[i] = byte(i) + 'a' - 'A'
		}
	}
	for i := range t.ascii {
		t.ascii[i] = t.unicode.kind(rune(i)) & kindMask
	}
	return t, nil
}

// Size is how many tokens the vocabulary has; ids are below it.
func (t *Tokenizer) Size() int { return t.size }

// Encode appends [CLS] text [SEP], cut on the right to at most limit ids (limit >= 2, or 0 for none).
func (t *Tokenizer) Encode(ids []int32, text string, limit int) []int32 {
	ids = append(ids, t.cls)
	room := math.MaxInt
	if limit > 0 {
		room = len(ids) + max(limit-2, 0)
	}
	ids = t.append(ids, text, room)
	return append(ids[:min(len(ids), room)], t.sep)
}

// EncodePair appends [CLS] a [SEP] b [SEP] to ids and, for each, its token type (0 up to the first [SEP], then 1) to
// types. Of a pair longer than limit (>= 3, or 0 for none) the longer text is cut first, then both to half.
func (t *Tokenizer) EncodePair(ids, types []int32, a, b string, limit int) ([]int32, []int32) {
	begin := len(ids)
	ids = append(ids, t.cls)
	ids = t.Append(ids, a)
	split := len(ids)
	ids = t.Append(ids, b)
	na, nb := split-begin-1, len(ids)-split
	if limit > 0 {
		na, nb = longestFirst(na, nb, max(limit-3, 0))
	}
	ids = append(ids[:split+nb], t.sep, t.sep) // room for both
	copy(ids[begin+1+na+1:], ids[split:split+nb])
	ids = ids[:begin+na+nb+3]
	ids[begin+1+na], ids[len(ids)-1] = t.sep, t.sep
	for i := range na + nb + 3 {
		kind := int32(0)
		if i > na+1 {
			kind = 1
		}
		types = append(types, kind)
	}
	return ids, types
}

// longestFirst cuts two lengths so that together they are at most room.
func longestFirst(a, b, room int) (int, int) {
	if a+b <= room {
		return a, b
	}
	half := room / 2
	switch {
	case a <= b && a <= half:
		return a, room - a
	case b < a && b <= half:
		return room - b, b
	case a <= b:
		return half, room - half
	default:
		return room - half, half
	}
}

// Append appends the ids of text, without [CLS] and [SEP]. It allocates only where ids must grow.
func (t *Tokenizer) Append(ids []int32, text string) []int32 { return t.append(ids, text, math.MaxInt) }

// maxOvershoot is more than the ids of a word and of what else append may add before it sees that there are enough.
const maxOvershoot = maxWordRunes + 4

// append stops soon after ids has room entries, so that a long text costs no more than what is used of it.
func (t *Tokenizer) append(ids []int32, text string, room int) []int32 {
	begin := 0
	for i := 0; i < len(text) && len(t.special) > 0 && len(ids) < room; i++ {
		if text[i] != '[' {
			continue
		}
		for _, s := range t.special {
			if n := len(s.text); len(text)-i >= n && text[i:i+n] == s.text {
				ids = append(t.words(ids, text[begin:i], room), s.id)
				begin = i + n
				i = begin - 1
				break
			}
		}
	}
	return t.words(ids, text[begin:], room)
}

// words appends the ids of text, in which nothing is special. Words of plain ASCII are matched where they lie; from
// the first character on that needs more, fold takes over up to the next space.
func (t *Tokenizer) words(ids []int32, text string, room int) []int32 {
	for i := 0; i < len(text) && len(ids) < room; {
		j := i
		for j < len(text) && text[j] < utf8.RuneSelf && t.ascii[text[j]] == letter {
			j++
		}
		switch {
		case j < len(text) && (text[j] >= utf8.RuneSelf || t.ascii[text[j]] == drop):
			var n int
			ids, n = t.fold(ids, text[i:], room)
			i += n
			continue
		case j > i:
			ids = pieces(t, ids, text[i:j], j-i)
		}
		if j < len(text) && t.ascii[text[j]] == punctuation {
			ids = pieces(t, ids, text[j:j+1], 1)
		}
		i = j + 1
	}
	return ids
}

// word gathers the folded bytes of one word, and counts its code points past the point where the bytes matter.
type word struct {
	bytes [(maxWordRunes + 1) * utf8.UTFMax]byte
	n     int
	runes int
}

func (w *word) add(r rune) {
	if w.runes++; w.runes <= maxWordRunes {
		w.n += utf8.EncodeRune(w.bytes[w.n:], r)
	}
}

// fold appends the ids of text up to its first ASCII space, and returns how many bytes that was.
func (t *Tokenizer) fold(ids []int32, text string, room int) ([]int32, int) {
	var w word
	var folded [64]byte
	for i, r := range text { // an invalid byte reads as U+FFFD, which is dropped
		if len(ids) >= room {
			return ids, i
		}
		k := t.unicode.kind(r)
		switch k & kindMask {
		case drop:
			continue
		case space:
			ids = t.flush(ids, &w)
			if r < utf8.RuneSelf {
				return ids, i + 1
			}
			continue
		case cjk:
			ids = t.flush(ids, &w)
		}
		if k&folds == 0 || t.cased {
			ids = t.put(ids, &w, r)
		} else {
			for _, f := range string(t.unicode.appendFold(folded[:0], r)) {
				ids = t.put(ids, &w, f)
			}
		}
		if k&kindMask == cjk {
			ids = t.flush(ids, &w)
		}
	}
	return t.flush(ids, &w), len(text)
}

// put adds a folded code point to the word, or ends the word at it.
func (t *Tokenizer) put(ids []int32, w *word, r rune) []int32 {
	switch t.unicode.kind(r) & kindMask {
	case mark:
		if t.cased {
			w.add(r)
		}
	case punctuation:
		ids = t.flush(ids, w)
		w.add(r)
		ids = t.flush(ids, w)
	default:
		w.add(r)
	}
	return ids
}

// flush ends the word.
func (t *Tokenizer) flush(ids []int32, w *word) []int32 {
	if w.runes > 0 {
		ids = pieces(t, ids, w.bytes[:w.n], w.runes)
		w.n, w.runes = 0, 0
	}
	return ids
}

// pieces appends the tokens of one word: from the left the longest that fits, each after the first with "##" before
// it. A word that is too long, or of which some part fits nothing, is one [UNK].
func pieces[S string | []byte](t *Tokenizer, ids []int32, w S, runes int) []int32 {
	if runes > maxWordRunes {
		return append(ids, t.unk)
	}
	begin, root := len(ids), uint32(rootInitial)
	for i := 0; i < len(w); {
		node, id, end := root, int32(-1), i
		for j := i; j < len(w); j++ {
			e := t.trie.find(node, t.lower[w[j]])
			if e.key == 0 {
				break
			}
			node = e.to
			if t.trie.ids[node] >= 0 {
				id, end = t.trie.ids[node], j+1
			}
		}
		if id < 0 {
			return append(ids[:begin], t.unk)
		}
		ids = append(ids, id)
		i, root = end, rootContinuation
	}
	return ids
}
