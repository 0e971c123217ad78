//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pty opens a terminal of 80 columns: what is written to keys is typed, what the program prints is read from it.
func pty(t *testing.T) (keys, terminal *os.File) {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo terminals here: ", err)
	}
	t.Cleanup(func() { keys.Close() })
	if err := unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Skip("no pseudo terminals here: ", err)
	}
	number, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo terminals here: ", err)
	}
	t.Cleanup(func() { terminal.Close() })
	if err := unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	return keys, terminal
}

// seen collects what the program prints.
type seen struct {
	sync.Mutex
	text strings.Builder
}

func watch(r io.Reader) *seen {
	s := new(seen)
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := r.Read(b)
			s.Lock()
			s.text.Write(b[:n])
			s.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

// wait returns all that was printed once it holds want n times.
func (s *seen) wait(t *testing.T, want string, n int) string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		s.Lock()
		text := s.text.String()
		s.Unlock()
		if strings.Count(text, want) >= n {
			return text
		}
		if time.Now().After(deadline) {
			t.Fatalf("never saw %q %d times in %q", want, n, text)
		}
	}
}

func termios(t *testing.T, f *os.File) unix.Termios {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(f.Fd()), getTermios)
	if err != nil {
		t.Fatal(err)
	}
	return *state
}

func TestRawModeIsUndone(t *testing.T) {
	_, terminal := pty(t)
	before := termios(t, terminal)
	restore, err := rawMode(terminal)
	if err != nil {
		t.Fatal(err)
	}
	if raw := termios(t, terminal); raw.Lflag&(unix.ECHO|unix.ICANON|unix.ISIG) != 0 {
		t.Errorf("raw mode still echoes, collects lines or makes signals: %#x", raw.Lflag)
	}
	restore()
	if after := termios(t, terminal); after != before {
		t.Errorf("got %+v back, want %+v", after, before)
	}
	if got := width(terminal); got != 80 {
		t.Errorf("%d columns, want 80", got)
	}
}

func TestTerminalsAreToldFromFiles(t *testing.T) {
	_, terminal := pty(t)
	file, err := os.Create(t.TempDir() + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	shows := func(w io.Writer) bool { return stdio{out: &output{w: w}}.terminal() != nil }
	if !shows(terminal) || shows(file) || shows(io.Discard) {
		t.Errorf("terminal: %v, file: %v, neither: %v", shows(terminal), shows(file), shows(io.Discard))
	}
	t.Setenv("NO_COLOR", "1")
	if shows(terminal) {
		t.Error("NO_COLOR is set, and colours are shown")
	}
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "dumb")
	if shows(terminal) {
		t.Error("the terminal is dumb, and colours are shown")
	}
}

func TestAskReadsLinesAndLeavesTheTerminalAsItWas(t *testing.T) {
	keys, terminal := pty(t)
	before := termios(t, terminal)
	printed := watch(keys)
	typed := keyboard{chunks: read(terminal)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var e editor
	prompts := 0
	for _, step := range []struct {
		keys, line string
		err        error
	}{
		{"red heart\r", "red heart", nil},
		{"cat" + left + "o\r", "caot", nil},
		{up + up + "s\r", "red hearts", nil},
		{"two\rlines\r", "two", nil}, // at once, as when pasted
		{"", "lines", nil},
		{"\x04", "", io.EOF},
		{"abc\x03", "", io.EOF},
		{"cancel", "", context.Canceled},
	} {
		done := make(chan error)
		var line string
		go func() {
			var err error
			line, err = ask(ctx, terminal, &screen{terminal}, &typed, &e)
			done <- err
		}()
		prompts = strings.Count(printed.wait(t, promptSign, prompts+1), promptSign) // now the terminal is raw
		if step.err == context.Canceled {
			cancel()
		} else {
			keys.WriteString(step.keys)
		}
		if err := <-done; err != step.err || line != step.line {
			t.Errorf("%q: got %q, %v, want %q, %v", step.keys, line, err, step.line, step.err)
		}
		if after := termios(t, terminal); after != before {
			t.Errorf("%q: the terminal is left as %+v, was %+v", step.keys, after, before)
		}
		prompts = strings.Count(printed.wait(t, promptSign, prompts), promptSign)
		if line != "" {
			e.remember(line)
		}
	}
	printed.wait(t, "› red hearts", 1)
}
