package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"netfusion/cinn/flow"
	"netfusion/experts/autoencoder"
	"netfusion/experts/bert"
	"netfusion/experts/biggan"
	"netfusion/nn"
	"netfusion/nn/safetensors"
)

func convertCommand() command {
	return command{
		name:  "convert",
		args:  "[flags] FOLDER|CHECKPOINT -o FILE",
		brief: "make an expert file of a published checkpoint",
		about: `  cinn convert all-MiniLM-L6-v2 -o minilm.safetensors -dtype int8
  cinn convert biggan-deep-128 -o biggan.safetensors -dtype bf16
  cinn convert biggan-emoji -arch vae-encoder -o encoder.safetensors -dtype f16
  cinn convert -arch net2net last.ckpt -o flow.safetensors

The folder holds config.json and model.safetensors or pytorch_model.bin, for a text encoder also vocab.txt; an
image encoder is encoder.npz beside its generator's config.json. The flow of a net2net checkpoint becomes a flow
file, for cinn eval and cinn pack; its type is f32 or bf16. Nothing in a checkpoint is executed.
`,
		setup: func(f *flag.FlagSet) action {
			c := new(converter)
			f.StringVar(&c.out, "o", "", "`FILE` to write")
			f.BoolVar(&c.force, "f", false, "replace FILE if it exists")
			f.StringVar(&c.arch, "arch", "", "bert, biggan, vae-encoder or net2net, `NAME`; default bert or biggan, by the folder's config.json")
			f.StringVar(&c.dtype, "dtype", "f32", "store matrices as `TYPE`: f32, f16, bf16, or int8 with a scale per row (default f32)")
			f.StringVar(&c.licence, "licence", "", "`TEXT` to record; default what the folder's model card says")
			f.StringVar(&c.source, "source", "", "`TEXT` that says where the checkpoint came from, to record")
			return c.run
		},
	}
}

// converter makes an expert file as its flags say.
type converter struct {
	out, arch, dtype, licence, source string
	force                             bool
}

func (c *converter) run(_ context.Context, s stdio, words []string) error {
	if len(words) != 1 || c.out == "" {
		return usagef("want one folder or checkpoint, and -o FILE")
	}
	if taken(c.out) && !c.force {
		return existsError(c.out)
	}
	arch := c.arch
	if arch == "" {
		var err error
		if arch, err = detect(words[0]); err != nil {
			return err
		}
	}
	var meta map[string]string
	var tensors []safetensors.Tensor
	var err error
	switch arch {
	case "bert":
		meta, tensors, err = bert.Convert(words[0], bert.ConvertOptions{Storage: bert.Storage(c.dtype), Licence: c.licence, Source: c.source})
	case "biggan":
		meta, tensors, err = biggan.Convert(words[0], nn.Storage(c.dtype))
	case autoencoder.Arch:
		meta, tensors, err = autoencoder.Convert(words[0], nn.Storage(c.dtype))
	case flow.Net2Net:
		if c.dtype != "f32" && c.dtype != "bf16" {
			return usagef("-dtype %s: a flow is stored as f32 or bf16", c.dtype)
		}
		var f *flow.Flow
		if f, err = flow.Convert(words[0]); err == nil {
			meta, tensors = f.Meta(), f.Tensors(c.dtype == "bf16")
		}
	default:
		return usagef("-arch %q: want bert, biggan, %s or %s", arch, autoencoder.Arch, flow.Net2Net)
	}
	if err != nil {
		return err
	}
	if c.licence != "" {
		meta["licence"] = c.licence
	}
	if c.source != "" {
		meta["source"] = c.source
	}
	if err := safetensors.WriteFile(c.out, meta, tensors); err != nil {
		return err
	}
	return wrote(s, c.out, len(tensors))
}

// detect tells the architecture of a checkpoint by a field that only its config.json has.
func detect(folder string) (arch string, err error) {
	path := filepath.Join(folder, "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	for field, arch := range map[string]string{"num_hidden_layers": "bert", "channel_width": "biggan"} {
		if _, ok := fields[field]; ok {
			return arch, nil
		}
	}
	return "", fmt.Errorf("%s: neither a BERT's nor a BigGAN's; -arch says which", path)
}

// wrote tells what was written.
func wrote(s stdio, path string, tensors int) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%s: %d tensors, %.1f MiB\n", path, tensors, float64(info.Size())/(1<<20))
	return nil
}
