package main

import (
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"netfusion/bench/tiny"
	"netfusion/cinn/flow"
	"netfusion/tensor"
	"netfusion/tensor/ptx"
)

// Every kind of network runs from its inputs to its results, which are those of the precision next to it.
func TestNetworks(t *testing.T) {
	d := ptx.Open(ptx.Options{Seed: 2})
	defer d.Close()
	g, err := tensor.OpenGPU(d, tensor.GPUOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var r report
	folder := t.TempDir()
	encoders := filepath.Join(folder, "encoder")
	tiny.Encoder(t, encoders)
	f, err := flow.New(flow.Config{Dialect: flow.Net2Net, Latent: 6, Cond: 5, Blocks: 2, Hidden: 16, Depth: 1, Clamp: 1, Embed: 6, EmbedWidth: 8, EmbedDepth: 1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "flow.safetensors")
	if err := f.Save(file, false); err != nil {
		t.Fatal(err)
	}
	for what, open := range map[string]func(p tensor.Precision) (network, error){
		"encoder": func(p tensor.Precision) (network, error) { return encoder(g, encoders, 2, 3, p) },
		"flow":    func(p tensor.Precision) (network, error) { return drawing(g, file, 2, p) },
		"images":  func(p tensor.Precision) (network, error) { return generator(g, tiny.Generator(t), 1, p) },
	} {
		var first []float32
		for _, p := range []tensor.Precision{tensor.F32, tensor.BF16} {
			n, err := open(p)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			m, err := n.time(1, 2)
			if err != nil || m.p50 <= 0 || m.p99 < m.p50 {
				t.Fatalf("%s: %v, %v, %v", what, m.p50, m.p99, err)
			}
			m.ways = make([]time.Duration, len(ways)-1)
			r.models = append(r.models, m)
			if err := n.keep(folder); err != nil {
				t.Fatal(err)
			}
			got := append([]float32(nil), n.result()...)
			if first == nil {
				first = got
			}
			var difference, size float64
			for i, v := range first {
				difference += math.Pow(float64(v-got[i]), 2)
				size += math.Pow(float64(v), 2)
			}
			if len(got) == 0 || size == 0 || !(difference <= 0.01*size) {
				t.Errorf("%s in %v: %d results, %v of %v", what, p, len(got), difference, size)
			}
		}
	}
	if files, _ := filepath.Glob(filepath.Join(folder, "*.f32")); len(files) != 6 {
		t.Errorf("%v", files)
	}
	if _, err := os.Stat(filepath.Join(folder, "flow-rows2-bf16.f32")); err != nil {
		t.Error(err)
	}
	var b strings.Builder
	r.show(&b)
	if row := regexp.MustCompile(`(?m)^\| encoder \| texts=2 tokens=3 \| bf16 \| [0-9.]+ \| [0-9.]+ \| [1-9][0-9]* \| [0-9.]+ \| - \| [0-9.]+ \| [0-9.]+ \|( 0.0 \|){4}$`); !row.MatchString(b.String()) {
		t.Errorf("%s", b.String())
	}
}
