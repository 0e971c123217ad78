package bert

import (
	_ "embed"
	"strconv"
	"strings"
	"unicode/utf8"
)

// unicode.txt is the Unicode that the official tokenizers library was built with, which is that of no single version of
// the standard: its categories are frozen near Unicode 8, its case folding is newer. Go's tables give other token ids
// for hundreds of code points today and would for others after an upgrade, so the table is shipped.
//
//go:embed unicode.txt
var unicodeText string

// kind says what the tokenizer does with a code point.
type kind uint8

const (
	letter      kind = iota // belongs to a word
	drop                    // control and format characters: as if not there
	space                   // ends a word
	cjk                     // a word of its own
	mark                    // an accent: dropped when accents are stripped, else a letter
	punctuation             // a word of its own

	folds    kind = 1 << 3 // flag: another string stands for it once folded
	kindMask      = folds - 1
)

var kindNames = map[string]kind{"drop": drop, "space": space, "cjk": cjk, "mark": mark, "punctuation": punctuation}

// codepoints is unicode.txt as a two-stage table, since most blocks of 256 are alike.
type codepoints struct {
	stage  [(utf8.MaxRune + 1) >> 8]uint8
	blocks [][256]kind
	fold   map[rune]string
}

func (u *codepoints) kind(r rune) kind { return u.blocks[u.stage[r>>8]][r&255] }

// parseCodepoints reads unicode.txt. Its folds come first, so that blocks without one can be shared.
func parseCodepoints(text string) *codepoints {
	u := &codepoints{blocks: make([][256]kind, 1), fold: make(map[rune]string, 1<<12)} // block 0 is all letters
	for r := 'A'; r <= 'Z'; r++ {
		u.fold[r] = string(r + 'a' - 'A')
	}
	for line := range strings.Lines(text) {
		if list, ok := strings.CutPrefix(line, "fold "); ok {
			for pair := range strings.FieldsSeq(list) {
				r, n := utf8.DecodeRuneInString(pair)
				u.fold[r] = pair[n:]
			}
		}
	}
	for r := range u.fold {
		u.add(r, r, folds)
	}
	u.add(hangulFirst, hangulLast, folds)
	for line := range strings.Lines(text) {
		name, list, _ := strings.Cut(line, " ")
		k, ok := kindNames[name]
		if !ok {
			continue
		}
		for r := range strings.FieldsSeq(list) {
			lo, hi, isRange := strings.Cut(r, "-")
			if !isRange {
				hi = lo
			}
			u.add(codepoint(lo), codepoint(hi), k)
		}
	}
	return u
}

func codepoint(s string) rune {
	v, err := strconv.ParseUint(s, 16, 21)
	if err != nil {
		panic("bert: unicode.txt is damaged")
	}
	return rune(v)
}

// add marks the code points lo to hi as k, block by block; blocks that are k throughout share one.
func (u *codepoints) add(lo, hi rune, k kind) {
	whole := uint8(0)
	for block := lo >> 8; block <= hi>>8; block++ {
		first, last := max(lo, block<<8), min(hi, block<<8|255)
		full := last-first == 255 && u.stage[block] == 0
		if full && whole > 0 {
			u.stage[block] = whole
			continue
		}
		if u.stage[block] == 0 {
			if len(u.blocks) == 256 {
				panic("bert: unicode.txt needs more than 256 blocks")
			}
			u.stage[block] = uint8(len(u.blocks))
			u.blocks = append(u.blocks, [256]kind{})
		}
		for r := first; r <= last; r++ {
			u.blocks[u.stage[block]][r&255] |= k
		}
		if full {
			whole = u.stage[block]
		}
	}
}

// Hangul syllables are decomposed by rule (The Unicode Standard, section 3.12).
const (
	hangulFirst, hangulLast = 0xAC00, 0xD7A3
	jamoL, jamoV, jamoT     = 0x1100, 0x1161, 0x11A7 // the first of each, one before the first T
	jamoTs, jamoVTs         = 28, 21 * 28            // syllables to a vowel, to a leading consonant
)

// appendFold appends what stands for r, which folds, when accents are stripped and case is folded.
//
// Marks are not put into canonical order: nearly all are dropped, and the few that are kept (Hangul tone marks, musical
// stems) are in no vocabulary, so that their word is [UNK] in any order.
func (u *codepoints) appendFold(dst []byte, r rune) []byte {
	if r < hangulFirst || r > hangulLast {
		return append(dst, u.fold[r]...)
	}
	s := r - hangulFirst
	dst = utf8.AppendRune(dst, jamoL+s/jamoVTs)
	dst = utf8.AppendRune(dst, jamoV+s%jamoVTs/jamoTs)
	if t := s % jamoTs; t > 0 {
		dst = utf8.AppendRune(dst, jamoT+t)
	}
	return dst
}
