package ptx

import "fmt"

// Kind is what a kernel did wrong.
type Kind string

// The faults that a launch may end with.
const (
	OutOfBounds   Kind = "out of bounds"
	Misaligned    Kind = "misaligned"
	Uninitialised Kind = "uninitialised read"
	Race          Kind = "race"
	Divergent     Kind = "divergent barrier"
	Unawaited     Kind = "used before it was waited for" // of an asynchronous copy or product
	Unfenced      Kind = "no fence"                      // between ordinary accesses and asynchronous ones
	Deadlock      Kind = "deadlock"
	Endless       Kind = "too many instructions"
	Illegal       Kind = "illegal instruction"
	Trap          Kind = "trap"
)

// Fault says what a kernel did wrong, and where.
type Fault struct {
	Kind   Kind
	Kernel string
	File   string // the PTX text
	Line   int    // in it
	Source string // file.cu:line, where the text has .loc directives
	Opcode string
	Block  [3]int
	Thread [3]int
	Detail string
}

func (f *Fault) Error() string {
	at := fmt.Sprintf("%s:%d", f.File, f.Line)
	if f.Source != "" {
		at += " (" + f.Source + ")"
	}
	return fmt.Sprintf("%s: %s: %s in block %v, thread %v: %s: %s", f.Kernel, at, f.Opcode, f.Block, f.Thread, f.Kind, f.Detail)
}

// fault ends the launch; Device.run recovers it.
func (w *warp) fault(lane int, kind Kind, format string, args ...any) {
	st := w.k.code[w.pc].at
	f := &Fault{Kind: kind, Kernel: w.k.name, File: w.k.m.file, Line: st.line, Opcode: st.opcode(), Detail: fmt.Sprintf(format, args...)}
	if name := w.k.m.sources[st.file]; name != "" && st.source > 0 {
		f.Source = fmt.Sprintf("%s:%d", name, st.source)
	}
	f.Block = [3]int{int(w.b.index[0]), int(w.b.index[1]), int(w.b.index[2])}
	t := w.id*warpSize + lane
	n := w.l.block
	f.Thread = [3]int{t % n[0], t / n[0] % n[1], t / (n[0] * n[1])}
	panic(f)
}
