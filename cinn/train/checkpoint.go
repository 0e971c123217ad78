package train

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"netfusion/cinn/flow"
	"netfusion/nn"
	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

// Names in a checkpoint: the flows are under these prefixes, the optimizer's moments are slabs.
const (
	flowPrefix = "flow."
	emaPrefix  = "ema."
	bestPrefix = "best."

	firstName  = "optimizer.first"
	secondName = "optimizer.second"
	peakName   = "optimizer.peak"
)

// Save writes a checkpoint: the old file stays until the new one is complete. The best weights are in it if they are in memory.
func (t *Trainer) Save(path string) error {
	if err := t.settle(); err != nil {
		return err
	}
	meta := map[string]string{"arch": "training"}
	for name, v := range map[string]any{
		"config": t.flow.Config, "options": t.Options, "state": t.state, "fingerprints": t.fingerprints(),
	} {
		b, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		meta[name] = string(b)
	}
	var ts []safetensors.Tensor
	for _, f := range t.flows(t.best != nil) {
		for _, s := range (*f.flow).Tensors(false) {
			s.Name = f.prefix + s.Name
			ts = append(ts, s)
		}
	}
	shape := []int{len(t.first)}
	ts = append(ts, safetensors.ViewF32(firstName, shape, t.first), safetensors.ViewF32(secondName, shape, t.second))
	if t.peak != nil {
		ts = append(ts, safetensors.ViewF32(peakName, shape, t.peak))
	}
	return safetensors.WriteFile(path, meta, ts)
}

// stored is a flow and the prefix of its names in a checkpoint.
type stored struct {
	prefix string
	flow   **flow.Flow
}

// flows are those in a checkpoint, with or without the best.
func (t *Trainer) flows(best bool) []stored {
	all := []stored{{flowPrefix, &t.flow}}
	if t.Options.EMA > 0 {
		all = append(all, stored{emaPrefix, &t.ema})
	}
	if best {
		all = append(all, stored{bestPrefix, &t.best})
	}
	return all
}

// bestPath is the file of the best weights beside a checkpoint.
func bestPath(checkpoint string) string { return checkpoint + ".best" }

// RemoveCheckpoint removes a checkpoint and the best weights beside it.
func RemoveCheckpoint(path string) error {
	err := os.Remove(bestPath(path))
	if errors.Is(err, fs.ErrNotExist) { // Options.Last
		err = nil
	}
	return errors.Join(err, os.Remove(path))
}

// keep makes the average's parameters [from, to), and all that is not trained, the best.
func (t *Trainer) keep(from, to int) error {
	if t.best == nil && t.Checkpoint != "" {
		return t.keepFile(from, to)
	}
	if t.best == nil {
		best, err := t.ema.Copy()
		t.best = best
		return err
	}
	copy(t.best.Values()[from:to], t.ema.Values()[from:to])
	return t.best.CopyBuffers(t.ema)
}

// keepFile is keep for best weights in a file. A run that was killed behind this and in front of its next checkpoint comes here again,
// with the same weights.
func (t *Trainer) keepFile(from, to int) error {
	path := bestPath(t.Checkpoint)
	ts := t.ema.Tensors(false)
	if to-from < len(t.ema.Values()) {
		old, err := safetensors.Open(path)
		if err != nil {
			return err
		}
		defer old.Close()
		keep := map[string]bool{}
		for _, p := range t.ema.Params() {
			keep[p.Name] = p.Begin < from || p.Begin >= to
		}
		for i := range ts {
			if !keep[ts[i].Name] {
				continue
			}
			was, ok := old.Lookup(ts[i].Name)
			if !ok || len(was.Data) != len(ts[i].Data) {
				return fmt.Errorf("%s: tensor %q is not that of this run", path, ts[i].Name)
			}
			ts[i] = was
		}
	}
	return safetensors.WriteFile(path, t.ema.Meta(), ts)
}

// fingerprints are those of the data beside the caller's.
func (t *Trainer) fingerprints() map[string]string {
	all := map[string]string{}
	maps.Copy(all, t.Fingerprints)
	all["training data"] = t.train.source.fingerprint()
	all["validation data"] = t.validate.source.fingerprint()
	return all
}

// Fingerprint is a checksum, in hexadecimal, of all that the outcome of a new Trainer's Run depends on: the Flow, the
// Options, the data and the experts behind it.
func (t *Trainer) Fingerprint() string {
	h := sha256.New()
	fmt.Fprintf(h, "%+v %+v %v\n", t.flow.Config, t.Options, t.fingerprints())
	for _, s := range t.flow.Tensors(false) {
		h.Write(s.Data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// ReadCheckpoint reads what a checkpoint trains, and how.
func ReadCheckpoint(path string) (c flow.Config, o Options, err error) {
	file, err := safetensors.Open(path)
	if err != nil {
		return c, o, err
	}
	defer file.Close()
	meta := file.Metadata()
	err = errors.Join(json.Unmarshal([]byte(meta["config"]), &c), json.Unmarshal([]byte(meta["options"]), &o))
	if err == nil {
		err = errors.Join(c.Validate(), o.check())
	}
	if err != nil {
		return c, o, fmt.Errorf("%s: %w", path, err)
	}
	return c, o, nil
}

// Resume returns a Trainer that goes on where the checkpoint at path was saved, on the same data and experts.
func Resume(path string, train, validate Source, fingerprints map[string]string, dev *tensor.Device) (*Trainer, error) {
	file, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := file.Verify(); err != nil {
		return nil, err
	}
	t := &Trainer{Checkpoint: path, Fingerprints: fingerprints, dev: dev}
	var saved map[string]string
	meta := file.Metadata()
	for name, v := range map[string]any{"options": &t.Options, "state": &t.state, "fingerprints": &saved} {
		if err := json.Unmarshal([]byte(meta[name]), v); err != nil {
			return nil, fmt.Errorf("%s: metadata %q: %w", path, name, err)
		}
	}
	if t.state.Step < 0 || t.state.Wait < 0 {
		return nil, fmt.Errorf("%s: step %d, %d validations without improvement", path, t.state.Step, t.state.Wait)
	}
	inside := slices.ContainsFunc(file.Tensors(), func(s safetensors.Tensor) bool { return strings.HasPrefix(s.Name, bestPrefix) })
	for _, f := range t.flows(inside) {
		if *f.flow, err = flow.LoadExpert(nn.Under(file, f.prefix), []byte(meta["config"])); err != nil {
			return nil, err
		}
	}
	if t.Options.EMA == 0 {
		t.ema = t.flow
	}
	if !t.Options.Last && !inside && t.state.Best != none {
		if _, err := os.Stat(bestPath(path)); err != nil {
			return nil, fmt.Errorf("%s: the best weights so far are not beside it: %w", path, err)
		}
	}
	w := nn.Load(file)
	n := len(t.flow.Values())
	t.first, t.second = w.F32(firstName, n), w.F32(secondName, n)
	if t.Options.Optimizer == "amsgrad" {
		t.peak = w.F32(peakName, n)
	}
	if err := w.Err(); err != nil {
		return nil, err
	}
	if err := t.prepare(train, validate); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if now := t.fingerprints(); !maps.Equal(now, saved) {
		for _, name := range slices.Sorted(maps.Keys(saved)) {
			if v := saved[name]; now[name] != v {
				return nil, fmt.Errorf("%s: was trained with other %s (%.12s…, now %.12s…)", path, name, v, now[name])
			}
		}
		return nil, fmt.Errorf("%s: was trained with other experts or data", path)
	}
	return t, nil
}
