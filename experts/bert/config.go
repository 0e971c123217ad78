package bert

import (
	"encoding/json"
	"fmt"
)

// Config describes an encoder. Its first part is a checkpoint's config.json; the second is found in other files of a
// checkpoint folder and kept together with the first in an expert file.
type Config struct {
	ModelType    string  `json:"model_type"`
	Hidden       int     `json:"hidden_size"`
	Layers       int     `json:"num_hidden_layers"`
	Heads        int     `json:"num_attention_heads"`
	Intermediate int     `json:"intermediate_size"`
	MaxPositions int     `json:"max_position_embeddings"`
	Types        int     `json:"type_vocab_size"`
	Vocab        int     `json:"vocab_size"`
	Activation   string  `json:"hidden_act"`
	Epsilon      float32 `json:"layer_norm_eps"`
	Positions    string  `json:"position_embedding_type,omitempty"`
	Decoder      bool    `json:"is_decoder,omitempty"`
	CrossAttends bool    `json:"add_cross_attention,omitempty"`

	MaxTokens      int            `json:"max_tokens,omitempty"` // of a text with its special tokens; 0 means MaxPositions
	Cased          bool           `json:"cased,omitempty"`
	Representation Representation `json:"representation"`
}

// Representation says what stands for a text.
type Representation struct {
	Layer     int     `json:"layer"` // hidden state to take: 0 is the embeddings, Config.Layers the last
	Pooling   Pooling `json:"pooling"`
	Normalize bool    `json:"normalize"` // divide by the Euclidean norm
}

// Pooling turns the states of a text's tokens into one.
type Pooling string

const (
	Mean Pooling = "mean" // over all tokens, [CLS] and [SEP] included
	CLS  Pooling = "cls"  // that of the first token
)

// ParseConfig reads a config.json, the file's own or the one in an expert file, and refuses by name what the encoder
// does not do. What a config.json leaves out has the value that it stands for there; the representation is then the
// mean of the last layer.
func ParseConfig(data []byte) (Config, error) {
	c := Config{
		ModelType: "bert", MaxPositions: 512, Types: 2, Activation: "gelu", Epsilon: 1e-12, Positions: "absolute",
		Representation: Representation{Layer: -1, Pooling: Mean},
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return Config{}, fmt.Errorf("config: %w", err)
	}
	if c.MaxTokens == 0 {
		c.MaxTokens = c.MaxPositions
	}
	if c.Representation.Layer == -1 {
		c.Representation.Layer = c.Layers
	}
	return c, c.check()
}

// maxState is the most values of a text's states, a hundred times those of the large encoders. A small file could ask
// for any amount of memory otherwise.
const maxState = 1 << 28

func (c Config) check() error {
	for _, size := range []struct {
		name          string
		value, lo, hi int
	}{
		{"hidden_size", c.Hidden, 1, 1 << 14},
		{"num_hidden_layers", c.Layers, 1, 1 << 10},
		{"num_attention_heads", c.Heads, 1, 1 << 10},
		{"intermediate_size", c.Intermediate, 1, 1 << 16},
		{"max_position_embeddings", c.MaxPositions, 3, 1 << 16},
		{"type_vocab_size", c.Types, 1, 1 << 8},
		{"vocab_size", c.Vocab, 1, maxVocabTokens},
		{"max_tokens", c.MaxTokens, 3, c.MaxPositions},
	} {
		if size.value < size.lo || size.value > size.hi {
			return fmt.Errorf("config: %s is %d, want %d to %d", size.name, size.value, size.lo, size.hi)
		}
	}
	_, known := activations[c.Activation]
	switch {
	case c.MaxTokens*max(c.Intermediate, 3*c.Hidden) > maxState:
		return fmt.Errorf("config: %d tokens of %d values, at most %d together are supported", c.MaxTokens, max(c.Intermediate, 3*c.Hidden), maxState)
	case c.Hidden%c.Heads != 0:
		return fmt.Errorf("config: hidden_size %d is no multiple of num_attention_heads %d", c.Hidden, c.Heads)
	case c.ModelType != "bert":
		return fmt.Errorf("config: model_type %q is not supported, only \"bert\"", c.ModelType)
	case c.Positions != "absolute":
		return fmt.Errorf("config: position_embedding_type %q is not supported, only \"absolute\"", c.Positions)
	case c.Decoder || c.CrossAttends:
		return fmt.Errorf("config: is_decoder and add_cross_attention are not supported")
	case !known:
		return fmt.Errorf("config: hidden_act %q is not supported, only gelu, gelu_new, gelu_pytorch_tanh and relu", c.Activation)
	case !(c.Epsilon > 0 && c.Epsilon < 1):
		return fmt.Errorf("config: layer_norm_eps is %v", c.Epsilon)
	}
	return c.Representation.check(c.Layers)
}

func (r Representation) check(layers int) error {
	if r.Layer < 0 || r.Layer > layers {
		return fmt.Errorf("representation: layer %d of an encoder with layers 0 to %d", r.Layer, layers)
	}
	if r.Pooling != Mean && r.Pooling != CLS {
		return fmt.Errorf("representation: pooling %q is not supported, only %q and %q", r.Pooling, Mean, CLS)
	}
	return nil
}
