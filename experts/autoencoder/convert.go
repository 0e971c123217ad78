package autoencoder

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"netfusion/nn"
	"netfusion/nn/npz"
	"netfusion/nn/safetensors"
)

// Arch is the metadata "arch" of an expert file.
const Arch = "vae-encoder"

// groups is what a checkpoint does not tell.
const groups = 8

// Convert reads encoder.npz in the folder of a generator that was trained with it, and the resolution, output_dim, from
// the config.json there. In the checkpoint stage i is body.{5i, 5i+1, 5i+3}: convolution, normalisation, convolution,
// OIHW; the columns of head are in the order channel, row, column. The result is the metadata and the tensors of an
// expert file, in the order in which the encoder uses them; biases and normalisations are f32 in every storage:
//
//	stages.i.conv_{0,1}.{weight,bias} [out][3][3][in]
//	stages.i.norm.{weight,bias}       [out]
//	head.{weight,bias}                [means, log-variances][row, column, channel]
func Convert(dir string, storage nn.Storage) (map[string]string, []safetensors.Tensor, error) {
	resolution, err := outputDim(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, nil, err
	}
	path := filepath.Join(dir, "encoder.npz")
	arrays, err := npz.Open(path)
	if err != nil {
		return nil, nil, err
	}
	tensors, err := npz.Tensors(arrays)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	source := nn.Memory(path, tensors)
	cfg := shape(source, resolution)
	if err := cfg.check(); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	w := nn.Load(source)
	to := nn.NewStore(w, storage)
	cfg.convert(w, to)
	if err := w.Err(); err != nil {
		return nil, nil, err
	}
	if names := w.Unused(); len(names) > 0 {
		return nil, nil, fmt.Errorf("%s: array %q is not one of this encoder (nor are %d others)", path, names[0], len(names)-1)
	}
	config, err := json.Marshal(cfg)
	if err != nil {
		return nil, nil, err
	}
	return map[string]string{"arch": Arch, "config": string(config), "layout": "conv OHWI"}, to.Tensors(), nil
}

func outputDim(path string) (int, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	var config struct {
		Resolution int `json:"output_dim"`
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return config.Resolution, nil
}

// shape reads the sizes off the biases of a checkpoint.
func shape(s nn.Source, resolution int) Config {
	c := Config{Resolution: resolution, Groups: groups}
	for {
		bias, ok := s.Lookup(fmt.Sprintf("body.%d.bias", 5*len(c.Widths)))
		if !ok {
			break
		}
		c.Widths = append(c.Widths, bias.Elements())
	}
	if bias, ok := s.Lookup("head.bias"); ok {
		c.Latent = bias.Elements() / 2
	}
	return c
}

func (c *Config) convert(w nn.Weights, to *nn.Store) {
	in := 3
	for i, out := range c.Widths {
		first, norm, second := fmt.Sprintf("body.%d", 5*i), fmt.Sprintf("body.%d", 5*i+1), fmt.Sprintf("body.%d", 5*i+3)
		stage := fmt.Sprintf("stages.%d.", i)
		to.Matrix(stage+"conv_0.weight", nn.ChannelsLast(w.F32(first+".weight", out, in, 3, 3), out, in, 9), out, 3, 3, in)
		to.Put(stage+"conv_0.bias", w.F32(first+".bias", out), out)
		to.Put(stage+"norm.weight", w.F32(norm+".weight", out), out)
		to.Put(stage+"norm.bias", w.F32(norm+".bias", out), out)
		to.Matrix(stage+"conv_1.weight", nn.ChannelsLast(w.F32(second+".weight", out, out, 3, 3), out, out, 9), out, 3, 3, out)
		to.Put(stage+"conv_1.bias", w.F32(second+".bias", out), out)
		in = out
	}
	rows, n := 2*c.Latent, c.features()
	to.Matrix("head.weight", nn.ChannelsLast(w.F32("head.weight", rows, n), rows, in, c.last()*c.last()), rows, n)
	to.Put("head.bias", w.F32("head.bias", rows), rows)
}
