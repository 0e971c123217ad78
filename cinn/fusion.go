package cinn

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"netfusion/nn/safetensors"
)

// Arch is the metadata "arch" of a pack.
const Arch = "fusion"

// A pack is one safetensors file in the strict profile. Its tensors are those of the three expert files that it was made
// from, and perhaps of an image encoder's, under the prefixes below; its metadata has their "config" as "source.config",
// "flow.config", "target.config" and "encoder.config", their licences as a JSON object under "licences", and a Fusion
// under "fusion".
const (
	sourcePrefix  = "source."
	flowPrefix    = "flow."
	targetPrefix  = "target."
	encoderPrefix = "encoder."
)

// The defaults of a Request where a Fusion does not state its own: the model's own distribution.
const (
	plainTemperature = 1
	plainGuidance    = 1
)

// Fusion is what a pack says of itself.
type Fusion struct {
	Name        string            `json:"name"`
	Source      string            `json:"source"` // the experts' names
	Target      string            `json:"target"`
	Classes     []string          `json:"classes,omitempty"` // the generator's classes by name
	Temperature float32           `json:"temperature,omitempty"`
	Guidance    float32           `json:"guidance,omitempty"`
	Truncation  float64           `json:"truncation,omitempty"` // of the generator's statistics; 0 means 1
	Licences    map[string]string `json:"-"`                    // part → licence and attribution
}

// Part is an expert file: its metadata and tensors.
type Part struct {
	Meta    map[string]string
	Tensors []safetensors.Tensor
}

// Parts are what a pack is made of: a text encoder, a flow, an image generator, and the encoder that turns images into
// the generator's latents, which may be empty.
type Parts struct{ Source, Flow, Target, Encoder Part }

// WritePack joins parts into the pack at path.
func WritePack(path string, about Fusion, parts Parts) error {
	about.fill()
	description, err := json.Marshal(about)
	if err != nil {
		return err
	}
	licences, err := json.Marshal(about.Licences)
	if err != nil {
		return err
	}
	meta := map[string]string{"arch": Arch, "fusion": string(description), "licences": string(licences)}
	var tensors []safetensors.Tensor
	for _, p := range []struct {
		prefix string
		part   Part
	}{{sourcePrefix, parts.Source}, {flowPrefix, parts.Flow}, {targetPrefix, parts.Target}, {encoderPrefix, parts.Encoder}} {
		if p.prefix == encoderPrefix && len(p.part.Tensors) == 0 {
			continue
		}
		if p.part.Meta["config"] == "" {
			return fmt.Errorf("%s: the %s part has no config", path, strings.TrimSuffix(p.prefix, "."))
		}
		for key, value := range p.part.Meta {
			if key != "format" && key != "sha256" {
				meta[p.prefix+key] = value
			}
		}
		for _, t := range p.part.Tensors {
			t.Name = p.prefix + t.Name
			tensors = append(tensors, t)
		}
	}
	return safetensors.WriteFile(path, meta, tensors)
}

// ReadPart takes one part, "source", "flow", "target" or "encoder", out of a pack, as the expert file that it was.
func ReadPart(f *safetensors.File, name string) (Part, error) {
	prefix := name + "."
	p := Part{Meta: map[string]string{}}
	for key, value := range f.Metadata() {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			p.Meta[rest] = value
		}
	}
	for _, t := range f.Tensors() {
		if rest, ok := strings.CutPrefix(t.Name, prefix); ok {
			t.Name = rest
			p.Tensors = append(p.Tensors, t)
		}
	}
	if len(p.Tensors) == 0 && p.Meta["config"] == "" {
		return p, fmt.Errorf("%s: no tensor begins with %q: not a pack, or one without this part", f.Origin(), prefix)
	}
	return p, nil
}

// ReadFusion reads what a pack says of itself.
func ReadFusion(f *safetensors.File) (Fusion, error) {
	meta := f.Metadata()
	if meta["arch"] != Arch {
		return Fusion{}, fmt.Errorf("%s: arch is %q, want %q: not a pack", f.Origin(), meta["arch"], Arch)
	}
	var about Fusion
	err := errors.Join(json.Unmarshal([]byte(meta["fusion"]), &about), json.Unmarshal([]byte(meta["licences"]), &about.Licences))
	if err != nil {
		return Fusion{}, fmt.Errorf("%s: metadata: %w", f.Origin(), err)
	}
	about.fill()
	return about, about.check(f.Origin())
}

func (a *Fusion) fill() {
	if a.Temperature == 0 {
		a.Temperature = plainTemperature
	}
	if a.Guidance == 0 {
		a.Guidance = plainGuidance
	}
}

func (a *Fusion) check(origin string) error {
	if !(a.Temperature > 0 && a.Temperature <= maxTemperature && a.Guidance > 0 && a.Guidance <= maxGuidance && a.Truncation >= 0 && a.Truncation <= 1) {
		return fmt.Errorf("%s: metadata: temperature %v, guidance %v or truncation %v is out of range", origin, a.Temperature, a.Guidance, a.Truncation)
	}
	return nil
}
