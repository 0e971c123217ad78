package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"

	"netfusion/cinn"
	"netfusion/cinn/flow"
	"netfusion/cinn/pairs"
	"netfusion/cinn/train"
	"netfusion/experts/biggan"
	"netfusion/nn"
	"netfusion/tensor"
)

// material is what a flow is fitted to: a Set, embedded, or a Store.
type material struct {
	learn, judge train.Source
	cond, latent int
	table        tensor.Tensor // class embeddings, [classes][class]; empty without classes
	exact        bool          // latents are points
	fit          int           // draws that the closed-form layer is fitted to
	bytes        int           // that the pairs take in memory
	experts      int           // bytes of the experts beside them
	fingerprints map[string]string
	device       *tensor.Device

	lesson     *lesson // of a Set
	store      *pairs.Store
	target     *biggan.Model // draws samples; nil if there is none
	truncation float64
	shown      tensor.Tensor // [n][cond], the conditions of samples
	names      []string      // of them, if they have some
	close      []io.Closer
}

// How many draws of each image of a Set, about, and how many at most of a Store, the closed-form layer is fitted to.
const (
	fitRows  = 8
	fitDraws = 1 << 15
)

func (m *material) Close() {
	if m.lesson != nil {
		m.lesson.Close()
	} else {
		m.device.Close()
	}
	for _, c := range m.close {
		c.Close()
	}
}

// material opens what -pairs names.
func (t *trainer) material(ctx context.Context, log io.Writer) (*material, error) {
	if t.workers < 0 || t.workers > maxWorkers {
		return nil, usagef("-workers %d: want 0 to %d", t.workers, maxWorkers)
	}
	if t.pairs != "" {
		is, err := pairs.IsStore(t.pairs)
		if err != nil {
			return nil, err
		}
		if is {
			return t.fromStore(ctx, log)
		}
	}
	l, err := t.lessonFlags.open(ctx, log)
	if err != nil {
		return nil, err
	}
	m := &material{lesson: l, device: l.device, fingerprints: l.fingerprints}
	m.fromSet(t.blind)
	return m, nil
}

// fromSet fills m from its lesson.
func (m *material) fromSet(blind bool) {
	l := m.lesson
	learn := train.FromPairs(l.set, l.conditions, pairs.Train)
	judge := train.Named(l.set, l.conditions, pairs.Validation)
	if blind {
		clear(learn.Cond.Data)
		clear(judge.Cond.Data)
	}
	m.learn, m.judge = learn, judge
	m.cond, m.latent, m.table = l.conditions.Dim, l.set.Latent, l.classTable()
	m.fit = fitRows * len(l.set.Images)
	m.bytes = setBytes(l.set, l.conditions, learn, judge)
	for _, f := range l.files {
		for _, x := range f.Tensors() {
			n := 1
			for _, s := range x.Shape {
				n *= s
			}
			m.experts += 5 * n // float32, in panels
		}
	}
	m.target = l.target
	rows := l.set.Rows(pairs.Validation)
	m.show(len(rows), func(i int, c []float32) {
		name, _ := l.conditions.Of(l.set.Images[rows[i]].Concept)
		m.names = append(m.names, l.conditions.Captions[name].Text)
		copy(c, l.conditions.Vector(name))
	})
}

// setBytes is about what a Set and the Data made of it take.
func setBytes(s *pairs.Set, c *pairs.Conditions, data ...*train.Data) int {
	n := len(s.Pixels) + 8*len(s.Mean) + 4*len(c.Captions)*c.Dim + 80*len(c.Captions)
	for _, d := range data {
		n += 4*len(d.Cond.Data) + 8*len(d.Class) + 40*len(d.Pairs)
	}
	return n
}

// shownConditions is how many conditions a sheet shows, and shownSamples how many samples of each.
const (
	shownConditions = 6
	shownSamples    = 3
)

// show chooses the conditions of samples among n.
func (m *material) show(n int, read func(i int, c []float32)) {
	m.shown = tensor.New(min(n, shownConditions), m.cond)
	for k := range m.shown.Rows {
		read(k*n/m.shown.Rows, m.shown.Row(k))
	}
}

