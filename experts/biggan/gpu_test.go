package biggan

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"netfusion/nn"
	"netfusion/nn/safetensors"
	"netfusion/tensor"
	"netfusion/tensor/kerneltest"
)

// generators are those that are tried on a GPU: two of channels that have to be padded, one with attention before the first block,
// and one of channels as they are.
func generators(t *testing.T) map[string]generator {
	all := map[string]generator{}
	for _, name := range []string{"tiny", "tiny_f16"} {
		meta, ts, err := Convert(filepath.Join("testdata", name), "f32")
		if err != nil {
			t.Fatal(err)
		}
		c, err := ParseConfig(name, []byte(meta["config"]))
		if err != nil {
			t.Fatal(err)
		}
		all[name] = generator{c, ts}
	}
	c := Config{Resolution: 8, ZDim: 6, ClassDim: 6, Width: 8, Classes: 3, Attention: 0, Eps: 1e-4, Stats: 51, StatsRows: 1,
		Layers: []Layer{{true, 16, 8}, {false, 8, 4}, {false, 4, 2}, {false, 2, 1}}}
	all["first"] = generator{c, randomTensors(c)}
	return all
}

type generator struct {
	Config
	tensors []safetensors.Tensor
}

// conditions are latents and classes, [images][ZDim+ClassDim].
func (g generator) conditions(images int) tensor.Tensor {
	return tensor.Of(images, g.cond(), kerneltest.Normals(7, images*g.cond(), 0.7))
}

// cpu draws with a Session: red, green, blue and 255 of each pixel.
func (g generator) cpu(t *testing.T, p tensor.Precision, x tensor.Tensor, truncation Truncation) []byte {
	t.Helper()
	m, err := Load(nn.Memory("tiny", g.tensors), g.Config, p)
	if err != nil {
		t.Fatal(err)
	}
	dev := tensor.CPU(1)
	defer dev.Close()
	z, class := tensor.New(x.Rows, g.ZDim), tensor.New(x.Rows, g.ClassDim)
	for i := range x.Rows {
		copy(z.Row(i), x.Row(i))
		copy(class.Row(i), x.Row(i)[g.ZDim:])
	}
	image, err := m.NewSession(dev, x.Rows).Generate(z, class, truncation)
	if err != nil {
		t.Fatal(err)
	}
	var pixels []byte
	for i := range image.Rows {
		v := image.Row(i)
		pixels = append(pixels, Byte(v[0]), Byte(v[1]), Byte(v[2]), 255)
	}
	return pixels
}

