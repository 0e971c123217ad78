package main

import (
	"context"
	"errors"
	"flag"
	"os"

	"netfusion/cinn"
	"netfusion/cinn/pack"
	"netfusion/experts/program"
	"netfusion/tensor"
)

const maxWorkers = 1024

// modelFlags are the flags of every command that runs a fusion.
type modelFlags struct {
	path      string
	backend   cinn.Backend
	workers   int
	precision cinn.Precision
	program   string
}

func (m *modelFlags) declare(f *flag.FlagSet) {
	f.StringVar(&m.path, "model", "", "a pack `FILE` to use instead of the built-in one")
	f.Var((*backend)(&m.backend), "backend", "compute on `WHAT`: cpu, or cuda in a program that was built with it (default cpu)")
	f.IntVar(&m.workers, "workers", 0, "goroutines, `N`; 0 is one per processor; the picture does not depend on it")
	f.Var((*precision)(&m.precision), "precision", "multiply in `TYPE`: f32, bf16 or int8, each faster and less exact than the one before (default f32)")
	f.StringVar(&m.program, "program", "", "the `COMMAND` that reads for a pack without a source; see cinn fuse")
}

func (m *modelFlags) check() error {
	if m.workers < 0 || m.workers > maxWorkers {
		return usagef("-workers %d: want 0 to %d", m.workers, maxWorkers)
	}
	return nil
}

// backend is a flag for cinn.Backend.
type backend cinn.Backend

var backends = [...]string{cinn.CPU: "cpu", cinn.CUDA: "cuda"}

func (b *backend) Set(text string) error {
	for v, name := range backends {
		if text == name {
			*b = backend(v)
			return nil
		}
	}
	return errors.New("want cpu or cuda")
}

func (b *backend) String() string { return backends[*b] }

// precision is a flag for cinn.Precision.
type precision cinn.Precision

func (p *precision) Set(text string) error {
	v, err := tensor.ParsePrecision(text)
	if err != nil || text == "" {
		return errors.New("want f32, bf16 or int8")
	}
	*p = precision(v)
	return nil
}

func (p *precision) String() string { return cinn.Precision(*p).String() }

// artist is an open fusion and the buffers to run it.
type artist struct {
	*cinn.Session
	model   *cinn.Model
	program *program.Program // the source of a pack without one; nil if there is none
}

func (m *modelFlags) open() (*artist, error) {
	o := cinn.Options{Backend: m.backend, Workers: m.workers, Precision: m.precision}
	var model *cinn.Model
	var err error
	if m.path == "" {
		model, err = pack.Open(o)
	} else {
		model, err = cinn.Open(m.path, o)
	}
	if err != nil {
		return nil, err
	}
	session, err := model.NewSession()
	if err != nil {
		model.Close()
		return nil, err
	}
	a := &artist{Session: session, model: model}
	if m.program == "" {
		return a, nil
	}
	argv, err := program.Split(m.program)
	if err == nil {
		a.program, err = program.Start(context.Background(), argv, os.Stderr)
	}
	if err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// Close ends the session, the model and the program. They only give back what they took: there is nothing that a caller could do.
func (a *artist) Close() {
	a.Session.Close()
	a.model.Close()
	if a.program != nil {
		a.program.Close()
	}
}
