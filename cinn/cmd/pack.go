package main

import (
	"context"
	"encoding/json"
	"flag"
	"image"
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

Where a pack stands in place of an expert's file, that expert is taken out of it:

  cinn pack -source old.pack -target old.pack -flow flow.safetensors -o new.pack

The result is a safetensors file that any tool opens. With -compress it is in the form for distribution, about a third
smaller, that the program embeds.
`,
		setup: func(f *flag.FlagSet) action {
			p := new(packer)
			f.StringVar(&p.source, "source", "", "the text encoder, an expert `FILE` that cinn convert wrote, or a pack")
			f.StringVar(&p.flow, "flow", "", "the flow, a `FILE` that cinn train wrote")
			f.StringVar(&p.target, "target", "", "the image generator, an expert `FILE` or a pack")
			f.StringVar(&p.encoder, "encoder", "", "the image encoder, an expert `FILE` or a pack; default none")
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

// packer joins parts as its flags say.
type packer struct {
	source, flow, target, encoder, out string
	force, half, compress              bool
	name, pairs, notice                string
	temperature, guidance              float32
}

func (p *packer) run(ctx context.Context, s stdio, words []string) error {
	if len(words) > 0 || p.source == "" || p.flow == "" || p.target == "" || p.out == "" {
		return usagef("want -source, -flow, -target and -o")
	}
	if taken(p.out) && !p.force {
		return existsError(p.out)
	}
	source, err := openIngredient(p.source, "source")
	if err != nil {
		return err
	}
	defer source.file.Close()
	target, err := openIngredient(p.target, "target")
	if err != nil {
		return err
	}
	defer target.file.Close()
	about, err := p.describe(source, target)
	if err != nil {
		return err
	}
	parts := cinn.Parts{Source: source.part, Target: target.part}
	if p.encoder != "" {
		encoder, err := openIngredient(p.encoder, "encoder")
		if err != nil {
			return err
		}
		defer encoder.file.Close()
		parts.Encoder = encoder.part
		encoder.license(about)
	}
	f, err := flow.Open(p.flow)
	if err != nil {
		return err
	}
	config, err := json.Marshal(f.Config)
	if err != nil {
		return err
	}
	parts.Flow = cinn.Part{Meta: map[string]string{"config": string(config)}, Tensors: f.Tensors(p.half)}
	if err := p.write(about, parts); err != nil {
		return err
	}
	return wrote(s, p.out, len(parts.Source.Tensors)+len(parts.Flow.Tensors)+len(parts.Target.Tensors)+len(parts.Encoder.Tensors))
}

// describe says what the pack will be. What a pack that the generator comes from says of the data holds for this one, too.
func (p *packer) describe(source, target *ingredient) (cinn.Fusion, error) {
	about := cinn.Fusion{
		Name: p.name, Source: stem(p.source), Target: stem(p.target), Classes: target.from.Classes,
		Temperature: p.temperature, Guidance: p.guidance, Licences: map[string]string{},
	}
	if source.from.Source != "" {
		about.Source = source.from.Source
	}
	if target.from.Target != "" {
		about.Target = target.from.Target
	}
	if p.name == "" {
		about.Name = stem(p.out)
	}
	if p.pairs != "" {
		set, err := pairs.Open(p.pairs)
		if err != nil {
			return about, err
		}
		about.Classes = set.Classes
	}
	if notice := target.from.Licences["notice"]; notice != "" {
		about.Licences["notice"] = notice
	}
	if p.notice != "" {
		text, err := os.ReadFile(p.notice)
		if err != nil {
			return about, err
		}
		about.Licences["notice"] = string(text)
	}
	source.license(about)
	target.license(about)
	return about, nil
}

// ingredient is an expert for a pack.
type ingredient struct {
	name string // of the part
	part cinn.Part
	from cinn.Fusion // the pack that it was taken out of, or nothing
	file *safetensors.File
}

// openIngredient opens an expert file, or takes the named part out of a pack, after comparing the checksums.
func openIngredient(path, name string) (*ingredient, error) {
	f, err := cinn.OpenContainer(path)
	if err != nil {
		return nil, err
	}
	in := &ingredient{name: name, part: cinn.Part{Meta: f.Metadata(), Tensors: f.Tensors()}, file: f}
	err = f.Verify()
	if err == nil && f.Metadata()["arch"] == cinn.Arch {
		if in.from, err = cinn.ReadFusion(f); err == nil {
			in.part, err = cinn.ReadPart(f, name)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return in, nil
}

// license adds the licence of the expert to those of the pack.
func (in *ingredient) license(about cinn.Fusion) {
	for _, licence := range []string{in.part.Meta["licence"], in.from.Licences[in.name]} {
		if licence != "" {
			about.Licences[in.name] = licence
			return
		}
	}
}

// write writes the pack beside where it belongs, proves that it opens, and only then gives it its name.
func (p *packer) write(about cinn.Fusion, parts cinn.Parts) error {
	folder, err := os.MkdirTemp(filepath.Dir(p.out), ".cinn-pack-")
	if err != nil {
		return named(p.out, err)
	}
	defer os.RemoveAll(folder)
	raw := filepath.Join(folder, "raw")
	if err := cinn.WritePack(raw, about, parts); err != nil {
		return err
	}
	if err := tryPack(raw); err != nil {
		return named(p.out, err)
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

// tryPack opens all of a pack, the image encoder by using it.
func tryPack(path string) error {
	model, err := cinn.Open(path, cinn.Options{Workers: 1})
	if err != nil {
		return err
	}
	defer model.Close()
	session, err := model.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()
	info := model.Info()
	if !info.Encoder {
		return nil
	}
	return session.Encode(make([]float32, info.Z), make([]float32, info.Z), image.NewNRGBA(info.Bounds))
}

// stem is a file's name without folder and extension.
func stem(path string) string {
	base := filepath.Base(path)
	return strings.TrimSuffix(base, filepath.Ext(base))
}
