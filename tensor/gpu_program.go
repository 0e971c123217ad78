package tensor

import (
	"errors"
	"fmt"

	"netfusion/kernels/program"
)

// GPUProgram is a program.Program in a Queue's memory: many operations on few rows as one launch.
type GPUProgram struct {
	entry    string
	function Function
	launch   Launch
	work     Work
}

// Kept returns what q keeps for a key, and makes it the first time, which must be while q counts: memory of Keep, and Programs on it.
func Kept[T any](q *Queue, key any, make func() T) T {
	q.within()
	if v, known := q.kept[key]; known {
		return v.(T)
	}
	if q.mode == recording {
		panic("tensor: something to be kept that was not there the first time")
	}
	v := make()
	if q.kept == nil {
		q.kept = map[any]any{}
	}
	q.kept[key] = v
	return v
}

// NewProgram puts p on the device, until Close; nil if the device has no room for it, or is to run operations apart. What its
// instructions read and write besides words must be there as long, as what Keep returns is.
func (q *Queue) NewProgram(p *program.Program) *GPUProgram {
	if q.err != nil || q.g.options.Apart {
		return nil
	}
	t, err := q.newProgram(p)
	if err != nil && !errors.Is(err, program.ErrRoom) {
		q.fail(err)
	}
	return t
}

// Execute runs p.
func (q *Queue) Execute(p *GPUProgram) {
	if q.mode == counting {
		q.work.add(p.work)
	}
	if !q.recording() {
		return
	}
	if err := q.g.driver.Launch(q.stream, p.function, p.launch); err != nil {
		q.fail(fmt.Errorf("%s: %w", p.entry, err))
	}
}

func (q *Queue) newProgram(p *program.Program) (*GPUProgram, error) {
	a := &q.g.attributes
	code, err := p.Encode(program.Machine{Blocks: min(a.Multiprocessors, p.Width()), Shared: q.g.programShared()})
	if err != nil {
		return nil, err
	}
	t := &GPUProgram{entry: p.Format.Entry(), work: workOf(p)}
	if t.function, err = q.g.late(t.entry); err != nil {
		return nil, err
	}
	steps, starts := Keep[uint8](q, len(code.Steps)), Keep[int32](q, len(code.Starts))
	words, control := Keep[uint64](q, max(1, code.Words/8)), Keep[uint8](q, program.ControlBytes)
	if err := errors.Join(Set(q, steps, code.Steps), Set(q, starts, code.Starts)); err != nil {
		return nil, err
	}
	f, args := FormOf(t.entry), AppendArgs(nil, steps, starts, words, control)
	for _, v := range code.Layout {
		args = AppendArgs(args, v)
	}
	t.launch = Launch{Grid: [3]int{code.Blocks}, Block: [3]int{f.Block}, DynamicShared: code.Shared, Cooperative: f.Cooperative, Args: args}
	return t, nil
}

// workOf is what p takes.
func workOf(p *program.Program) Work {
	w := Work{Launches: 1}
	for _, in := range p.Instructions {
		switch x := in.(type) {
		case *program.MatMul:
			w.FLOPs += 2 * float64(x.M) * float64(x.N) * float64(x.K)
			w.Weights += x.N * x.Weights.Stride
		case *program.Attend:
			w.FLOPs += 4 * float64(x.Tokens) * float64(x.Tokens) * float64(x.Heads*x.Depth)
		}
	}
	return w
}

// programShared is how much dynamic shared memory a Program's blocks may have.
func (g *GPU) programShared() int { return g.attributes.SharedPerBlock - program.StaticShared }

// late returns an entry of a family that is loaded when it is first used.
func (g *GPU) late(entry string) (Function, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f, known := g.lateFunctions[entry]; known {
		return f, nil
	}
	g.lateFunctions = map[string]Function{}
	for _, f := range g.waiting {
		entries := f.Entries()
		for i := range entries {
			entries[i].DynamicShared = g.programShared()
		}
		functions, err := g.driver.Load(f.Name, f.Text, entries)
		if err != nil {
			return 0, err
		}
		for i, e := range entries {
			g.lateFunctions[e.Name] = functions[i]
		}
	}
	return g.lateFunctions[entry], nil
}

// ProgramFormat is the Format of Programs for weights of p, if there are such.
func ProgramFormat(p Precision) (f program.Format, ok bool) {
	switch p {
	case BF16:
		return program.BF16, true
	case Int8:
		return program.Int8, true
	}
	return 0, false
}

// Program is b as a Program's instructions name it.
func (b Buffer) Program() program.Matrix {
	if b.Precision != F32 {
		panic("tensor: a Buffer of bfloat16 where float32 is wanted")
	}
	return program.Matrix{Kind: program.Plain, At: uint64(b.Ptr), Ld: b.Ld}
}

// Program is w as a Program's instructions name it.
func (w GPUWeight) Program() program.Weights {
	return program.Weights{At: uint64(w.ptr), Stride: w.ld * w.Precision.bytes(), Scale: w.scale.Address(), Sum: w.sum.Address()}
}

// Address is a as a Program's instructions name it.
func (a Array[T]) Address() uint64 { return uint64(a.Ptr) }
