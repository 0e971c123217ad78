package bert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"netfusion/nn"
	"netfusion/nn/safetensors"
	"netfusion/nn/torchbin"
	"netfusion/tensor"
)

// vocabTensor holds the vocab.txt in an expert file, so that one file is one expert.
const vocabTensor = "tokenizer.vocab"

// Open reads a checkpoint folder (config.json, vocab.txt, model.safetensors or pytorch_model.bin, and the files of
// sentence-transformers where there are some) or an expert file that Convert made, for products in precision p.
func Open(path string, p tensor.Precision) (*Model, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return openFolder(path, p)
	}
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	meta := f.Metadata()
	if meta["arch"] != "bert" {
		return nil, errors.Join(fmt.Errorf("%s: arch is %q, want \"bert\"", path, meta["arch"]), f.Close())
	}
	m, err := LoadExpert(f, []byte(meta["config"]), p)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	m.close = f.Close
	return m, nil
}

// LoadExpert builds an encoder from the tensors of an expert file and the "config" of its metadata; a pack holds both.
// Its products are computed in precision p. The Model may refer to the source's memory.
func LoadExpert(source nn.Source, config []byte, p tensor.Precision) (*Model, error) {
	c, err := ParseConfig(config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source.Origin(), err)
	}
	vocab, ok := source.Lookup(vocabTensor)
	if !ok || vocab.DType != safetensors.U8 {
		return nil, fmt.Errorf("%s: no tensor %q of U8", source.Origin(), vocabTensor)
	}
	t, err := ReadVocab(bytes.NewReader(vocab.Data), TokenizerOptions{Cased: c.Cased})
	if err != nil {
		return nil, fmt.Errorf("%s: tensor %q: %w", source.Origin(), vocabTensor, err)
	}
	return Load(source, c, t, p)
}

// checkpoint is a folder's files, opened.
type checkpoint struct {
	config    Config
	vocab     []byte // vocab.txt
	tokenizer *Tokenizer
	weights   weightFile
}

type weightFile interface {
	nn.Source
	Close() error
}

func openFolder(dir string, p tensor.Precision) (*Model, error) {
	f, err := readFolder(dir)
	if err != nil {
		return nil, err
	}
	m, err := Load(f.weights, f.config, f.tokenizer, p)
	if err != nil {
		return nil, errors.Join(err, f.weights.Close())
	}
	m.close = f.weights.Close
	return m, nil
}

func readFolder(dir string) (*checkpoint, error) {
	c, err := readFolderConfig(dir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "vocab.txt")
	vocab, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	t, err := ReadVocab(bytes.NewReader(vocab), TokenizerOptions{Cased: c.Cased})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	w, err := openWeights(dir)
	if err != nil {
		return nil, err
	}
	if err := fits(t, c, w); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return &checkpoint{c, vocab, t, w}, nil
}

func openWeights(dir string) (weightFile, error) {
	f, err := safetensors.Open(filepath.Join(dir, "model.safetensors"))
	if err == nil {
		return f, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	b, err := torchbin.Open(filepath.Join(dir, "pytorch_model.bin"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: neither model.safetensors nor pytorch_model.bin", dir)
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// readFolderConfig joins config.json with what other files of the folder say about tokens and pooling.
func readFolderConfig(dir string) (Config, error) {
	path := filepath.Join(dir, "config.json")
	data, err := readSmall(path)
	if err != nil {
		return Config{}, err
	}
	c, err := ParseConfig(data)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}

	var length struct {
		Max int `json:"max_seq_length"`
	}
	if err := readJSON(dir, "sentence_bert_config.json", &length); err != nil {
		return Config{}, err
	}
	if length.Max > 0 {
		c.MaxTokens = min(length.Max, c.MaxPositions)
	}

	tokens := struct {
		Lower   bool  `json:"do_lower_case"`
		Strip   *bool `json:"strip_accents"`
		Chinese bool  `json:"tokenize_chinese_chars"`
	}{Lower: true, Chinese: true}
	if err := readJSON(dir, "tokenizer_config.json", &tokens); err != nil {
		return Config{}, err
	}
	c.Cased = !tokens.Lower
	if tokens.Strip != nil && *tokens.Strip != tokens.Lower || !tokens.Chinese {
		return Config{}, fmt.Errorf("%s: strip_accents other than do_lower_case, or no tokenize_chinese_chars, is not supported", filepath.Join(dir, "tokenizer_config.json"))
	}
	if err := readModules(dir, &c.Representation); err != nil {
		return Config{}, err
	}
	if err := c.check(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", dir, err)
	}
	return c, nil
}

// readModules reads the stages of a sentence-transformers model: encoder, pooling, normalisation.
func readModules(dir string, r *Representation) error {
	var modules []struct{ Path, Type string }
	if err := readJSON(dir, "modules.json", &modules); err != nil {
		return err
	}
	for _, m := range modules {
		switch kind := m.Type[strings.LastIndexByte(m.Type, '.')+1:]; kind {
		case "Transformer":
		case "Normalize":
			r.Normalize = true
		case "Pooling":
			if !filepath.IsLocal(m.Path) {
				return fmt.Errorf("%s: path %q leads out of the folder", filepath.Join(dir, "modules.json"), m.Path)
			}
			pooling, err := readPooling(dir, filepath.Join(m.Path, "config.json"))
			if err != nil {
				return err
			}
			r.Pooling = pooling
		default:
			return fmt.Errorf("%s: module %q is not supported", filepath.Join(dir, "modules.json"), m.Type)
		}
	}
	return nil
}

func readPooling(dir, name string) (Pooling, error) {
	var values map[string]any
	if err := readJSON(dir, name, &values); err != nil {
		return "", err
	}
	known := map[string]Pooling{"pooling_mode_mean_tokens": Mean, "pooling_mode_cls_token": CLS}
	var modes []Pooling
	for key, v := range values {
		if on, _ := v.(bool); !on || !strings.HasPrefix(key, "pooling_mode_") {
			continue
		}
		p, ok := known[key]
		if !ok {
			return "", fmt.Errorf("%s: %s is not supported", filepath.Join(dir, name), key)
		}
		modes = append(modes, p)
	}
	if len(modes) != 1 {
		return "", fmt.Errorf("%s: %d pooling modes are on, want 1", filepath.Join(dir, name), len(modes))
	}
	return modes[0], nil
}

// readJSON decodes a file of the folder into v, and leaves v alone if there is none.
func readJSON(dir, name string, v any) error {
	path := filepath.Join(dir, name)
	data, err := readSmall(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// readSmall reads a file of at most maxVocabBytes.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxVocabBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxVocabBytes {
		return nil, fmt.Errorf("%s: more than %d bytes", path, maxVocabBytes)
	}
	return data, nil
}
