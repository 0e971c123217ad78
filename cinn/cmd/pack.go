package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"

	"netfusion/cinn"
	"netfusion/cinn/flow"
	"netfusion/cinn/pairs"
	"netfusion/nn/disk"
	"netfusion/nn/planes"
	"netfusion/nn/safetensors"
)

func packCommand() command {
	return command{
		name:  "pack",
		args:  "[flags] -source FILE -flow FILE -target FILE -o FILE",
		brief: "join two experts and a flow into one file",
		about: `  cinn pack -source minilm.safetensors -flow flow.safetensors -target biggan.safetensors -o my.pack
  cinn -model my.pack red heart

The result is a safetensors file that any tool opens. With -compress it is in the form for distribution, about a third
smaller, that the program embeds.
`,
		setup: func(f *flag.FlagSet) action {
			p := new(packer)
			f.StringVar(&p.source, "source", "", "the text encoder, an expert `FILE` that cinn convert wrote")
			f.StringVar(&p.flow, "flow", "", "the flow, a `FILE` that cinn train wrote")
			f.StringVar(&p.target, "target", "", "the image generator, an expert `FILE`")
			f.StringVar(&p.out, "o", "", "`FILE` to write")
			f.BoolVar(&p.force, "f", false, "replace FILE if it exists")
			f.BoolVar(&p.half, "half", false, "store the flow's matrices as bf16")
			f.BoolVar(&p.compress, "compress", false, "write the form for distribution")
			f.StringVar(&p.name, "name", "", "`NAME` of the fusion; default that of FILE")
			f.StringVar(&p.pairs, "pairs", "", "take the classes' names from a `FILE` that cinn pairs wrote")
			f.StringVar(&p.notice, "notice", "", "a text `FILE` with the notices of the data, to carry along")
			f.Var((*scalar)(&p.temperature), "temperature", "default `T` of generate; 0 is 1")
			f.Var((*scalar)(&p.guidance), "guidance", "default `G` of generate; 0 is 1")
			return p.run
		},
	}
}

type packer struct {
	source, flow, target, out string
	force, half, compress     bool
	name, pairs, notice       string
	temperature, guidance     float32
}

func (p *packer) run(ctx context.Context, s stdio, words []string) error {
	if len(words) > 0 || p.source == "" || p.flow == "" || p.target == "" || p.out == "" {
		return usagef("want -source, -flow, -target and -o")
	}
	if taken(p.out) && !p.force {
		return existsError(p.out)
	}
	about := cinn.Fusion{
		Name: p.name, Source: stem(p.source), Target: stem(p.target),
		Temperature: p.temperature, Guidance: p.guidance, Licences: map[string]string{},
	}
	if p.name == "" {
		about.Name = stem(p.out)
	}
	if p.pairs != "" {
		set, err := pairs.Open(p.pairs)
		if err != nil {
			return err
		}
		about.Classes = set.Classes
	}
	if p.notice != "" {
		text, err := os.ReadFile(p.notice)
		if err != nil {
			return err
		}
		about.Licences["notice"] = string(text)
	}
	source, err := safetensors.Open(p.source)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := safetensors.Open(p.target)
	if err != nil {
		return err
	}
	defer target.Close()
	f, err := flow.Open(p.flow)
	if err != nil {
		return err
	}
	config, err := json.Marshal(f.Config)
	if err != nil {
		return err
	}
	parts := [3]cinn.Part{
		{Meta: source.Metadata(), Tensors: source.Tensors()},
		{Meta: map[string]string{"config": string(config)}, Tensors: f.Tensors(p.half)},
		{Meta: target.Metadata(), Tensors: target.Tensors()},
	}
	if err := errors.Join(source.Verify(), target.Verify()); err != nil {
		return err
	}
	for name, meta := range map[string]map[string]string{"source": parts[0].Meta, "target": parts[2].Meta} {
		if licence := meta["licence"]; licence != "" {
			about.Licences[name] = licence
		}
	}
	if err := p.write(about, parts); err != nil {
		return err
	}
	return wrote(s, p.out, len(parts[0].Tensors)+len(parts[1].Tensors)+len(parts[2].Tensors))
}

// write writes the pack beside where it belongs, proves that it opens, and only then gives it its name.
func (p *packer) write(about cinn.Fusion, parts [3]cinn.Part) error {
	folder, err := os.MkdirTemp(filepath.Dir(p.out), ".cinn-pack-")
	if err != nil {
		return named(p.out, err)
	}
	defer os.RemoveAll(folder)
	raw := filepath.Join(folder, "raw")
	if err := cinn.WritePack(raw, about, parts[0], parts[1], parts[2]); err != nil {
		return err
	}
	model, err := cinn.Open(raw, cinn.Options{})
	if err != nil {
		return named(p.out, err)
	}
	if err := model.Close(); err != nil {
		return err
	}
	if !p.compress {
		return os.Rename(raw, p.out)
	}
	data, unmap, err := disk.Map(raw)
	if err != nil {
		return err
	}
	defer unmap()
	return named(p.out, disk.WriteFile(p.out, func(w io.Writer) error { return planes.Compress(w, data) }))
}

// stem is a file's name without folder and extension.
func stem(path string) string {
	base := filepath.Base(path)
	return strings.TrimSuffix(base, filepath.Ext(base))
}
