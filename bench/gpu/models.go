package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"netfusion/cinn/flow"
	"netfusion/experts/bert"
	"netfusion/experts/biggan"
	"netfusion/nn"
	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

// network is a model as a caller has it: inputs go to the device, one graph is replayed, results come back.
type network struct {
	model, shape string
	precision    tensor.Precision
	work         tensor.Work
	run          func() error
	result       func() []float32
	close        func() error
}

// modelled is how long a network takes, as its caller sees it.
type modelled struct {
	network
	p50, p99 time.Duration
	ways     []time.Duration // medians, of each of ways but the first
}

// ways are what a GPU can be opened with. The first is what programs open it with.
var ways = []struct {
	name    string
	options tensor.GPUOptions
}{
	{"", tensor.GPUOptions{Unproven: true}},
	{"tuned", tensor.GPUOptions{Unproven: true, Tune: true}},
	{"overlapping", tensor.GPUOptions{Unproven: true, Overlap: true}},
	{"tuned, overlapping", tensor.GPUOptions{Unproven: true, Tune: true, Overlap: true}},
	{"apart", tensor.GPUOptions{Unproven: true, Apart: true}},
}

// published is the flow that the paper puts between a sentence encoder and BigGAN, as in bench/peers.
var published = flow.Config{Dialect: flow.Net2Net, Latent: 268, Cond: 768, Blocks: 24, Hidden: 1024, Depth: 2, Clamp: 1,
	Embed: 268, EmbedWidth: 256, EmbedDepth: 2}

