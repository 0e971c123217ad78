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

	"netfusion/nn/safetensors"
)

// Storage is the type in which an expert file keeps the matrices of an encoder; vectors stay float32.
type Storage string

const (
	F32  Storage = "f32"
	F16  Storage = "f16"
	BF16 Storage = "bf16"
	Int8 Storage = "int8" // with a float32 scale for each row
)

// ConvertOptions say what an expert file is to hold.
type ConvertOptions struct {
	Storage Storage // "" means F32
	Licence string  // "" means what the folder's README.md says in its front matter
	Source  string  // where the checkpoint came from
}

// Convert turns a checkpoint folder into the metadata and the tensors of an expert file, for safetensors.WriteFile. The
// metadata has arch, config, licence, source and the sha256 of the weight file.
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
	tensors := []safetensors.Tensor{{Name: vocabTensor, DType: safetensors.U8, Shape: []int{len(p.vocab)}, Data: p.vocab}}
	for _, name := range p.config.tensorNames() {
		t, ok := d.Lookup(name)
		if !ok {
			return nil, nil, fmt.Errorf("%s: tensor %q is missing", d.Origin(), name)
		}
		stored, err := o.Storage.store(t)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", d.Origin(), err)
		}
		tensors = append(tensors, stored...)
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
	return map[string]string{"arch": "bert", "config": string(config), "licence": o.Licence, "source": o.Source, "sha256": sum}, tensors, nil
}

// tensorNames lists an encoder's tensors in the order in which a forward pass reads them.
func (c Config) tensorNames() []string {
	names := []string{wordTable, "embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight",
		"embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias"}
	for i := range c.Layers {
		for _, part := range []string{"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
			"attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"} {
			stem := fmt.Sprintf("encoder.layer.%d.%s", i, part)
			names = append(names, stem+".weight", stem+".bias")
		}
	}
	return names
}

func (s Storage) store(t safetensors.Tensor) ([]safetensors.Tensor, error) {
	v, err := t.Float32s()
	if err != nil {
		return nil, err
	}
	switch {
	case s != "" && s != F32 && s != F16 && s != BF16 && s != Int8:
		return nil, fmt.Errorf("storage %q is not one of f32, f16, bf16, int8", s)
	case len(t.Shape) != 2 || s == F32 || s == "":
		return []safetensors.Tensor{safetensors.NewF32(t.Name, t.Shape, v)}, nil
	case s == F16:
		return []safetensors.Tensor{safetensors.NewF16(t.Name, t.Shape, v)}, nil
	case s == BF16:
		return []safetensors.Tensor{safetensors.NewBF16(t.Name, t.Shape, v)}, nil
	default:
		q, scale := safetensors.NewI8Rows(t.Name, t.Shape, v)
		return []safetensors.Tensor{q, scale}, nil
	}
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
