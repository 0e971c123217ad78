package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"image"
	"image/png"
	"io"
	"os"
	"strconv"

	"netfusion/cinn/pairs"
	"netfusion/experts/bert"
	"netfusion/experts/biggan"
	"netfusion/experts/program"
	"netfusion/kernels/random"
	"netfusion/nn"
	"netfusion/tensor"
)

// maker opens what the flags name, and says what pairs it will make.
func (p *pairer) maker(ctx context.Context, s stdio) (maker, pairs.Header, error) {
	h := pairs.Header{Type: p.kind, Fingerprints: map[string]string{}, Licences: map[string]string{}, Recipe: map[string]string{}}
	c := &crew{header: &h}
	m, err := p.hire(ctx, s, c)
	if err != nil {
		c.close()
		return nil, h, err
	}
	return m, h, nil
}

func (p *pairer) hire(ctx context.Context, s stdio, c *crew) (maker, error) {
	switch {
	case p.backwards:
		return p.backwardsMaker(ctx, s, c)
	case p.from != "":
		return p.setMaker(c)
	}
	return p.answers(ctx, s, c)
}

// crew is the experts that pairs are made by, and what is known of them.
type crew struct {
	header *pairs.Header
	device *tensor.Device
	source *bert.Session
	target *biggan.Model
	names  []string // of the classes
	ends   []io.Closer
	known  map[string][]float32 // embeddings of the last captions
}

func (c *crew) close() {
	for i := len(c.ends) - 1; i >= 0; i-- {
		c.ends[i].Close()
	}
	if c.device != nil {
		c.device.Close()
	}
}

// part opens one of the experts: the file at path, or what the pack has.
func (c *crew) part(p *pairer, path, name string) (*ingredient, error) {
	if path == "" {
		path = p.model
	}
	in, err := openDefault(path, emojiPack, name, func(path string) (*ingredient, error) { return openIngredient(path, name) })
	if err != nil {
		return nil, err
	}
	c.ends = append(c.ends, in.file)
	c.header.Fingerprints[name] = fingerprint(nn.Memory(name, in.part.Tensors))
	for _, licence := range []string{in.part.Meta["licence"], in.from.Licences[name]} {
		if licence != "" {
			c.header.Licences[name] = licence
			break
		}
	}
	return in, nil
}

func (c *crew) openSource(p *pairer) error {
	in, err := c.part(p, p.source, "source")
	if err != nil {
		return err
	}
	model, err := bert.LoadExpert(nn.Memory(in.file.Origin(), in.part.Tensors), []byte(in.part.Meta["config"]), tensor.F32)
	if err != nil {
		return err
	}
	c.ends = append(c.ends, model)
	c.header.Cond, c.known = model.Width(), map[string][]float32{}
	c.source, err = model.NewSession(c.device, bert.SessionOptions{})
	return err
}

func (c *crew) openTarget(p *pairer) error {
	in, err := c.part(p, p.target, "target")
	if err != nil {
		return err
	}
	config, err := biggan.ParseConfig(in.file.Origin(), []byte(in.part.Meta["config"]))
	if err != nil {
		return err
	}
	c.names = in.from.Classes
	c.target, err = biggan.Load(nn.Memory(in.file.Origin(), in.part.Tensors), config, tensor.F32)
	return err
}

// classes puts the target's into the header.
func (c *crew) classes() {
	t := c.target
	table := make([]float32, 0, t.Classes*t.ClassDim)
	for k := range t.Classes {
		table = append(table, t.Class(k)...)
	}
	c.header.Classes, c.header.ClassDim, c.header.Names = t.Classes, t.ClassDim, c.names
	c.header.SetTable(table)
}

// mostKnown is how many embeddings are kept: captions of classes come again and again.
const mostKnown = 1 << 15

func (c *crew) embed(ctx context.Context, dst []float32, caption string) error {
	if v, ok := c.known[caption]; ok {
		copy(dst, v)
		return nil
	}
	if err := c.source.Embed(ctx, dst, caption); err != nil {
		return fmt.Errorf("embedding %q: %w", caption, err)
	}
	if len(c.known) >= mostKnown {
		clear(c.known)
	}
	c.known[caption] = append([]float32(nil), dst...)
	return nil
}

// backwardsMaker draws latents and describes them.
type backwardsMaker struct {
	*crew
	pairs.Backwards
	z     []float32
	join  bool
	noise float32
}

