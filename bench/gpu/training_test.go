package main

import (
	"math"
	"path/filepath"
	"testing"

	"netfusion/cinn/flow"
	"netfusion/tensor"
	"netfusion/tensor/ptx"
)

// A step's loss is that of the processor, however often it was taken.
func TestTraining(t *testing.T) {
	d := ptx.Open(ptx.Options{Seed: 2})
	defer d.Close()
	g, err := tensor.OpenGPU(d, tensor.GPUOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := flow.New(flow.Config{Dialect: flow.Net2Net, Latent: 6, Cond: 5, Blocks: 2, Hidden: 16, Depth: 1, Clamp: 1, Embed: 6, EmbedWidth: 8, EmbedDepth: 1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	file := filepath.Join(folder, "flow.safetensors")
	if err := f.Save(file, false); err != nil {
		t.Fatal(err)
	}
	const rows = 4
	n, err := training(g, file, rows)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.time(1, 2); err != nil {
		t.Fatal(err)
	}
	dev := tensor.CPU(1)
	defer dev.Close()
	cpu, err := f.NewGradient(dev, rows, flow.Regularisation{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	x, c := tensor.New(rows, 6), tensor.New(rows, 5)
	for i := range x.Data {
		x.Data[i] = number(i)
	}
	for i := range c.Data {
		c.Data[i] = number(len(x.Data) + i)
	}
	if want, _ := cpu.Step(x, c, 1); math.Abs(float64(n.result()[0])-want) > 1e-4*math.Abs(want) {
		t.Errorf("the loss is %v, want %v", n.result()[0], want)
	}
}
