package train

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// Progress shows one line that changes: on a terminal it is drawn over itself, elsewhere a new line is written every few
// seconds. The zero Progress, and one on a nil writer, show nothing.
type Progress struct {
	w        io.Writer
	terminal bool
	shown    time.Time
	width    int // of what stands on the terminal's line
}

// NewProgress returns a Progress on w, which may be nil.
func NewProgress(w io.Writer) *Progress {
	p := &Progress{w: w}
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

const (
	redraw = 100 * time.Millisecond // of the line on a terminal
	repeat = 5 * time.Second        // of lines elsewhere
)

// Due tells whether it is time to show again, so that the caller need not build a line that nobody sees.
func (p *Progress) Due() bool {
	if p.w == nil {
		return false
	}
	if p.terminal {
		return time.Since(p.shown) >= redraw
	}
	return time.Since(p.shown) >= repeat
}

// Show replaces the line.
func (p *Progress) Show(line string) {
	if p.w == nil {
		return
	}
	p.shown = time.Now()
	if !p.terminal {
		fmt.Fprintln(p.w, line)
		return
	}
	n := utf8.RuneCountInString(line)
	fmt.Fprint(p.w, "\r", line, strings.Repeat(" ", max(0, p.width-n)))
	p.width = n
}

// Keep writes a line that stays.
func (p *Progress) Keep(line string) {
	if p.w == nil {
		return
	}
	p.Clear()
	fmt.Fprintln(p.w, line)
}

// Clear removes the changing line.
func (p *Progress) Clear() {
	if p.w != nil && p.terminal && p.width > 0 {
		fmt.Fprint(p.w, "\r", strings.Repeat(" ", p.width), "\r")
		p.width = 0
	}
}

// Bar draws done of total in the given number of cells.
func Bar(done, total, cells int) string {
	full := 0
	if total > 0 {
		full = min(cells, done*cells/total)
	}
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", cells-full) + "]"
}