func (p *pairer) backwardsMaker(ctx context.Context, s stdio, c *crew) (maker, error) {
	c.device = tensor.CPU(p.workers)
	if err := errors.Join(c.openSource(p), c.openTarget(p)); err != nil {
		return nil, err
	}
	h := c.header
	m := &backwardsMaker{crew: c, z: make([]float32, c.target.ZDim), join: p.class == "join", noise: p.noise}
	m.Seed, m.Truncation, m.Embed, m.BySplit = p.seed, p.truncation, c.embed, p.split == "caption"
	h.Source = "latents of a generator, described"
	h.Recipe["seed"], h.Recipe["truncation"], h.Recipe["split"] = strconv.FormatUint(p.seed, 10), fmt.Sprint(p.truncation), p.split
	h.Latent = c.target.ZDim
	if m.join {
		h.Latent += c.target.ClassDim
		h.Std = p.noise > 0
		h.Recipe["class"] = fmt.Sprintf("join, noise %g", p.noise)
	} else {
		c.classes()
	}
	if p.captioner != "" {
		for k := range c.target.Classes {
			m.Classes = append(m.Classes, k)
		}
		h.Recipe["captioner"] = p.captioner
		return m, m.describe(ctx, p.captioner, s.err)
	}
	table, err := p.table(c)
	if err != nil {
		return nil, err
	}
	m.Classes, m.Describe = table.Classes(), table.Describe
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", table))
	h.Recipe["captions"] = hex.EncodeToString(sum[:])
	return m, nil
}

// table is the captions of the target's classes.
func (p *pairer) table(c *crew) (pairs.Table, error) {
	if p.captions == "" {
		if len(c.names) == 0 {
			return nil, usagef("want -captions or -captioner: the generator's classes have no names")
		}
		return pairs.NameTable(c.names)
	}
	data, err := os.ReadFile(p.captions)
	if err != nil {
		return nil, err
	}
	table, err := pairs.ParseTable(data, c.target.Classes, c.names)
	return table, named(p.captions, err)
}

// describe lets a captioner see the generator's pictures: as files of 8-bit colours, whose meaning nobody can mistake.
func (m *backwardsMaker) describe(ctx context.Context, command string, stderr io.Writer) error {
	argv, err := program.Split(command)
	if err != nil {
		return usageError(err.Error())
	}
	captioner, err := program.Start(ctx, argv, stderr)
	if err != nil {
		return err
	}
	m.ends = append(m.ends, captioner)
	t := m.target
	session := t.NewSession(m.device, 1)
	class, picture := tensor.New(1, t.ClassDim), image.NewNRGBA(image.Rect(0, 0, t.Resolution, t.Resolution))
	fast := png.Encoder{CompressionLevel: png.BestSpeed}
	m.Describe = func(ctx context.Context, z []float32, k int, _ float32) (string, error) {
		copy(class.Data, t.Class(k))
		pixels, err := session.Generate(tensor.Of(1, len(z), z), class, biggan.Truncation{})
		if err != nil {
			return "", err
		}
		biggan.Draw(picture, pixels.Data)
		var file bytes.Buffer
		if err := fast.Encode(&file, picture); err != nil {
			return "", err
		}
		answer, err := captioner.Ask(ctx, program.Message{Image: file.Bytes()})
		return answer.Text, err
	}
	return nil
}

func (m *backwardsMaker) begin(int) error { return nil }

func (m *backwardsMaker) pair(ctx context.Context, i int, p *pairs.Pair) error {
	if _, err := m.Pair(ctx, i, p, m.z); err != nil {
		return err
	}
	copy(p.Latent, m.z)
	if !m.join {
		return nil
	}
	copy(p.Latent[len(m.z):], m.target.Class(p.Class))
	if p.Std != nil {
		for j := range p.Std[len(m.z):] {
			p.Std[len(m.z)+j] = m.noise
		}
	}
	p.Class = 0
	return nil
}

// setMaker draws images of a Set, and captions of them.
type setMaker struct {
	*crew
	set      *pairs.Set
	captions *pairs.Conditions // without vectors
	seed     uint64
	join     bool
	noise    float32
}

// setStream is a stream of the noise generator: dimension 0 picks the image, 1 the caption.
const setStream = 60

func (p *pairer) setMaker(c *crew) (maker, error) {
	set, err := pairs.Open(p.from)
	if err != nil {
		return nil, err
	}
	c.device = tensor.CPU(p.workers)
	if err := errors.Join(c.openSource(p), c.openTarget(p)); err != nil {
		return nil, err
	}
	if t := c.target; t.ZDim != set.Latent || t.Classes != len(set.Classes) {
		return nil, fmt.Errorf("%s: latents of %d dimensions in %d classes, the generator has %d and %d", p.from, set.Latent, len(set.Classes), t.ZDim, t.Classes)
	}
	c.names = set.Classes
	m := &setMaker{crew: c, set: set, seed: p.seed, join: p.class == "join", noise: p.noise}
	none := pairs.Encoder{Dim: 1, Embed: func([]string, []float32) error { return nil }}
	if m.captions, err = set.Embed(none, "", nil); err != nil {
		return nil, err
	}
	file, err := os.ReadFile(p.from)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(file)
	h := c.header
	h.Source, h.Latent, h.Std = set.Source, set.Latent, true
	h.Fingerprints["set"] = hex.EncodeToString(sum[:])
	h.Recipe["seed"] = strconv.FormatUint(p.seed, 10)
	if m.join {
		h.Latent += c.target.ClassDim
		h.Recipe["class"] = fmt.Sprintf("join, noise %g", p.noise)
	} else {
		c.classes()
	}
	return m, nil
}

func (m *setMaker) begin(int) error { return nil }

