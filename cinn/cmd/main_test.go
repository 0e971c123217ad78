package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"slices"
	"strings"
	"testing"
)

// commandLine runs the program in a folder of its own, with nothing to read.
func commandLine(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &out, &err)
	return code, out.String(), err.String()
}

func TestTheFirstArgumentAloneNamesACommand(t *testing.T) {
	for _, test := range []struct {
		args []string
		name string
		rest []string
	}{
		{nil, "generate", nil},
		{[]string{"red", "heart"}, "generate", []string{"red", "heart"}},
		{[]string{"generate", "version"}, "generate", []string{"version"}},
		{[]string{"version"}, "version", []string{}},
		{[]string{"version", "x"}, "version", []string{"x"}},
		{[]string{"-n", "1", "version"}, "generate", []string{"-n", "1", "version"}},
		{[]string{"Version"}, "generate", []string{"Version"}},
		{[]string{"--", "version"}, "generate", []string{"--", "version"}},
		{[]string{"-h"}, "help", []string{}},
		{[]string{"--help", "embed"}, "help", []string{"embed"}},
		{[]string{"--version"}, "version", []string{}},
	} {
		name, rest := choose(test.args)
		if name != test.name || !slices.Equal(rest, test.rest) {
			t.Errorf("%q: got %s %q, want %s %q", test.args, name, rest, test.name, test.rest)
		}
	}
}

func TestFlagsStandAnywhereAndTwoDashesEndThem(t *testing.T) {
	for _, test := range []struct {
		args, words string
		n           int
		ok          bool
	}{
		{"-n 3 red heart", "red|heart", 3, true},
		{"red heart -n 3", "red|heart", 3, true},
		{"red -n=3 heart -b", "red|heart", 3, true},
		{"red --n 3 heart", "red|heart", 3, true},
		{"-n 3 -- red -n 4", "red|-n|4", 3, true},
		{"red -- -n 4 -- x", "red|-n|4|--|x", 8, true},
		{"-", "-", 8, true},
		{"", "", 8, true},
		{"red -n", "", 8, false},
		{"red -z", "", 8, false},
		{"red -n x", "", 8, false},
	} {
		f := flag.NewFlagSet("test", flag.ContinueOnError)
		f.SetOutput(io.Discard)
		n := f.Int("n", 8, "")
		f.Bool("b", false, "")
		words, err := parse(f, strings.Fields(test.args))
		if (err == nil) != test.ok {
			t.Errorf("%q: %v", test.args, err)
			continue
		}
		if got := strings.Join(words, "|"); test.ok && (got != test.words || *n != test.n) {
			t.Errorf("%q: got %q and n = %d, want %q and %d", test.args, got, *n, test.words, test.n)
		}
	}
}

func TestWrongCommandLinesExitWithTwoAndTeach(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{}, "no prompt"},
		{[]string{"generate"}, "no prompt"},
		{[]string{"-n", "0", "x"}, "-n 0"},
		{[]string{"-n", "1025", "x"}, "-n 1025"},
		{[]string{"-n", "many", "x"}, "many"},
		{[]string{"-scale", "-1", "x"}, "-scale -1"},
		{[]string{"-scale", "65", "x"}, "-scale 65"},
		{[]string{"-workers", "-1", "x"}, "-workers -1"},
		{[]string{"-precision", "fp8", "x"}, "f32, bf16 or int8"},
		{[]string{"-backend", "gpu", "x"}, "cpu or cuda"},
		{[]string{"eval", "-precision", ""}, "f32, bf16 or int8"},
		{[]string{"-temperature", "-1", "x"}, "temperature"},
		{[]string{"-temperature", "nan", "x"}, "temperature"},
		{[]string{"-guidance", "inf", "x"}, "guidance"},
		{[]string{"-guidance", "1e39", "x"}, "guidance"},
		{[]string{"-seed", "-1", "x"}, "seed"},
		{[]string{"-seed", "18446744073709551616", "x"}, "seed"},
		{[]string{"-json", "-o", "-", "x"}, "standard output"},
		{[]string{"-f", "x"}, "-o FILE"},
		{[]string{"-colour", "x"}, "-colour"},
		{[]string{"embed"}, "no text"},
		{[]string{"inspect"}, "one file"},
		{[]string{"inspect", "a", "b"}, "one file"},
		{[]string{"version", "x"}, "no arguments"},
		{[]string{"convert", "folder"}, "-o FILE"},
		{[]string{"convert", "-arch", "net2net", "-dtype", "int8", "last.ckpt", "-o", "x"}, "f32 or bf16"},
		{[]string{"pack", "-o", "x"}, "-source"},
		{[]string{"pairs"}, "-data"},
		{[]string{"help", "nothing"}, "nothing"},
	} {
		code, stdout, stderr := commandLine(t, test.args...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, test.want) || !strings.Contains(stderr, "usage: cinn ") {
			t.Errorf("%q: exit %d, stdout %q, stderr %q; want %q", test.args, code, stdout, stderr, test.want)
		}
	}
}

func TestCommandsWithoutArgumentsSayHowToDrawThem(t *testing.T) {
	for _, c := range commands() {
		code, _, stderr := commandLine(t, c.name, "-no-such-flag")
		want := "to draw one: cinn generate " + c.name + "\n"
		if code != exitUsage || strings.Contains(stderr, want) != (c.name != "generate") {
			t.Errorf("%s: exit %d, %q", c.name, code, stderr)
		}
	}
	if _, _, stderr := commandLine(t, "version", "of", "me"); !strings.Contains(stderr, "cinn generate version of me\n") {
		t.Errorf("%q", stderr)
	}
}

func TestHelpShowsEveryCommandAndFlag(t *testing.T) {
	_, overview, _ := commandLine(t, "help")
	for _, c := range commands() {
		if !strings.Contains(overview, "\n  "+c.name+" ") {
			t.Errorf("help does not list %s", c.name)
		}
		for _, args := range [][]string{{"help", c.name}, {c.name, "-h"}, {c.name, "-help"}} {
			code, text, stderr := commandLine(t, args...)
			if code != exitOK || stderr != "" || !strings.HasPrefix(text, "usage: cinn "+c.name) || !strings.Contains(text, "\n  cinn "+c.name) && c.name != "generate" {
				t.Errorf("%q: exit %d, %q, %q", args, code, text, stderr)
			}
			flags, _ := c.flags()
			flags.VisitAll(func(f *flag.Flag) {
				if !strings.Contains(text, "\n  -"+f.Name+" ") || f.Usage == "" {
					t.Errorf("%q does not explain -%s", args, f.Name)
				}
			})
		}
	}
}

// brokenPipe takes a few bytes and then fails.
type brokenPipe struct{ left int }

var errPipe = errors.New("broken pipe")

func (p *brokenPipe) Write(b []byte) (int, error) {
	if len(b) <= p.left {
		p.left -= len(b)
		return len(b), nil
	}
	n := p.left
	p.left = 0
	return n, errPipe
}

func TestABrokenPipeIsAnError(t *testing.T) {
	var stderr bytes.Buffer
	code := run(context.Background(), []string{"version", "-licences"}, strings.NewReader(""), &brokenPipe{100}, &stderr)
	if code != exitError || stderr.String() != "cinn: standard output: broken pipe\n" {
		t.Errorf("exit %d, %q", code, stderr.String())
	}
}