func (t *trainer) fromStore(ctx context.Context, log io.Writer) (m *material, err error) {
	s, err := pairs.OpenStore(t.pairs)
	if err != nil {
		return nil, err
	}
	m = &material{store: s, device: tensor.CPU(t.workers), fingerprints: s.Fingerprints, close: []io.Closer{s}}
	defer func() {
		if err != nil {
			m.Close()
		}
	}()
	bar := train.NewProgress(log)
	defer bar.Clear()
	learn, judge, err := train.Splits(ctx, s, t.judge, func(done, total int) {
		if bar.Due() {
			bar.Show(fmt.Sprintf("verifying pairs %s %d of %d", train.Bar(done, total, 30), done, total))
		}
	})
	if err != nil {
		return nil, err
	}
	if learn.Len() == 0 || judge.Len() == 0 {
		return nil, fmt.Errorf("%s: %d pairs to train and %d to validate on, want some of both", t.pairs, learn.Len(), judge.Len())
	}
	learn.Blind, judge.Blind = t.blind, t.blind
	m.learn, m.judge = learn, judge
	m.cond, m.latent, m.exact = s.Cond, s.Latent, !s.Std
	if s.Classes > 0 {
		m.table = tensor.Of(s.Classes, s.ClassDim, s.ClassTable())
	}
	m.fit = min(fitRows*learn.Len(), fitDraws)
	m.bytes = learn.Bytes() + judge.Bytes()
	row := train.Row{Cond: make([]float32, s.Cond), Mean: make([]float32, s.Latent), Std: make([]float32, s.Latent)}
	m.show(judge.Len(), func(i int, c []float32) {
		judge.Read(i, &row)
		copy(c, row.Cond)
	})
	return m, t.drawer(m)
}

// drawer opens the image generator for a Store's samples, if -target or -model names one that fits.
func (t *trainer) drawer(m *material) error {
	path := t.target
	if path == "" {
		path = t.model
	}
	if path == "" {
		return nil
	}
	f, err := cinn.OpenContainer(path)
	if err != nil {
		return err
	}
	m.close = append(m.close, f)
	var source nn.Source = f
	config := f.Metadata()["config"]
	if f.Metadata()["arch"] == cinn.Arch {
		source, config = nn.Under(f, "target."), f.Metadata()["target.config"]
		about, err := cinn.ReadFusion(f)
		if err != nil {
			return err
		}
		m.truncation = about.Truncation
	}
	c, err := biggan.ParseConfig(path, []byte(config))
	if err != nil {
		return err
	}
	if want, have := c.ZDim+c.ClassDim, m.latent+m.table.Cols; want != have {
		return fmt.Errorf("%s: draws latents of %d dimensions, the pairs have %d", path, want, have)
	}
	if m.target, err = biggan.Load(source, c, tensor.F32); err != nil {
		return err
	}
	m.experts, _ = c.Memory(tensor.F32, 1, m.device.Workers())
	return nil
}

// sheet returns what draws samples for the report, in batches of at most so many rows; nil if nothing can.
func (m *material) sheet(rows int) func(sample func(x, c tensor.Tensor, d flow.Draw)) ([]byte, error) {
	n := m.shown.Rows * shownSamples
	if m.target == nil || n == 0 || n > rows {
		return nil
	}
	session := m.target.NewSession(m.device, 1)
	x, c := tensor.New(n, m.target.ZDim+m.target.ClassDim), tensor.New(n, m.cond)
	for i := range n {
		copy(c.Row(i), m.shown.Row(i%m.shown.Rows))
	}
	z, class := tensor.New(1, m.target.ZDim), tensor.New(1, m.target.ClassDim)
	pictures := make([]*image.NRGBA, n)
	for i := range pictures {
		pictures[i] = image.NewNRGBA(image.Rect(0, 0, m.target.Resolution, m.target.Resolution))
	}
	return func(sample func(x, c tensor.Tensor, d flow.Draw)) ([]byte, error) {
		sample(x, c, flow.Draw{Seed: 1, Temperature: 1, Guidance: 1})
		for i, p := range pictures {
			copy(z.Data, x.Row(i))
			copy(class.Data, x.Row(i)[m.target.ZDim:])
			pixels, err := session.Generate(z, class, biggan.Truncation{Value: m.truncation})
			if err != nil {
				return nil, err
			}
			biggan.Draw(p, pixels.Data)
		}
		var b bytes.Buffer
		err := png.Encode(&b, layout(pictures))
		return b.Bytes(), err
	}
}

// panelColumns is the width of the terminal that w is; 0 if it is none, or one that cannot be drawn over.
func panelColumns(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !isTerminal(f) || os.Getenv("TERM") == "dumb" || !enableColour(f) {
		return 0
	}
	return (&screen{f}).columns()
}
