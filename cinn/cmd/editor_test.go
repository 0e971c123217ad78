package main

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// typeKeys feeds text and returns what the last byte completed.
func typeKeys(e *editor, text string) key {
	k := keyNone
	for i := range len(text) {
		k = e.feed(text[i])
	}
	return k
}

const (
	up, down, right, left = "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D"
	home, end, del        = "\x1b[H", "\x1b[F", "\x1b[3~"
)

func TestEditorKeys(t *testing.T) {
	for keys, want := range map[string]string{ // | is the cursor
		"red":                          "red|",
		"red\x7f":                      "re|",
		"\x7f\b":                       "|",
		"red" + left + left + "o":      "ro|ed",
		"red" + left + "\x7f":          "r|d",
		"red" + home + del:             "|ed",
		"red" + home + "a" + end + "z": "ared" + "z|",
		"red\x01\x06\x0b":              "r|",
		"red\x02\x15":                  "|d",
		"red heart  \x17":              "red |",
		"red\x01\x04":                  "|ed",
		"\x1bOA\x1bOCx":                "x|",
		"\x1b[1;5Cx\x1bqy":             "xy|",
		"a\tb\x00c":                    "abc|",
		"größe":                        "größe|",
		"größe" + left + left + "\x7f": "gr|ße",
		"赤い❤":                          "赤い❤|",
		"\xff\x80a\xc3b":               "ab|",
		"\xe2\x9d" + up + "x":          "x|",
		"\u009bx":                      "x|",
	} {
		var e editor
		typeKeys(&e, keys)
		if got := string(e.line[:e.at]) + "|" + string(e.line[e.at:]); got != want {
			t.Errorf("%q: got %q, want %q", keys, got, want)
		}
	}
}

func TestEditorEnds(t *testing.T) {
	for keys, want := range map[string]key{
		"x\r": keyEnter, "x\n": keyEnter, "x\x03": keyLeave, "\x04": keyLeave, "x\x04": keyNone, "x": keyEdit, "\x1b[": keyNone,
	} {
		if got := typeKeys(new(editor), keys); got != want {
			t.Errorf("%q: got %d, want %d", keys, got, want)
		}
	}
}

func TestEditorHistory(t *testing.T) {
	var e editor
	for _, line := range []string{" one ", "two", "two"} {
		typeKeys(&e, line+"\r")
		e.remember(e.take())
	}
	for _, step := range []struct{ keys, want string }{
		{"new", "new"}, {up, "two"}, {up, "one"}, {up, "one"}, {down, "two"}, {down, "new"}, {down, "new"},
		{"\x10\x10", "one"}, {"s", "ones"}, {"\x0e\x0e", "new"}, {"er", "newer"}, {up + up, "one"},
	} {
		typeKeys(&e, step.keys)
		if got := string(e.line); got != step.want {
			t.Fatalf("%q: got %q, want %q", step.keys, got, step.want)
		}
	}
	if got := e.take(); got != "one" || len(e.line) != 0 || e.at != 0 {
		t.Errorf("took %q", got)
	}
	typeKeys(&e, up)
	if got := string(e.line); got != "two" {
		t.Errorf("after taking a line, the last one is %q", got)
	}
}

func TestEditorViewFollowsTheCursor(t *testing.T) {
	var e editor
	typeKeys(&e, "abcdefgh")
	for _, step := range []struct{ keys, before, after string }{
		{"", "efgh", ""}, {left, "defg", "h"}, {home, "", "abcde"}, {"赤", "赤", "abc"}, {"い", "赤い", "a"}, {"x", "いx", "ab"},
	} {
		typeKeys(&e, step.keys)
		if before, after := e.view(5); before != step.before || after != step.after {
			t.Errorf("%q: got %q, %q, want %q, %q", step.keys, before, after, step.before, step.after)
		}
	}
}

func FuzzEditor(f *testing.F) {
	f.Add("red" + left + up + "\r\x1b[3~ä\xff")
	f.Fuzz(func(t *testing.T, keys string) {
		var e editor
		for i := range len(keys) {
			if e.feed(keys[i]) == keyEnter {
				e.remember(e.take())
			}
			if e.at < 0 || e.at > len(e.line) || len(e.line) > maxLine || len(e.partial) > 16 {
				t.Fatalf("cursor at %d of %d, %d bytes pending", e.at, len(e.line), len(e.partial))
			}
			before, after := e.view(10)
			if !utf8.ValidString(before+after) || strings.ContainsAny(before+after, "\x1b\r\n") {
				t.Fatalf("shows %q %q", before, after)
			}
		}
	})
}
