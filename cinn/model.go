package cinn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"sync"

	"netfusion/cinn/flow"
	"netfusion/experts/autoencoder"
	"netfusion/experts/biggan"
	"netfusion/nn"
	"netfusion/nn/disk"
	"netfusion/nn/planes"
	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

// Model is an open pack. It does not change; its Sessions share it and run side by side.
type Model struct {
	about   Fusion
	options Options
	file    *safetensors.File
	kind    string // of source
	source  source
	flow    *flow.Flow
	target  *biggan.Model
	encoder func() (*autoencoder.Model, error) // loads it at the first call; nil if the pack has none
	gpu     *gpuModel                          // nil on the CPU
}

// Open opens the pack at path. It is mapped, unless it is in its form for distribution, which is unpacked into memory.
func Open(path string, o Options) (*Model, error) {
	f, err := OpenContainer(path)
	if err != nil {
		return nil, err
	}
	return open(f, o)
}

// OpenContainer opens a safetensors file as it is, or in its form for distribution (nn/planes).
func OpenContainer(path string) (*safetensors.File, error) {
	data, unmap, err := disk.Map(path)
	if err != nil {
		return nil, err
	}
	defer unmap()
	if _, _, err := planes.Sum(data); err != nil {
		return safetensors.Open(path)
	}
	var raw bytes.Buffer
	if err := planes.Decompress(context.Background(), &raw, data); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return safetensors.Parse(path, raw.Bytes())
}

// Parse opens a pack that is in memory, which the Model refers to from then on; name stands for it in messages.
func Parse(name string, data []byte, o Options) (*Model, error) {
	f, err := safetensors.Parse(name, data)
	if err != nil {
		return nil, err
	}
	return open(f, o)
}

func open(f *safetensors.File, o Options) (*Model, error) { return openOn(f, o, OpenGPU) }

// openOn is open, where gpu opens the GPU of the backend CUDA.
func openOn(f *safetensors.File, o Options, gpu func() (*tensor.GPU, error)) (*Model, error) {
	m := &Model{options: o, file: f}
	if err := m.load(gpu); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

func (m *Model) load(gpu func() (*tensor.GPU, error)) (err error) {
	o, f := m.options, m.file
	if o.Workers < 0 || o.Precision > Int8 || o.Backend > CUDA {
		return fmt.Errorf("cinn: %d workers in precision %d on backend %d: no such thing", o.Workers, o.Precision, o.Backend)
	}
	if o.Backend == CUDA {
		if m.gpu, err = newGPUModel(gpu); err != nil {
			return err
		}
	}
	if m.about, err = ReadFusion(f); err != nil {
		return err
	}
	meta := f.Metadata()
	part := func(prefix string) (nn.Source, []byte) { return nn.Under(f, prefix), []byte(meta[prefix+"config"]) }

	// The experts' weights are brought into the order of the kernels, which takes most of Open: one goroutine each.
	var errs [3]error
	var loading sync.WaitGroup
	loading.Go(func() {
		source, config := part(sourcePrefix)
		m.kind, m.source, errs[0] = loadSource(source, config, o.Precision)
		errs[0] = inPart(sourcePrefix, errs[0])
	})
	loading.Go(func() {
		source, config := part(flowPrefix)
		m.flow, errs[1] = flow.LoadPacked(source, config, o.Precision)
		errs[1] = inPart(flowPrefix, errs[1])
	})
	loading.Go(func() {
		source, config := part(targetPrefix)
		c, err := biggan.ParseConfig(f.Origin(), config)
		if err == nil {
			m.target, err = biggan.Load(source, c, o.Precision)
		}
		errs[2] = inPart(targetPrefix, err)
	})
	loading.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	if source, config := part(encoderPrefix); len(config) > 0 {
		c, err := autoencoder.ParseConfig(f.Origin(), config)
		if err != nil {
			return inPart(encoderPrefix, err)
		}
		if c.Latent != m.target.ZDim || c.Resolution != m.target.Resolution {
			return fmt.Errorf("%s: the image encoder gives %d dimensions of %d pixels, the generator wants %d and %d", f.Origin(),
				c.Latent, c.Resolution, m.target.ZDim, m.target.Resolution)
		}
		m.encoder = sync.OnceValues(func() (*autoencoder.Model, error) { return autoencoder.Load(source, c) })
	}
	if err := m.fits(); err != nil || m.gpu == nil {
		return err
	}
	return m.gpu.load(m, part)
}

// inPart adds to err, which names the file, the part of it; no error stays none.
func inPart(prefix string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w (part %q)", err, prefix)
}

// fits tells whether the three parts fit each other.
func (m *Model) fits() error {
	c := m.flow.Config
	latent := m.target.ZDim + m.target.ClassDim
	switch {
	case m.source.width() != c.Cond:
		return fmt.Errorf("%s: the source gives %d dimensions, the flow wants %d", m.file.Origin(), m.source.width(), c.Cond)
	case c.Latent+c.Class != latent:
		return fmt.Errorf("%s: the flow draws %d dimensions, the generator wants %d", m.file.Origin(), c.Latent+c.Class, latent)
	case c.Class > 0 && c.Class != m.target.ClassDim:
		return fmt.Errorf("%s: the flow's classes have %d dimensions, the generator's %d", m.file.Origin(), c.Class, m.target.ClassDim)
	case c.Classes > 0 && c.Classes != m.target.Classes:
		return fmt.Errorf("%s: the flow knows %d classes, the generator %d", m.file.Origin(), c.Classes, m.target.Classes)
	}
	return nil
}

// Close gives back the file, and the GPU. No Session may be in use.
func (m *Model) Close() error {
	if m.gpu == nil {
		return m.file.Close()
	}
	return errors.Join(m.gpu.g.Close(), m.file.Close())
}

// Bounds is the size of an image.
func (m *Model) Bounds() image.Rectangle {
	return image.Rect(0, 0, m.target.Resolution, m.target.Resolution)
}

// Info describes the pack.
func (m *Model) Info() Info {
	return Info{
		Name: m.about.Name, Source: m.about.Source, Target: m.about.Target, Kind: m.kind,
		Classes:   m.about.Classes,
		Condition: m.source.width(), Latent: m.flow.Config.Latent + m.flow.Config.Class, Z: m.target.ZDim,
		Bounds:      m.Bounds(),
		Temperature: m.about.Temperature, Guidance: m.about.Guidance,
		Encoder:  m.encoder != nil,
		Licences: m.about.Licences,
	}
}

// NewSession allocates all that a caller's Generate will use, and starts its workers.
func (m *Model) NewSession() (*Session, error) {
	s := &Session{model: m, device: tensor.CPU(m.options.Workers)}
	err := s.allocate()
	if err == nil && m.gpu != nil {
		s.gpu, err = m.gpu.newSession(m)
	}
	if err != nil {
		s.device.Close()
		return nil, err
	}
	return s, nil
}
