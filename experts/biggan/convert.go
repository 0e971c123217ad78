package biggan

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"netfusion/nn"
	"netfusion/nn/safetensors"
	"netfusion/nn/torchbin"
)

// Arch is the metadata "arch" of an expert file.
const Arch = "biggan-deep"

// Convert reads a checkpoint folder (config.json and pytorch_model.bin, with the names of pytorch-pretrained-biggan)
// and returns the metadata and the tensors of an expert file, in the order in which the generator uses them. Class
// embeddings, biases, statistics and the three rows that make the colours are f32 in every storage: they are small.
//
//	classes.weight                        [classes][class_embed_dim]
//	norms.{scale,offset}.weight           [channels of all conditional normalisations, bn_0 … bn_3 of each block][z_dim + class_embed_dim]
//	norms.{means,vars}                    [stats_rows][those channels, then the last normalisation's]
//	gen_z.{weight,bias}                   [4·4·16·channel_width, HWC][z_dim + class_embed_dim]
//	blocks.i.conv_{0,1,2,3}.{weight,bias} [out][in] or [out][3][3][in]
//	attention.{query,key,value,output}.weight, used before block attention_layer_position
//	bn.{weight,bias}                      [channel_width]
//	conv_to_rgb.{weight,bias}             [3][3][3][channel_width]
//
// Spectral normalisation is folded into the weights: each is divided by sigma = u·(W v), with the u and v of the
// checkpoint, as the reference does in evaluation. The attention's gamma is folded into output.
func Convert(dir string, storage nn.Storage) (map[string]string, []safetensors.Tensor, error) {
	path := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	cfg, err := ParseConfig(path, data)
	if err != nil {
		return nil, nil, err
	}
	cfg.StatsRows = 0
	f, err := torchbin.Open(filepath.Join(dir, "pytorch_model.bin"))
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	w := nn.Load(f)
	c := converter{cfg, w, nn.NewStore(w, storage)}
	c.convert()
	if err := c.w.Err(); err != nil {
		return nil, nil, err
	}
	if names := c.w.Unused(); len(names) > 0 {
		return nil, nil, fmt.Errorf("%s: tensor %q is not one of this generator (nor are %d others)", f.Origin(), names[0], len(names)-1)
	}
	config, err := json.Marshal(c.Config)
	if err != nil {
		return nil, nil, err
	}
	return map[string]string{"arch": Arch, "config": string(config), "layout": "conv OHWI"}, c.to.Tensors(), nil
}

type converter struct {
	Config
	w  nn.Weights
	to *nn.Store
}

func (c *converter) convert() {
	ch, cond := c.Width, c.cond()
	g := c.w.In("generator")

	embeddings := c.w.F32("embeddings.weight", c.ClassDim, c.Classes)
	c.to.Put("classes.weight", nn.Transpose(embeddings, c.ClassDim, c.Classes), c.Classes, c.ClassDim)
	c.norms(g)

	c.to.Matrix("gen_z.weight", fold(g, "gen_z", 16*firstMult*ch, cond), 16*firstMult*ch, cond)
	c.to.Put("gen_z.bias", g.F32("gen_z.bias", 16*firstMult*ch), 16*firstMult*ch)
	for i, l := range c.Layers {
		in, mid, out := l.In*ch, l.In*ch/reduction, l.Out*ch
		if c.hasAttention(i) {
			c.attention(g.In(fmt.Sprintf("layers.%d", i)), in)
		}
		b := g.In(fmt.Sprintf("layers.%d", c.key(i)))
		for k, s := range [][]int{{mid, in, 1, 1}, {mid, mid, 3, 3}, {mid, mid, 3, 3}, {out, mid, 1, 1}} {
			name := fmt.Sprintf("conv_%d", k)
			to := fmt.Sprintf("blocks.%d.%s", i, name)
			w := fold(b, name, s...)
			if s[2] == 1 {
				c.to.Matrix(to+".weight", w, s[0], s[1])
			} else {
				c.to.Matrix(to+".weight", nn.ChannelsLast(w, s[0], s[1], 9), s[0], 3, 3, s[1])
			}
			c.to.Put(to+".bias", b.F32(name+".bias", s[0]), s[0])
		}
	}

	c.to.Put("bn.weight", g.F32("bn.weight", ch), ch)
	c.to.Put("bn.bias", g.F32("bn.bias", ch), ch)
	// Of the ch outputs the generator keeps three; sigma is of all.
	rgb, bias := fold(g, "conv_to_rgb", ch, ch, 3, 3), g.F32("conv_to_rgb.bias", ch)
	if c.w.Err() == nil && ch < 3 {
		c.w.Fail(fmt.Errorf("channel_width is %d: there are no three colours", ch))
	}
	if c.w.Err() == nil {
		c.to.Put("conv_to_rgb.weight", nn.ChannelsLast(rgb[:3*9*ch], 3, ch, 9), 3, 3, 3, ch)
		c.to.Put("conv_to_rgb.bias", bias[:3], 3)
	}
}

