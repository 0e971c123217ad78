// Package autoencoder is the encoder of a variational autoencoder (Kingma and Welling 2014) whose decoder is an image
// generator: it gives any image a latent of that generator, as a mean and a log-variance per dimension.
//
// Each stage is a 3×3 convolution (stride 2, but 1 in the first stage), group normalisation, LeakyReLU, a 3×3
// convolution, LeakyReLU; after the last stage one linear layer reads the flattened map. Images are NHWC.
package autoencoder

import (
	"fmt"

	"netfusion/nn"
)

const (
	eps   = 1e-5 // of the normalisations, PyTorch's default
	slope = 0.2  // of the LeakyReLUs below zero

	// The log-variance is clamped to these, as in training.
	minLogVariance = -8
	maxLogVariance = 4
)

// Model is the weights of an encoder, ready to run. It does not change: many Sessions share one.
type Model struct {
	Config
	stages []stage
	head   nn.Linear // the flattened last map [pixels][channels] to [mean; log-variance]
}

type stage struct {
	first, second nn.Conv
	norm          nn.GroupNorm // after first
}

// Open reads a checkpoint folder (see Convert) or an expert file.
func Open(path string) (*Model, error) { return nn.OpenExpert(path, Convert, LoadExpert) }

// LoadExpert builds an encoder from the tensors and the metadata of an expert file.
func LoadExpert(s nn.Source, meta map[string]string) (*Model, error) {
	if arch := meta["arch"]; arch != Arch {
		return nil, fmt.Errorf("%s: arch is %q, wanted %q", s.Origin(), arch, Arch)
	}
	cfg, err := ParseConfig(s.Origin(), []byte(meta["config"]))
	if err != nil {
		return nil, err
	}
	return Load(s, cfg)
}

// Load builds the encoder of a configuration from the tensors of an expert file.
func Load(s nn.Source, cfg Config) (*Model, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Origin(), err)
	}
	w := nn.Load(s)
	m := &Model{Config: cfg}
	in, side := 3, cfg.Resolution
	for i, out := range cfg.Widths {
		p := w.In(fmt.Sprintf("stages.%d", i))
		m.stages = append(m.stages, stage{
			first: p.Conv("conv_0", in, out, stride(i), side), norm: p.GroupNorm("norm", out, cfg.Groups, eps),
			second: p.Conv("conv_1", out, out, 1, side/stride(i)),
		})
		in, side = out, side/stride(i)
	}
	m.head = w.Linear("head", cfg.features(), 2*cfg.Latent)
	if err := w.Err(); err != nil {
		return nil, err
	}
	if names := w.Unused(); len(names) > 0 {
		return nil, fmt.Errorf("%s: tensor %q is not one of this encoder (nor are %d others)", s.Origin(), names[0], len(names)-1)
	}
	return m, nil
}
