package bert

import (
	"fmt"
	"strings"

	"netfusion/nn"
	"netfusion/nn/safetensors"
)

// dialect presents a checkpoint under the names of today's plain BertModel, "embeddings.…" and "encoder.layer.…":
//
//   - task models and sentence encoders put "bert.", "0.auto_model." or the like before them;
//   - checkpoints converted from the first releases say LayerNorm.gamma and .beta for .weight and .bias.
//
// What is no part of the encoder (heads, position_ids) does not appear.
type dialect struct {
	source nn.Source
	actual map[string]string // plain name → the file's
	names  []string
}

const wordTable = "embeddings.word_embeddings.weight"

func translate(source nn.Source) (*dialect, error) {
	prefix, found := "", false
	for _, name := range source.Names() {
		if p, ok := strings.CutSuffix(name, wordTable); ok && (!found || len(p) < len(prefix)) {
			prefix, found = p, true
		}
	}
	if !found {
		return nil, fmt.Errorf("%s: no tensor is named …%s: not a BERT encoder", source.Origin(), wordTable)
	}
	d := &dialect{source: source, actual: map[string]string{}}
	for _, name := range source.Names() {
		plain, inside := strings.CutPrefix(name, prefix)
		if ignored(plain) || ignored(name) {
			continue
		}
		if !inside {
			plain = name
		}
		if stem, ok := strings.CutSuffix(plain, "LayerNorm.gamma"); ok {
			plain = stem + "LayerNorm.weight"
		} else if stem, ok := strings.CutSuffix(plain, "LayerNorm.beta"); ok {
			plain = stem + "LayerNorm.bias"
		}
		if other, dup := d.actual[plain]; dup {
			return nil, fmt.Errorf("%s: tensors %q and %q are the same part of the encoder", source.Origin(), other, name)
		}
		d.actual[plain] = name
		d.names = append(d.names, plain)
	}
	return d, nil
}

// ignored tells the tensors beside the encoder's: heads that follow it in some checkpoints, indices that are no weights,
// and the vocabulary of an expert file.
func ignored(name string) bool {
	for _, head := range []string{"pooler.", "cls.", "classifier.", "qa_outputs."} {
		if strings.HasPrefix(name, head) {
			return true
		}
	}
	return name == "embeddings.position_ids" || name == vocabTensor
}

// Lookup finds a tensor by its plain name and returns it under that.
func (d *dialect) Lookup(name string) (safetensors.Tensor, bool) {
	actual, ok := d.actual[name]
	if !ok {
		return safetensors.Tensor{}, false
	}
	t, ok := d.source.Lookup(actual)
	t.Name = name
	return t, ok
}

func (d *dialect) Names() []string { return d.names }
func (d *dialect) Origin() string  { return d.source.Origin() }
