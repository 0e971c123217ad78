package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"netfusion/cinn"
	"netfusion/cinn/pairs"
	"netfusion/cinn/train"
	"netfusion/experts/bert"
	"netfusion/experts/biggan"
	"netfusion/nn"
	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

// What the built-in fusion was made of, in a clone of the repository.
var (
	emojiPairs = filepath.Join("cinn", "pairs", "emoji.pairs")
	emojiPack  = filepath.Join("cinn", "pack", "emoji.pack")
)

// openDefault opens path, or where that is empty the file of a clone that flag name would else have to give.
func openDefault[T any](path, clone, name string, open func(string) (T, error)) (T, error) {
	if path != "" {
		return open(path)
	}
	file, err := open(clone)
	if errors.Is(err, fs.ErrNotExist) {
		return file, usagef("no data: want -%s FILE; the default, %s, is not below this folder", name, clone)
	}
	return file, err
}

// lessonFlags are the flags of train and eval: what there is to learn, and from which experts.
type lessonFlags struct {
	pairs, model, source, target, cache string
	workers                             int
}

func (l *lessonFlags) declare(f *flag.FlagSet) {
	f.StringVar(&l.pairs, "pairs", "", "the training set, a `FILE` that cinn pairs wrote; default "+emojiPairs)
	f.StringVar(&l.model, "model", "", "take both experts from a pack `FILE`; default "+emojiPack)
	f.StringVar(&l.source, "source", "", "the text encoder, an expert `FILE`, in place of the pack's")
	f.StringVar(&l.target, "target", "", "the image generator, an expert `FILE`, in place of the pack's")
	f.StringVar(&l.cache, "cache", "", "`FOLDER` to keep in what takes time, as the captions' embeddings; default in the user's cache")
	f.IntVar(&l.workers, "workers", 0, "goroutines, `N`; 0 is one per processor; the result does not depend on it")
}

// lesson is a training set, embedded, and the experts that it is about.
type lesson struct {
	set          *pairs.Set
	conditions   *pairs.Conditions
	pack         *safetensors.File // nil if both experts have files of their own
	source       *bert.Model
	target       *biggan.Model
	fingerprints map[string]string
	device       *tensor.Device
	files        []*safetensors.File
	gpu          *tensor.GPU // if one was opened
}

// Close ends the workers and gives back the rest.
func (l *lesson) Close() {
	l.device.Close()
	if l.gpu != nil {
		l.gpu.Close()
	}
	for _, f := range l.files {
		f.Close()
	}
}

func (l *lessonFlags) open(ctx context.Context, log io.Writer) (*lesson, error) {
	a, err := l.load()
	if err != nil {
		return nil, err
	}
	if err := l.embed(ctx, a, log); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// load is open without the embeddings.
func (l *lessonFlags) load() (*lesson, error) {
	if l.workers < 0 || l.workers > maxWorkers {
		return nil, usagef("-workers %d: want 0 to %d", l.workers, maxWorkers)
	}
	set, err := openDefault(l.pairs, emojiPairs, "pairs", pairs.Open)
	if err != nil {
		return nil, err
	}
	a := &lesson{set: set, fingerprints: map[string]string{}, device: tensor.CPU(l.workers)}
	if err := l.experts(a); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// experts loads the two experts, each from its own file or from the pack.
func (l *lessonFlags) experts(a *lesson) error {
	if l.source == "" || l.target == "" {
		var err error
		if a.pack, err = openDefault(l.model, emojiPack, "model", cinn.OpenContainer); err != nil {
			return err
		}
		a.files = append(a.files, a.pack)
	}
	source, config, err := a.expert("source", l.source)
	if err != nil {
		return err
	}
	var about struct{ Kind string }
	if json.Unmarshal(config, &about) == nil && about.Kind != "" && about.Kind != cinn.Text {
		return fmt.Errorf("%s: its source is of the kind %s, want a text encoder; for others there is cinn preset", source.Origin(), about.Kind)
	}
	if a.source, err = bert.LoadExpert(source, config, tensor.F32); err != nil {
		return err
	}
	target, config, err := a.expert("target", l.target)
	if err != nil {
		return err
	}
	c, err := biggan.ParseConfig(target.Origin(), config)
	if err != nil {
		return err
	}
	if a.target, err = biggan.Load(target, c, tensor.F32); err != nil {
		return err
	}
	if t, s := a.target, a.set; t.ZDim != s.Latent || t.Classes != len(s.Classes) {
		return fmt.Errorf("%s: draws latents of %d dimensions in %d classes, the pairs have %d and %d",
			target.Origin(), t.ZDim, t.Classes, s.Latent, len(s.Classes))
	}
	return nil
}

// expert opens the named part: the file at path, or what the pack holds.
func (a *lesson) expert(name, path string) (nn.Source, []byte, error) {
	var source nn.Source
	var config string
	if path == "" {
		source, config = nn.Under(a.pack, name+"."), a.pack.Metadata()[name+".config"]
	} else {
		f, err := cinn.OpenContainer(path)
		if err != nil {
			return nil, nil, err
		}
		a.files = append(a.files, f)
		source, config = f, f.Metadata()["config"]
	}
	a.fingerprints[name] = fingerprint(source)
	return source, []byte(config), nil
}

// fingerprint is a checksum of all tensors of an expert: the same in a file of its own and in a pack.
func fingerprint(s nn.Source) string {
	sum := sha256.New()
	for _, name := range s.Names() {
		t, _ := s.Lookup(name)
		fmt.Fprintf(sum, "%q %v %v\n", name, t.DType, t.Shape)
		sum.Write(t.Data)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func (l *lessonFlags) embed(ctx context.Context, a *lesson, log io.Writer) error {
	session, err := a.source.NewSession(a.device, bert.SessionOptions{})
	if err != nil {
		return err
	}
	encoder := pairs.Encoder{
		Fingerprint: a.fingerprints["source"],
		Dim:         a.source.Width(),
		Embed:       func(texts []string, dst []float32) error { return session.EmbedAll(ctx, dst, texts) },
	}
	bar := train.NewProgress(log)
	defer bar.Clear()
	a.conditions, err = a.set.Embed(encoder, l.cacheFolder(), func(done, total int) {
		if bar.Due() {
			bar.Show(fmt.Sprintf("embedding captions %s %d of %d", train.Bar(done, total, 30), done, total))
		}
	})
	return err
}

// cacheFolder makes the folder for what takes time to make; "" if there is none, which costs time and nothing else.
func (l *lessonFlags) cacheFolder() string {
	folder := l.cache
	if folder == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return ""
		}
		folder = filepath.Join(user, "netfusion")
	}
	if os.MkdirAll(folder, 0o755) != nil {
		return ""
	}
	return folder
}

// classTable is the target expert's class embeddings, [classes][class].
func (a *lesson) classTable() tensor.Tensor {
	table := tensor.New(a.target.Classes, a.target.ClassDim)
	for k := range table.Rows {
		copy(table.Row(k), a.target.Class(k))
	}
	return table
}
