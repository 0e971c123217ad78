// Package tiny makes a fusion of random weights, small enough to make anew in every test: a BERT encoder of two layers, a
// BigGAN-deep generator of pictures of 16 pixels and three classes, a flow of two blocks between them, and an image encoder.
package tiny

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"netfusion/cinn"
	"netfusion/cinn/flow"
	"netfusion/experts/autoencoder"
	"netfusion/experts/bert"
	"netfusion/experts/biggan"
	"netfusion/kernels/random"
	"netfusion/nn"
	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

// Encoder writes the checkpoint folder of the text encoder to dir. Its words are red, heart, ##s and w0 to w49.
func Encoder(t testing.TB, dir string) {
	t.Helper()
	golden, err := safetensors.Open(filepath.Join(root(t), "experts/bert/testdata/tiny-plain.safetensors"))
	must(t, err)
	defer golden.Close()
	checkpoint := nn.Under(golden, "checkpoint/")
	var weights []safetensors.Tensor
	for _, name := range checkpoint.Names() {
		x, _ := checkpoint.Lookup(name)
		weights = append(weights, x)
	}
	var vocab strings.Builder
	vocab.WriteString("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nred\nheart\n##s\n")
	for i := range 50 {
		fmt.Fprintf(&vocab, "w%d\n", i)
	}
	must(t, os.MkdirAll(dir, 0o755))
	must(t, safetensors.WriteFile(filepath.Join(dir, "model.safetensors"), nil, weights))
	must(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte(golden.Metadata()["config"]), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "vocab.txt"), []byte(vocab.String()), 0o644))
}

// Generator is the checkpoint folder of the image generator.
func Generator(t testing.TB) string {
	t.Helper()
	return filepath.Join(root(t), "experts/biggan/testdata/tiny")
}

// ImageEncoder is the checkpoint folder of the encoder of images to the generator's latents.
func ImageEncoder(t testing.TB) string {
	t.Helper()
	return filepath.Join(root(t), "experts/autoencoder/testdata/tiny")
}

// Flow joins an encoder of the given width to the generator.
func Flow(t testing.TB, width int, target *biggan.Model) *flow.Flow {
	t.Helper()
	table := tensor.New(target.Classes, target.ClassDim)
	for k := range table.Rows {
		copy(table.Row(k), target.Class(k))
	}
	return newFlow(t, width, 0, target.ZDim, table)
}

// RandomFlow is a part for an encoder of the given width and a generator of the given sizes.
func RandomFlow(t testing.TB, width, latent, class, classes int) cinn.Part {
	t.Helper()
	return part(t, newFlow(t, width, 0, latent, tensor.New(classes, class)))
}

// newFlow has the rows of table as classes, and reads a map if it has a side. A new flow ignores its condition: this one is as if
// training had moved it.
func newFlow(t testing.TB, width, side, latent int, table tensor.Tensor) *flow.Flow {
	t.Helper()
	c := flow.Config{
		Dialect: flow.NetFusion, Latent: latent, Cond: width, Class: table.Cols, Classes: table.Rows, ClassNoise: 0.2,
		Blocks: 2, Hidden: 8, Clamp: 1, Embed: 4, EmbedWidth: 8,
	}
	if side > 0 {
		c.Side, c.Convs, c.ConvWidth, c.Pool = side, 1, 3, 2
	}
	f, err := flow.New(c, 1)
	must(t, err)
	noise := make([]float32, len(f.Values()))
	random.Normal(noise, 1, 0, 0, 0)
	for i, v := range noise {
		f.Values()[i] += float32(0.1 * v)
	}
	f.SetClasses(table)
	f.Pack()
	return f
}

func part(t testing.TB, f *flow.Flow) cinn.Part {
	t.Helper()
	config, err := json.Marshal(f.Config)
	must(t, err)
	return cinn.Part{Meta: map[string]string{"config": string(config)}, Tensors: f.Tensors(false)}
}

// Experts makes the parts of a pack, the optional one too.
func Experts(t testing.TB) cinn.Parts {
	t.Helper()
	dir := t.TempDir()
	Encoder(t, dir)
	var p cinn.Parts
	var err error
	p.Source.Meta, p.Source.Tensors, err = bert.Convert(dir, bert.ConvertOptions{Storage: "int8", Licence: "free"})
	must(t, err)
	p.Target.Meta, p.Target.Tensors, err = biggan.Convert(Generator(t), "bf16")
	must(t, err)
	path := filepath.Join(dir, "target")
	must(t, safetensors.WriteFile(path, p.Target.Meta, p.Target.Tensors))
	target, err := biggan.Open(path, tensor.F32)
	must(t, err)
	p.Flow = part(t, Flow(t, Width, target))
	p.Encoder.Meta, p.Encoder.Tensors, err = autoencoder.Convert(ImageEncoder(t), "f16")
	must(t, err)
	return p
}

// Width is that of the encoder's embedding.
const Width = 32

// Pack writes a pack to a folder of the test's own and returns its path.
func Pack(t testing.TB) string {
	t.Helper()
	p := Experts(t)
	path := filepath.Join(t.TempDir(), "tiny.pack")
	must(t, cinn.WritePack(path, About(), p))
	return path
}

// PackOf writes a pack whose source is another one, with conditions of the given width; side is that of a map, or 0.
func PackOf(t testing.TB, source cinn.Part, width, side int) string {
	t.Helper()
	p := Experts(t)
	path := filepath.Join(t.TempDir(), "target")
	must(t, safetensors.WriteFile(path, p.Target.Meta, p.Target.Tensors))
	target, err := biggan.Open(path, tensor.F32)
	must(t, err)
	table := tensor.New(target.Classes, target.ClassDim)
	for k := range table.Rows {
		copy(table.Row(k), target.Class(k))
	}
	p.Source, p.Flow = source, part(t, newFlow(t, width, side, target.ZDim, table))
	path = filepath.Join(t.TempDir(), "tiny.pack")
	must(t, cinn.WritePack(path, About(), p))
	return path
}

// About describes the pack.
func About() cinn.Fusion {
	return cinn.Fusion{
		Name: "tiny", Source: "bert", Target: "biggan", Classes: []string{"a", "b", "c"},
		Licences: map[string]string{"source": "free"},
	}
}

// root finds the folder of go.mod above the test's.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	must(t, err)
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if filepath.Dir(dir) == dir {
			t.Fatal("no go.mod above this folder")
		}
		dir = filepath.Dir(dir)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