func (m *setMaker) pair(ctx context.Context, i int, p *pairs.Pair) error {
	var words [2]uint32
	random.Words(words[:], m.seed, setStream, uint64(i), 0)
	k := int(uint64(words[0]) * uint64(len(m.set.Images)) >> 32)
	im := m.set.Images[k]
	caption := m.captions.Draw(im, (float32(words[1]>>8)+0.5)*0x1p-24)
	mean, std := m.set.Z(k)
	copy(p.Latent, mean)
	copy(p.Std, std)
	p.Class, p.Group, p.Split = im.Class, im.Concept, pairs.SplitOf(m.set.Concepts[im.Concept].Name)
	if m.join {
		copy(p.Latent[len(mean):], m.target.Class(im.Class))
		for j := range p.Std[len(std):] {
			p.Std[len(std)+j] = m.noise
		}
	}
	return m.embed(ctx, p.Condition, m.captions.Captions[caption].Text)
}

// answerMaker reads pairs that a program prints.
type answerMaker struct {
	*crew
	next  func(ctx context.Context, i int) (program.Message, error)
	skip  func(n int) error
	first *program.Message // pair 0, which says what the others are
}

func (p *pairer) answers(ctx context.Context, s stdio, c *crew) (maker, error) {
	m := &answerMaker{crew: c}
	h := c.header
	if p.program != "" {
		argv, err := program.Split(p.program)
		if err != nil {
			return nil, usageError(err.Error())
		}
		started, err := program.Start(ctx, argv, s.err)
		if err != nil {
			return nil, err
		}
		c.ends = append(c.ends, started)
		h.Source, h.Recipe["program"] = "a program", p.program
		m.next = func(ctx context.Context, i int) (program.Message, error) {
			number := int64(i)
			return started.Ask(ctx, program.Message{Pair: &number})
		}
		m.skip = func(int) error { return nil }
	} else {
		lines, err := p.openLines(s, c)
		if err != nil {
			return nil, err
		}
		h.Source = "lines"
		m.next = func(ctx context.Context, _ int) (program.Message, error) { return nextLine(ctx, lines) }
		m.skip = func(n int) error {
			if n == 0 {
				return nil
			}
			if had, err := lines.Skip(n - 1); err != nil || had < n-1 { // the first is read
				return errors.Join(err, fmt.Errorf("%s ends before the %d pairs that the store has", p.lines, n))
			}
			return nil
		}
	}
	first, err := m.next(ctx, 0)
	switch {
	case errors.Is(err, io.EOF) || err == nil && first.End:
		return nil, errors.New("there are no pairs")
	case err != nil:
		return nil, fmt.Errorf("pair 0: %w", err)
	}
	m.first = &first
	h.Cond, h.Latent, h.Std = len(first.Condition), len(first.Latent), first.Std != nil
	if h.Cond == 0 || h.Latent == 0 {
		return nil, errors.New(`pair 0: want "condition" and "latent", vectors of some dimensions`)
	}
	if first.Class == nil {
		return m, nil
	}
	if p.target == "" && p.model == "" {
		return nil, usagef("pair 0 has a class: want -target or -model, which say what classes there are")
	}
	if err := c.openTarget(p); err != nil {
		return nil, err
	}
	c.classes()
	return m, nil
}

// nextLine reads a line, or does not wait for it any more when ctx ends: then nobody reads on.
func nextLine(ctx context.Context, lines *program.Lines) (program.Message, error) {
	type line struct {
		message program.Message
		err     error
	}
	read := make(chan line, 1)
	go func() {
		m, err := lines.Next()
		read <- line{m, err}
	}()
	select {
	case l := <-read:
		return l.message, l.err
	case <-ctx.Done():
		return program.Message{}, ctx.Err()
	}
}

func (p *pairer) openLines(s stdio, c *crew) (*program.Lines, error) {
	if p.lines == "-" {
		return program.NewLines(s.in), nil
	}
	f, err := os.Open(p.lines)
	if err != nil {
		return nil, err
	}
	c.ends = append(c.ends, f)
	return program.NewLines(f), nil
}

func (m *answerMaker) begin(i int) error {
	if i > 0 {
		m.first = nil
	}
	return m.skip(i)
}

func (m *answerMaker) pair(ctx context.Context, i int, p *pairs.Pair) error {
	var a program.Message
	var err error
	if m.first != nil {
		a, m.first = *m.first, nil
	} else if a, err = m.next(ctx, i); err != nil {
		return err
	}
	if a.End {
		return io.EOF
	}
	if (a.Class != nil) != (m.header.Classes > 0) {
		return errors.New("some pairs have a class, others have none")
	}
	p.Condition, p.Latent, p.Std = a.Condition, a.Latent, a.Std
	if a.Class != nil {
		p.Class = *a.Class
	}
	// Pairs of one text are a group; others are on their own.
	p.Group = i & (1<<30 - 1)
	if a.Text != "" {
		h := fnv.New32a()
		h.Write([]byte(a.Text))
		p.Group = int(h.Sum32() >> 2)
	}
	p.Split = [10]pairs.Split{8: pairs.Validation, 9: pairs.Test}[random.Word(uint64(p.Group), setStream, 0, 0)%10]
	return nil
}