// models times the networks whose random weights are in a folder (models.py makes them), in all ways, and leaves the results of the
// first there for PyTorch to be compared with. The flow's weights are made here.
func models(d tensor.Driver, folder string) ([]modelled, error) {
	file := filepath.Join(folder, "flow.safetensors")
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		f, err := flow.New(published, 1)
		if err != nil {
			return nil, err
		}
		if err := f.Save(file, false); err != nil {
			return nil, err
		}
	}
	var all []modelled
	for way, of := range ways {
		g, err := tensor.OpenGPU(newWatch(d), of.options)
		if err != nil {
			return nil, err
		}
		for i, open := range networks(g, folder, file) {
			n, err := open()
			if err != nil {
				return nil, err
			}
			m, err := n.time(20, 300)
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", n.model, n.shape, err)
			}
			fmt.Printf("%-12s %-28s %-6v p50 %10v   p99 %10v   %s\n", m.model, m.shape, m.precision, m.p50, m.p99, of.name)
			if way > 0 {
				all[i].ways = append(all[i].ways, m.p50)
				continue
			}
			if err := n.keep(folder); err != nil {
				return nil, err
			}
			all = append(all, m)
		}
		if err := g.Close(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// networks lists what is timed.
func networks(g *tensor.GPU, folder, file string) []func() (network, error) {
	var opens []func() (network, error)
	for _, p := range []tensor.Precision{tensor.F32, tensor.BF16, tensor.Int8} {
		for _, of := range []struct {
			model         string
			texts, tokens int
		}{{"bert-base", 1, 128}, {"bert-base", 32, 128}, {"minilm", 1, 32}, {"minilm", 32, 32}} {
			opens = append(opens, func() (network, error) { return encoder(g, filepath.Join(folder, of.model), of.texts, of.tokens, p) })
		}
		for _, rows := range []int{1, 64} {
			opens = append(opens, func() (network, error) { return drawing(g, file, rows, p) })
		}
		for _, images := range []int{1, 8} {
			opens = append(opens, func() (network, error) {
				return generator(g, filepath.Join(folder, "biggan-128", "model.safetensors"), images, p)
			})
		}
	}
	for _, rows := range []int{16, 128} {
		opens = append(opens, func() (network, error) { return training(g, file, rows) })
	}
	return opens
}

// time runs n, and closes it.
func (n network) time(warm, repeats int) (modelled, error) {
	times := make([]time.Duration, 0, repeats)
	for i := range warm + repeats {
		start := time.Now()
		if err := n.run(); err != nil {
			return modelled{}, err
		}
		if i >= warm {
			times = append(times, time.Since(start))
		}
	}
	slices.Sort(times)
	return modelled{network: n, p50: times[repeats/2], p99: times[repeats*99/100]}, n.close()
}

// keep writes n's result to a folder.
func (n network) keep(folder string) error {
	var b []byte
	for _, v := range n.result() {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	name := strings.NewReplacer(" ", "-", "=", "").Replace(fmt.Sprintf("%s-%s-%v.f32", n.model, n.shape, n.precision))
	return os.WriteFile(filepath.Join(folder, name), b, 0o666)
}

// encoder embeds texts of so many tokens each, by the mean of the last states.
func encoder(g *tensor.GPU, folder string, texts, tokens int, p tensor.Precision) (n network, err error) {
	var c bert.Config
	convert := func(dir string, s nn.Storage) (map[string]string, []safetensors.Tensor, error) {
		return bert.Convert(dir, bert.ConvertOptions{Storage: s})
	}
	d, err := nn.OpenExpert(folder, convert, func(source nn.Source, meta map[string]string) (*bert.GPUModel, error) {
		var err error
		if c, err = bert.ParseConfig([]byte(meta["config"])); err != nil {
			return nil, err
		}
		c.Representation = bert.Representation{Layer: c.Layers, Pooling: bert.Mean}
		return bert.LoadGPU(source, c, p, g)
	})
	if err != nil {
		return n, err
	}
	all := texts * tokens
	q, err := g.NewQueue(16*all + 4*texts*(c.Hidden+1) + 128)
	if err != nil {
		return n, err
	}
	ids, places, types := tensor.Stage[int32](q, all), tensor.Stage[int32](q, all), tensor.Stage[int32](q, all)
	starts, out := tensor.Stage[int32](q, texts+1), tensor.Stage[float32](q, texts*c.Hidden)
	for i := range all {
		ids.Host[i], places.Host[i] = int32(token(i, c.Vocab)), int32(i%tokens)
	}
	for i := range texts + 1 {
		starts.Host[i] = int32(i * tokens)
	}
	x := bert.GPUTokens{Text: tensor.Text{IDs: ids.Array, Places: places.Array, Types: types.Array}, Starts: starts.Array, Longest: tokens}
	graph, err := q.Capture(func() {
		q.Upload(ids, places, types, starts)
		d.Forward(q, tensor.Matrix(out.Array, texts, c.Hidden), x)
		q.Download(out)
	})
	return network{filepath.Base(folder), fmt.Sprintf("texts=%d tokens=%d", texts, tokens), p, q.Work(),
		func() error { q.Replay(graph); return q.Wait() }, func() []float32 { return out.Host }, q.Close}, err
}

// token is the i-th of all texts; models.py has the same.
func token(i, vocab int) int { return (1 + 7919*i) % vocab }

// number is the i-th of a flow's inputs, of mean 0 and variance 1; models.py has the same.
func number(i int) float32 {
	return float32((float64(uint32(i+1)*2654435761)/(1<<32) - 0.5) * 3.4641016151377544)
}

// drawing makes rows out of given residuals.
func drawing(g *tensor.GPU, file string, rows int, p tensor.Precision) (n network, err error) {
	f, err := flow.Open(file)
	if err != nil {
		return n, err
	}
	d, err := f.GPU(p, g)
	if err != nil {
		return n, err
	}
	c := f.Config
	q, err := g.NewQueue(4*rows*(2*c.Latent+c.Cond) + 64)
	if err != nil {
		return n, err
	}
	x, v, cond := tensor.Stage[float32](q, rows*c.Latent), tensor.Stage[float32](q, rows*c.Latent), tensor.Stage[float32](q, rows*c.Cond)
	for i := range v.Host {
		v.Host[i] = number(i)
	}
	for i := range cond.Host {
		cond.Host[i] = number(len(v.Host) + i)
	}
	on := func(s tensor.Staged[float32]) tensor.Buffer { return tensor.Matrix(s.Array, rows, s.Len/rows) }
	unguided := tensor.Put(g, []float32{1})
	graph, err := q.Capture(func() {
		q.Upload(v, cond)
		d.Restore(q, on(x), on(v), on(cond), tensor.Buffer{}, unguided)
		q.Download(x)
	})
	return network{"flow", fmt.Sprintf("rows=%d", rows), p, q.Work(),
		func() error { q.Replay(graph); return q.Wait() }, func() []float32 { return x.Host }, q.Close}, err
}

// generator makes images, all of the same latent and class.
func generator(g *tensor.GPU, path string, images int, p tensor.Precision) (n network, err error) {
	var c biggan.Config
	var row []float32
	d, err := nn.OpenExpert(path, biggan.Convert, func(source nn.Source, meta map[string]string) (*biggan.GPUModel, error) {
		var err error
		if c, err = biggan.ParseConfig(path, []byte(meta["config"])); err != nil {
			return nil, err
		}
		row = slices.Clone(nn.Load(source).F32("classes.weight", c.Classes, c.ClassDim)[:c.ClassDim])
		return biggan.LoadGPU(source, c, p, biggan.Truncation{}, g)
	})
	if err != nil {
		return n, err
	}
	z := make([]float32, c.ZDim)
	for i := range z {
		z[i] = number(i)
	}
	row = append(z, row...)
	width := len(row)
	pixels := images * c.Resolution * c.Resolution
	q, err := g.NewQueue(4*images*width + 4*pixels + 64)
	if err != nil {
		return n, err
	}
	x, out := tensor.Stage[float32](q, images*width), tensor.Stage[uint32](q, pixels)
	for i := range images {
		copy(x.Host[i*width:], row)
	}
	graph, err := q.Capture(func() {
		q.Upload(x)
		d.Generate(q, out.Array, tensor.Matrix(x.Array, images, width))
		q.Download(out)
	})
	colours := func() []float32 {
		c := make([]float32, 0, 3*pixels)
		for _, p := range out.Host {
			c = append(c, float32(p&0xff), float32(p>>8&0xff), float32(p>>16&0xff))
		}
		return c
	}
	return network{fmt.Sprintf("biggan-%d", c.Resolution), fmt.Sprintf("images=%d", images), p, q.Work(),
		func() error { q.Replay(graph); return q.Wait() }, colours, q.Close}, err
}
