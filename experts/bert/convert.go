package bert

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"netfusion/nn"
	"netfusion/nn/safetensors"
)

// ConvertOptions say what an expert file is to hold.
type ConvertOptions struct {
	Storage Storage // of the matrices; vectors stay float32
	Licence string  // "" means what the folder's README.md says in its front matter
	Source  string  // where the checkpoint came from
}

// Storage is that of every expert.
type Storage = nn.Storage

// Convert turns a checkpoint folder into the metadata and the tensors of an expert file, for safetensors.WriteFile. The
// metadata has arch, config, licence, source and source.sha256, the sum of the weight file. It fails, by the names of
// file and tensor, on whatever Load would refuse.
func Convert(dir string, o ConvertOptions) (map[string]string, []safetensors.Tensor, error) {
	p, err := readFolder(dir)
	if err != nil {
		return nil, nil, err
	}
	meta, tensors, err := p.convert(dir, o)
	return meta, tensors, errors.Join(err, p.weights.Close())
}

func (p *checkpoint) convert(dir string, o ConvertOptions) (map[string]string, []safetensors.Tensor, error) {
	d, err := translate(p.weights)
	if err != nil {
		return nil, nil, err
	}
	w := nn.Load(d)
	to := nn.NewStore(w, o.Storage)
	for _, t := range p.config.tensors() {
		v := w.F32(t.name, t.shape...)
		if len(t.shape) == 2 {
			to.Matrix(t.name, v, t.shape...)
		} else {
			to.Put(t.name, v, t.shape...)
		}
	}
	if err := complete(w, d); err != nil {
		return nil, nil, err
	}
	sum, err := fileSum(p.weights.Origin())
	if err != nil {
		return nil, nil, err
	}
	config, err := json.Marshal(p.config)
	if err != nil {
		return nil, nil, err
	}
	if o.Licence == "" {
		o.Licence = cardLicence(dir)
	}
	meta := map[string]string{"arch": "bert", "config": string(config), "licence": o.Licence, "source": o.Source, "source.sha256": sum}
	vocab := safetensors.Tensor{Name: vocabTensor, DType: safetensors.U8, Shape: []int{len(p.vocab)}, Data: p.vocab}
	return meta, append([]safetensors.Tensor{vocab}, to.Tensors()...), nil
}

// named is a tensor's name and shape.
type named struct {
	name  string
	shape []int
}

// tensors lists an encoder's tensors in the order in which a forward pass reads them.
func (c Config) tensors() []named {
	ts := []named{
		{wordTable, []int{c.Vocab, c.Hidden}},
		{"embeddings.position_embeddings.weight", []int{c.MaxPositions, c.Hidden}},
		{"embeddings.token_type_embeddings.weight", []int{c.Types, c.Hidden}},
		{"embeddings.LayerNorm.weight", []int{c.Hidden}}, {"embeddings.LayerNorm.bias", []int{c.Hidden}},
	}
	for i := range c.Layers {
		for _, part := range []named{
			{"attention.self.query", []int{c.Hidden, c.Hidden}}, {"attention.self.key", []int{c.Hidden, c.Hidden}},
			{"attention.self.value", []int{c.Hidden, c.Hidden}}, {"attention.output.dense", []int{c.Hidden, c.Hidden}},
			{"attention.output.LayerNorm", []int{c.Hidden}}, {"intermediate.dense", []int{c.Intermediate, c.Hidden}},
			{"output.dense", []int{c.Hidden, c.Intermediate}}, {"output.LayerNorm", []int{c.Hidden}},
		} {
			stem := fmt.Sprintf("encoder.layer.%d.%s", i, part.name)
			ts = append(ts, named{stem + ".weight", part.shape}, named{stem + ".bias", part.shape[:1]})
		}
	}
	return ts
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// cardLicence finds "license: …" in the front matter of a model card, or returns "".
func cardLicence(dir string) string {
	data, err := readSmall(filepath.Join(dir, "README.md"))
	if err != nil {
		return ""
	}
	front, ok := strings.CutPrefix(string(data), "---\n")
	if !ok {
		return ""
	}
	front, _, _ = strings.Cut(front, "\n---")
	for line := range strings.Lines(front) {
		if value, ok := strings.CutPrefix(line, "license:"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