// norms joins the normalisations of all blocks, so that one product makes the parameters of all.
func (c *converter) norms(g nn.Weights) {
	blocks, channels := c.Config.norms()
	var scale, offset []float32
	var means, vars columns
	statistics := func(w nn.Weights, n int) {
		means = append(means, w.F32("running_means", c.Stats, n))
		vars = append(vars, w.F32("running_vars", c.Stats, n))
	}
	for i, b := range blocks {
		for k, n := range b {
			w := g.In(fmt.Sprintf("layers.%d.bn_%d", c.key(i), k))
			scale = append(scale, fold(w, "scale", n.channels, c.cond())...)
			offset = append(offset, fold(w, "offset", n.channels, c.cond())...)
			statistics(w, n.channels)
		}
	}
	statistics(g.In("bn"), c.Width)
	if c.w.Err() != nil {
		return // before the sizes of a broken checkpoint are believed any further
	}
	rows := channels + c.Width
	m, v := means.join(c.Stats), vars.join(c.Stats)
	if repeats(m, rows) && repeats(v, rows) {
		c.StatsRows = 1
	}
	c.to.Matrix("norms.scale.weight", scale, channels, c.cond())
	c.to.Matrix("norms.offset.weight", offset, channels, c.cond())
	n := c.statsRows()
	c.to.Put("norms.means", m[:n*rows], n, rows)
	c.to.Put("norms.vars", v[:n*rows], n, rows)
}

// columns are matrices of equally many rows.
type columns [][]float32

// join puts them side by side.
func (c columns) join(rows int) []float32 {
	var all []float32
	for i := range rows {
		for _, m := range c {
			n := len(m) / rows
			all = append(all, m[i*n:][:n]...)
		}
	}
	return all
}

// attention writes the four projections of the layer over n channels.
func (c *converter) attention(w nn.Weights, n int) {
	for _, p := range []struct {
		to, from string
		out      int
	}{{"query", "theta", n / 8}, {"key", "phi", n / 8}, {"value", "g", n / 2}} {
		c.to.Matrix("attention."+p.to+".weight", fold(w, "snconv1x1_"+p.from, p.out, n, 1, 1), p.out, n)
	}
	output, gamma := fold(w, "snconv1x1_o_conv", n, n/2, 1, 1), w.F32("gamma", 1)
	if c.w.Err() != nil {
		return
	}
	for i := range output {
		output[i] *= gamma[0]
	}
	c.to.Matrix("attention.output.weight", output, n, n/2)
}

// fold reads name.weight_orig of the given shape, [out]…, and divides it by sigma = u·(W v), where W is [out][rest].
func fold(w nn.Weights, name string, shape ...int) []float32 {
	rest := 1
	for _, n := range shape[1:] {
		rest *= n
	}
	m, u, v := w.F32(name+".weight_orig", shape...), w.F32(name+".weight_u", shape[0]), w.F32(name+".weight_v", rest)
	if w.Err() != nil {
		return nil
	}
	sigma := 0.0
	for i, ui := range u {
		row := 0.0
		for j, x := range m[i*rest:][:rest] {
			row += float64(x) * float64(v[j])
		}
		sigma += float64(ui) * row
	}
	if sigma == 0 || math.IsNaN(sigma) || math.IsInf(sigma, 0) {
		w.Fail(fmt.Errorf("tensor %q has spectral norm %v", name+".weight_orig", sigma))
		return nil
	}
	for i, x := range m {
		m[i] = float32(float64(x) / sigma)
	}
	return m
}

// repeats tells whether all rows of x, n long, are equal.
func repeats(x []float32, n int) bool {
	for i := n; i < len(x); i++ {
		if x[i] != x[i-n] {
			return false
		}
	}
	return true
}
