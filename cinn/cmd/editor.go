package main

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// editor is a line that a person types: it takes the bytes that a terminal in raw mode sends and knows nothing of the
// terminal otherwise. Keys: arrows, Home, End, Delete, Backspace, and of Emacs Ctrl-A, B, E, F, K, N, P, U, W.
type editor struct {
	line   []rune
	at     int      // the cursor, 0..len(line)
	past   []string // earlier lines, oldest first
	recall int      // which of past is shown; len(past) is the line that is being typed
	typed  []rune   // that line, while an earlier one is shown

	partial []byte // an escape sequence or a character that is not complete yet
}

// key is what a byte completed.
type key int

const (
	keyNone  key = iota // nothing that shows
	keyEdit             // the line or the cursor changed
	keyEnter            // the line is done
	keyLeave            // Ctrl-C, or Ctrl-D on an empty line
)

func control(letter byte) byte { return letter & 0x1f }

// feed takes one byte.
func (e *editor) feed(b byte) key {
	if len(e.partial) > 0 && e.partial[0] == esc {
		return e.escape(b)
	}
	if len(e.partial) > 0 || b >= utf8.RuneSelf {
		return e.character(b)
	}
	switch b {
	case '\r', '\n':
		return keyEnter
	case control('C'):
		return keyLeave
	case control('D'):
		if len(e.line) == 0 {
			return keyLeave
		}
		return e.erase(e.at, e.at+1)
	case esc:
		e.partial = append(e.partial, b)
		return keyNone
	case 0x7f, control('H'):
		return e.erase(e.at-1, e.at)
	case control('A'):
		return e.move(0)
	case control('E'):
		return e.move(len(e.line))
	case control('B'):
		return e.move(e.at - 1)
	case control('F'):
		return e.move(e.at + 1)
	case control('K'):
		return e.erase(e.at, len(e.line))
	case control('U'):
		return e.erase(0, e.at)
	case control('W'):
		return e.erase(e.wordStart(), e.at)
	case control('P'):
		return e.show(e.recall - 1)
	case control('N'):
		return e.show(e.recall + 1)
	}
	if b < ' ' {
		return keyNone
	}
	return e.insert(rune(b))
}

const esc = 0x1b

// escape collects ESC [ parameters final, or ESC O final (ECMA-48, 5.4). ESC and anything else is dropped.
func (e *editor) escape(b byte) key {
	e.partial = append(e.partial, b)
	switch {
	case len(e.partial) == 2 && (b == '[' || b == 'O'):
		return keyNone
	case len(e.partial) > 2 && 0x20 <= b && b < 0x40 && len(e.partial) < 16:
		return keyNone
	}
	sequence := string(e.partial[1:])
	e.partial = e.partial[:0]
	switch sequence {
	case "[A", "OA":
		return e.show(e.recall - 1)
	case "[B", "OB":
		return e.show(e.recall + 1)
	case "[C", "OC":
		return e.move(e.at + 1)
	case "[D", "OD":
		return e.move(e.at - 1)
	case "[H", "OH", "[1~", "[7~":
		return e.move(0)
	case "[F", "OF", "[4~", "[8~":
		return e.move(len(e.line))
	case "[3~":
		return e.erase(e.at, e.at+1)
	}
	return keyNone
}

// character collects the bytes of one UTF-8 character. Bytes that are none are dropped.
func (e *editor) character(b byte) key {
	e.partial = append(e.partial, b)
	if !utf8.FullRune(e.partial) {
		return keyNone
	}
	r, size := utf8.DecodeRune(e.partial)
	broken := r == utf8.RuneError && size == 1
	e.partial = e.partial[:0]
	if !broken {
		return e.insert(r)
	}
	if b < utf8.RuneSelf { // it cut the character short, and counts for itself
		return e.feed(b)
	}
	return keyNone
}

// maxLine is far more than anybody types; it bounds what a pasted file costs.
const maxLine = 4096

func (e *editor) insert(r rune) key {
	if unicode.IsControl(r) || len(e.line) >= maxLine {
		return keyNone
	}
	e.line = slices.Insert(e.line, e.at, r)
	e.at++
	return keyEdit
}

func (e *editor) erase(from, to int) key {
	from, to = max(from, 0), min(to, len(e.line))
	if from >= to {
		return keyNone
	}
	e.line = slices.Delete(e.line, from, to)
	e.at = from
	return keyEdit
}

func (e *editor) move(at int) key {
	if at < 0 || at > len(e.line) || at == e.at {
		return keyNone
	}
	e.at = at
	return keyEdit
}

// wordStart is where the word before the cursor begins.
func (e *editor) wordStart() int {
	i := e.at
	for i > 0 && e.line[i-1] == ' ' {
		i--
	}
	for i > 0 && e.line[i-1] != ' ' {
		i--
	}
	return i
}

// show puts an earlier line into the editor, or back the one that was being typed.
func (e *editor) show(i int) key {
	if i < 0 || i > len(e.past) {
		return keyNone
	}
	if e.recall == len(e.past) {
		e.typed = e.line
	}
	if e.recall = i; i == len(e.past) {
		e.line = e.typed
	} else {
		e.line = []rune(e.past[i])
	}
	e.at = len(e.line)
	return keyEdit
}

// take returns the line without spaces around it, and begins an empty one.
func (e *editor) take() string {
	text := strings.TrimSpace(string(e.line))
	e.line, e.typed, e.at, e.recall = nil, nil, 0, len(e.past)
	return text
}

// remember adds text to the earlier lines, unless it is the last of them.
func (e *editor) remember(text string) {
	if len(e.past) == 0 || e.past[len(e.past)-1] != text {
		e.past = append(e.past, text)
	}
	e.recall = len(e.past)
}

// view returns the part of the line that fits into columns, cut at the cursor.
func (e *editor) view(columns int) (before, after string) {
	from, used := e.at, 0
	for from > 0 && used+cells(e.line[from-1]) <= columns-1 { // the cursor itself takes a column
		from--
		used += cells(e.line[from])
	}
	to := e.at
	for to < len(e.line) && used+cells(e.line[to]) <= columns {
		used += cells(e.line[to])
		to++
	}
	return string(e.line[from:e.at]), string(e.line[e.at:to])
}

// cells is how many columns a terminal gives to r (Unicode Standard Annex 11, roughly).
func cells(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana), r >= 0x1f300 && r < 0x1fb00, r >= 0xff01 && r < 0xff61:
		return 2
	}
	return 1
}