// openGPU opens a device for one test.
func openGPU(t *testing.T, o tensor.GPUOptions) *tensor.GPU {
	t.Helper()
	if testing.Short() {
		t.Skip("the interpreter takes its time")
	}
	g, err := tensor.OpenGPU(kerneltest.Open(t.Name()), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

// gpu draws the images of each batch with one graph.
func (g generator) gpu(t *testing.T, device *tensor.GPU, p tensor.Precision, truncation Truncation, images int, batches ...[]float32) [][]byte {
	t.Helper()
	m, err := LoadGPU(nn.Memory("tiny", g.tensors), g.Config, p, truncation, device)
	if err != nil {
		t.Fatal(err)
	}
	q, err := device.NewQueue(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	in, out := tensor.Stage[float32](q, images*g.cond()), tensor.Stage[uint32](q, images*g.Resolution*g.Resolution)
	graph, err := q.Capture(func() {
		q.Upload(in)
		m.Generate(q, out.Array, tensor.Matrix(in.Array, images, g.cond()))
		q.Download(out)
	})
	if err != nil {
		t.Fatal(err)
	}
	var drawn [][]byte
	for _, x := range batches {
		copy(in.Host, x)
		q.Replay(graph)
		if err := q.Wait(); err != nil {
			t.Fatal(err)
		}
		var pixels []byte
		for _, v := range out.Host {
			pixels = append(pixels, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
		}
		drawn = append(drawn, pixels)
	}
	return drawn
}

// apart is the largest difference of bytes, and the root of the mean of their squares.
func apart(t *testing.T, a, b []byte) (worst, rms float64) {
	t.Helper()
	if len(a) != len(b) {
		t.Fatalf("%d bytes, not %d", len(a), len(b))
	}
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		worst, rms = max(worst, math.Abs(d)), rms+d*d/float64(len(a))
	}
	return worst, math.Sqrt(rms)
}

// A generator draws on a GPU what it draws on the CPU, in each precision, for batches that it has not been recorded with.
func TestPTXImagesAreTheCPUs(t *testing.T) {
	all := generators(t)
	exact, tf32 := openGPU(t, tensor.GPUOptions{}), openGPU(t, tensor.GPUOptions{TF32: true})
	for _, c := range []struct {
		name       string
		p          tensor.Precision
		device     *tensor.GPU
		images     int
		worst, rms float64 // of 255
	}{
		{"tiny", tensor.F32, exact, 1, 1, 0.1}, {"tiny_f16", tensor.F32, exact, 2, 1, 0.1}, {"first", tensor.F32, exact, 1, 1, 0.1},
		{"tiny", tensor.F32, tf32, 2, 8, 0.5}, {"first", tensor.F32, tf32, 1, 4, 0.3},
		{"tiny", tensor.BF16, exact, 1, 8, 1}, {"tiny_f16", tensor.BF16, exact, 1, 30, 2}, {"first", tensor.BF16, exact, 2, 8, 1},
		{"tiny", tensor.Int8, exact, 2, 8, 1}, {"first", tensor.Int8, exact, 1, 8, 1},
	} {
		t.Run(fmt.Sprintf("%s %v tf32=%v", c.name, c.p, c.device == tf32), func(t *testing.T) {
			g, truncation := all[c.name], Truncation{Value: 0.4}
			x := g.conditions(2 * c.images)
			first, second := x.Slice(0, c.images), x.Slice(c.images, 2*c.images)
			drawn := g.gpu(t, c.device, c.p, truncation, c.images, first.Data, second.Data)
			for i, x := range []tensor.Tensor{first, second} {
				worst, rms := apart(t, drawn[i], g.cpu(t, tensor.F32, x, truncation))
				t.Logf("%v of 255 apart at most, rms %.3g", worst, rms)
				if !(worst <= c.worst && rms <= c.rms) {
					t.Errorf("%v of 255 apart at most, rms %.3g; want at most %v and %v", worst, rms, c.worst, c.rms)
				}
			}
			if worst, _ := apart(t, drawn[0], drawn[1]); worst < 20 {
				t.Errorf("two conditions give images that are %v apart", worst)
			}
		})
	}
}

// The emoji expert, EMOJI_EXPERT, on a GPU and on the CPU. (In the interpreter half a minute.)
func TestPTXEmojiExpertDrawsTheCPUsImage(t *testing.T) {
	dir := os.Getenv("EMOJI_EXPERT")
	if dir == "" {
		t.Skip("EMOJI_EXPERT is not set")
	}
	meta, ts, err := Convert(dir, "f32")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig(dir, []byte(meta["config"]))
	if err != nil {
		t.Fatal(err)
	}
	m, err := load(nn.Memory(dir, ts), meta, tensor.F32)
	if err != nil {
		t.Fatal(err)
	}
	g, device := generator{c, ts}, openGPU(t, tensor.GPUOptions{})
	x := g.conditions(1)
	copy(x.Data[c.ZDim:], m.Class(7))
	worst, rms := apart(t, g.gpu(t, device, tensor.BF16, Truncation{}, 1, x.Data)[0], g.cpu(t, tensor.F32, x, Truncation{}))
	t.Logf("bf16: %v of 255 apart at most, PSNR %.1f dB", worst, 20*math.Log10(255/rms))
	if !(rms <= 3) {
		t.Errorf("bf16: rms %.3g of 255, want at most 3", rms)
	}
}

// What a Queue counts of a generator is what its shapes say.
func TestWorkOnAGPU(t *testing.T) {
	c := Config{Resolution: 8, ZDim: 128, ClassDim: 128, Width: 16, Classes: 3, Attention: 1, Eps: 1e-4, Stats: 51, StatsRows: 1,
		Layers: []Layer{{false, 16, 8}, {true, 8, 4}, {false, 4, 2}, {false, 2, 1}}}
	device := openGPU(t, tensor.GPUOptions{})
	m, err := LoadGPU(nn.Memory("random", randomTensors(c)), c, tensor.BF16, Truncation{}, device)
	if err != nil {
		t.Fatal(err)
	}
	q, err := device.NewQueue(1 << 14)
	if err != nil {
		t.Fatal(err)
	}
	const images = 3
	in, out := tensor.Stage[float32](q, images*c.cond()), tensor.Stage[uint32](q, images*c.Resolution*c.Resolution)
	if _, err := q.Capture(func() { m.Generate(q, out.Array, tensor.Matrix(in.Array, images, c.cond())) }); err != nil {
		t.Fatal(err)
	}
	w := q.Work()
	if want := images * 2 * macs(c); w.FLOPs != want {
		t.Errorf("%v operations, want %v", w.FLOPs, want)
	}
	// Two products and what folds and applies the first normalisations, sixteen convolutions, attention of four, and the pixels.
	if w.Launches != 4+16+4+1 {
		t.Errorf("%d launches", w.Launches)
	}
	if _, channels := c.norms(); w.Weights < 4*2*channels*c.cond()+2*256*c.Width*c.cond() {
		t.Errorf("%d bytes of weights, fewer than the first two products have", w.Weights)
	}
}
