package ptx

import (
	"fmt"
	"strconv"
	"strings"
)

// SyntaxError says where a PTX text is not what this package understands.
type SyntaxError struct {
	File string
	Line int
	Msg  string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg) }

// tokenKind tells tokens apart.
type tokenKind uint8

const (
	end     tokenKind = iota
	word              // a name, register, directive or opcode with all its modifiers: %r1, .reg, ld.global.f32
	integer           // bits
	float             // bits of a float64, or of a float32 where text begins with 0f
	quoted            // text without its quotes
	punct             // one character
)

type token struct {
	kind tokenKind
	line int
	text string
	bits uint64
}

// lexer cuts a text into tokens; the parser takes them one by one.
type lexer struct {
	file string
	src  string
	pos  int
	line int
}

func (x *lexer) fail(line int, format string, args ...any) error {
	return &SyntaxError{x.file, line, fmt.Sprintf(format, args...)}
}

func wordStart(c byte) bool {
	return c == '_' || c == '$' || c == '%' || c == '.' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// space skips blanks and comments.
func (x *lexer) space() error {
	for x.pos < len(x.src) {
		rest := x.src[x.pos:]
		switch c := rest[0]; {
		case c == '\n':
			x.line++
			x.pos++
		case c == ' ' || c == '\t' || c == '\r':
			x.pos++
		case strings.HasPrefix(rest, "//"):
			n := strings.IndexByte(rest, '\n')
			if n < 0 {
				n = len(rest)
			}
			x.pos += n
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest, "*/")
			if n < 0 {
				return x.fail(x.line, "comment without end")
			}
			x.line += strings.Count(rest[:n], "\n")
			x.pos += n + 2
		default:
			return nil
		}
	}
	return nil
}

func (x *lexer) next() (token, error) {
	if err := x.space(); err != nil {
		return token{}, err
	}
	t := token{line: x.line}
	if x.pos == len(x.src) {
		return t, nil
	}
	start, c := x.pos, x.src[x.pos]
	switch {
	case wordStart(c):
		x.pos++
		for x.pos < len(x.src) {
			c := x.src[x.pos]
			if wordStart(c) && c != '%' || digit(c) {
				x.pos++
			} else if strings.HasPrefix(x.src[x.pos:], "::") { // .shared::cta
				x.pos += 2
			} else {
				break
			}
		}
		t.kind, t.text = word, x.src[start:x.pos]
	case digit(c):
		return x.number(t)
	case c == '"':
		n := strings.IndexAny(x.src[x.pos+1:], "\"\n")
		if n < 0 || x.src[x.pos+1+n] == '\n' {
			return t, x.fail(t.line, "string without end")
		}
		x.pos += n + 2
		t.kind, t.text = quoted, x.src[start+1:x.pos-1]
	default:
		x.pos++
		t.kind, t.text = punct, x.src[start:x.pos]
	}
	return t, nil
}

// number reads 12, 0x1f, 017, 0b1, 12U, 1.5e3, 0f3f800000 and 0d3ff0000000000000.
func (x *lexer) number(t token) (token, error) {
	start := x.pos
	for x.pos < len(x.src) {
		c := x.src[x.pos]
		exponent := (c == '+' || c == '-') && (x.src[x.pos-1] == 'e' || x.src[x.pos-1] == 'E') && !strings.HasPrefix(x.src[start:], "0x")
		if !digit(c) && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && c != '.' && !exponent {
			break
		}
		x.pos++
	}
	t.text = x.src[start:x.pos]
	low := strings.ToLower(t.text)
	var err error
	switch {
	case strings.HasPrefix(low, "0f"), strings.HasPrefix(low, "0d"):
		t.kind, t.text = float, low
		size := 32
		if low[1] == 'd' {
			size = 64
		}
		if len(low) != 2+size/4 {
			return t, x.fail(t.line, "bad number %s", t.text)
		}
		t.bits, err = strconv.ParseUint(low[2:], 16, size)
	case !strings.HasPrefix(low, "0x") && strings.ContainsAny(low, ".e"):
		t.kind = float
		var v float64
		v, err = strconv.ParseFloat(low, 64)
		t.bits = float64bits(v)
	default:
		t.kind = integer
		t.bits, err = strconv.ParseUint(strings.TrimSuffix(low, "u"), 0, 64)
	}
	if err != nil {
		return t, x.fail(t.line, "bad number %s", t.text)
	}
	return t, nil
}
