package biggan

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"netfusion/nn/safetensors"
	"netfusion/tensor"
)

// A golden holds what the reference implementation computed: see bench/golden/biggan.py.
type golden struct {
	z, labels tensor.Tensor
	samples   int
	stages    map[float64]map[string][]float32 // by truncation
}

func readGolden(t testing.TB, dir string) golden {
	t.Helper()
	f, err := safetensors.Open(filepath.Join(dir, "golden.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g := golden{stages: map[float64]map[string][]float32{}}
	if g.samples, err = strconv.Atoi(f.Metadata()["samples"]); err != nil {
		t.Fatal(err)
	}
	for _, x := range f.Tensors() {
		v := make([]float32, x.Elements())
		if err := x.Float32(v); err != nil {
			t.Fatal(err)
		}
		switch x.Name {
		case "z":
			g.z = tensor.Of(x.Shape[0], x.Shape[1], v)
		case "labels":
			g.labels = tensor.Of(x.Shape[0], x.Shape[1], v)
		default:
			trunc, stage, _ := strings.Cut(x.Name, "/")
			value, err := strconv.ParseFloat(trunc, 64)
			if err != nil {
				t.Fatal(err)
			}
			if g.stages[value] == nil {
				g.stages[value] = map[string][]float32{}
			}
			g.stages[value][stage] = v
		}
	}
	return g
}

// classes returns the embeddings of the golden's labels.
func (g golden) classes(m *Model) tensor.Tensor {
	e := tensor.New(g.labels.Rows, m.ClassDim)
	for i := range e.Rows {
		m.Mix(e.Row(i), g.labels.Row(i))
	}
	return e
}

// compare returns the largest difference of a stage relative to its largest magnitude.
func (g golden) compare(t testing.TB, want []float32, got tensor.Tensor) float64 {
	t.Helper()
	step := 1
	if g.samples > 0 {
		step = (len(got.Data)/g.samples + 1) | 1
	}
	n := len(want) - 1
	if n != (len(got.Data)+step-1)/step {
		t.Fatalf("%d samples of a stage with %d values, wanted every %d-th", n, len(got.Data), step)
	}
	worst, largest := 0.0, float64(want[n])
	for i, w := range want[:n] {
		if d := math.Abs(float64(got.Data[i*step]-w)) / largest; !(d <= worst) {
			worst = d
		}
	}
	peak := 0.0
	for _, v := range got.Data {
		peak = max(peak, math.Abs(float64(v)))
	}
	return max(worst, math.Abs(peak-largest)/largest)
}

// run compares every stage at every truncation, and returns the worst difference and where it is.
func (g golden) run(t testing.TB, m *Model, workers int) (worst float64, where string) {
	t.Helper()
	dev := tensor.CPU(workers)
	defer dev.Close()
	s, classes := m.NewSession(dev, g.z.Rows), g.classes(m)
	for value, stages := range g.stages {
		seen := 0
		s.Stage = func(name string, got tensor.Tensor) {
			want, ok := stages[name]
			if !ok {
				t.Fatalf("the reference has no stage %q", name)
			}
			seen++
			d := g.compare(t, want, got)
			if testing.Verbose() && g.samples == 0 {
				t.Logf("%-16s %.2g", name, d)
			}
			if !(d <= worst) {
				worst, where = d, fmt.Sprintf("truncation %v, stage %q", value, name)
			}
		}
		if _, err := s.Generate(g.z, classes, Truncation{Value: value}); err != nil {
			t.Fatal(err)
		}
		if seen != len(stages) {
			t.Fatalf("truncation %v: %d stages, the reference has %d", value, seen, len(stages))
		}
	}
	return worst, where
}

func TestStagesEqualTheReference(t *testing.T) {
	for _, name := range []string{"tiny", "tiny_f16"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join("testdata", name)
			m := open(t, dir)
			g := readGolden(t, dir)
			if len(g.stages) != 7 {
				t.Fatalf("%d truncations", len(g.stages))
			}
			worst, where := g.run(t, m, 2)
			t.Logf("worst difference %.2g of the stage's largest value, at %s", worst, where)
			if !(worst <= 1e-4) {
				t.Errorf("differs from the reference by %v of the stage's largest value at %s", worst, where)
			}
		})
	}
}

// The golden can tell one truncation's statistics from another's, so the parity above is not vacuous.
func TestStagesDifferFromTheReferenceWithOtherStatistics(t *testing.T) {
	dir := filepath.Join("testdata", "tiny")
	m, g := open(t, dir), readGolden(t, dir)
	dev := tensor.CPU(1)
	defer dev.Close()
	s := m.NewSession(dev, 2)
	for value, stages := range g.stages {
		image, err := s.Generate(g.z, g.classes(m), Truncation{Value: value, Linear: true})
		if err != nil {
			t.Fatal(err)
		}
		same := g.compare(t, stages["image"], image) < 1e-4
		exact := value == 0.4 || value == 1 // rows of their own in both modes
		if same != exact {
			t.Errorf("truncation %v: linear statistics give the reference's image: %v, want %v", value, same, exact)
		}
	}
}

// The public 128-pixel shape: BIGGAN_GOLDEN names a folder written by bench/golden/biggan.py full.
func TestFullSizeEqualsTheReference(t *testing.T) {
	dir := os.Getenv("BIGGAN_GOLDEN")
	if dir == "" {
		t.Skip("BIGGAN_GOLDEN is not set")
	}
	m, g := open(t, dir), readGolden(t, dir)
	worst, where := g.run(t, m, 2)
	t.Logf("worst difference %.2g of the stage's largest value, at %s", worst, where)
	if !(worst <= 1e-4) {
		t.Errorf("differs from the reference by %v of the stage's largest value at %s", worst, where)
	}
}

// images generates from g in precision p.
func (g golden) images(t testing.TB, path string, p tensor.Precision) []float32 {
	t.Helper()
	m, err := Open(path, p)
	if err != nil {
		t.Fatal(err)
	}
	dev := tensor.CPU(2)
	defer dev.Close()
	x, err := m.NewSession(dev, g.z.Rows).Generate(g.z, g.classes(m), Truncation{Value: 0.4})
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(x.Data)
}

// psnr is the peak signal-to-noise ratio in dB of values in (-1, 1).
func psnr(got, want []float32) float64 {
	square := 0.0
	for i, v := range got {
		square += math.Pow(float64(v)-float64(want[i]), 2)
	}
	return 10 * math.Log10(4*float64(len(got))/square)
}

func TestPrecisionsShowTheSameImages(t *testing.T) {
	dirs := map[string]float64{filepath.Join("testdata", "tiny"): 25, filepath.Join("testdata", "tiny_f16"): 25}
	if dir := os.Getenv("BIGGAN_GOLDEN"); dir != "" {
		dirs[dir] = 25
	}
	for dir, int8 := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			g := readGolden(t, dir)
			want := g.images(t, dir, tensor.F32)
			for p, least := range map[tensor.Precision]float64{tensor.BF16: 40, tensor.Int8: int8} {
				got := psnr(g.images(t, dir, p), want)
				t.Logf("%v: PSNR %.1f dB to float32", p, got)
				if !(got >= least) {
					t.Errorf("%v: PSNR %v dB to float32, want at least %v", p, got, least)
				}
			}
		})
	}
}

func open(t testing.TB, path string) *Model {
	t.Helper()
	m, err := Open(path, tensor.F32)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTruncationRows(t *testing.T) {
	for _, c := range []struct {
		value float64
		row   int // the one that weighs all, in the reference's way
	}{{0.14, 8}, {0.28, 15}, {0.56, 29}, {0.58, 28}, {0.94, 46}, {0.02, 1}, {0.4, 20}, {0.5, 25}, {1, 50}} {
		i, j, wi, wj := Truncation{Value: c.value}.rows(51)
		weight := map[int]float64{}
		weight[i] += wi
		weight[j] += wj
		if math.Abs(weight[c.row]-1) > 1e-12 {
			t.Errorf("%v: rows %d and %d weigh %v and %v, want all on %d", c.value, i, j, wi, wj, c.row)
		}
	}
	i, j, wi, wj := Truncation{Value: 0.25}.rows(51)
	if i != 12 || j != 13 || wi != 0.5 || wj != 0.5 {
		t.Errorf("0.25: rows %d and %d weigh %v and %v", i, j, wi, wj)
	}
	// Between two rows the reference's weights are the wrong way round, ours are not.
	if i, j, wi, _ := (Truncation{Value: 0.205}).rows(51); i != 10 || j != 11 || math.Abs(wi-0.25) > 1e-12 {
		t.Errorf("0.205: rows %d and %d, the first weighs %v", i, j, wi)
	}
	if i, j, wi, _ := (Truncation{Value: 0.205, Linear: true}).rows(51); i != 10 || j != 11 || math.Abs(wi-0.75) > 1e-12 {
		t.Errorf("0.205 linear: rows %d and %d, the first weighs %v", i, j, wi)
	}
	for k := 1; k <= 50; k++ {
		i, _, wi, _ := Truncation{Value: float64(k) / 50, Linear: true}.rows(51)
		if i != k || math.Abs(wi-1) > 1e-9 {
			t.Errorf("linear %d/50: row %d weighs %v", k, i, wi)
		}
	}
	for _, n := range []int{1, 2, 50, 51} {
		for k := 1; k <= 1000; k++ {
			for _, linear := range []bool{false, true} {
				i, j, wi, wj := Truncation{float64(k) / 1000, linear}.rows(n)
				if i < 0 || i > j || j >= n || !(wi >= 0) || !(wj >= 0) || math.Abs(wi+wj-1) > 1e-12 {
					t.Fatalf("%d rows, %d/1000, linear %v: rows %d and %d weigh %v and %v", n, k, linear, i, j, wi, wj)
				}
			}
		}
	}
}

func TestSameBitsForAnyNumberOfWorkersAndAnyBatch(t *testing.T) {
	dir := filepath.Join("testdata", "tiny_f16")
	m, g := open(t, dir), readGolden(t, dir)
	classes := g.classes(m)
	var want []float32
	for _, workers := range []int{1, 2, 7} {
		dev := tensor.CPU(workers)
		s := m.NewSession(dev, 5)
		image, err := s.Generate(g.z, classes, Truncation{Value: 0.4})
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = slices.Clone(image.Data)
		} else if !slices.Equal(image.Data, want) {
			t.Errorf("%d workers give other bits than 1", workers)
		}
		for i := range g.z.Rows {
			image, err := s.Generate(g.z.Slice(i, i+1), classes.Slice(i, i+1), Truncation{Value: 0.4})
			if err != nil {
				t.Fatal(err)
			}
			n := len(image.Data)
			if !slices.Equal(image.Data, want[i*n:][:n]) {
				t.Errorf("%d workers: image %d alone has other bits than in a batch", workers, i)
			}
		}
		dev.Close()
	}
}

func TestGenerateDoesNotAllocate(t *testing.T) {
	dir := filepath.Join("testdata", "tiny")
	m, g := open(t, dir), readGolden(t, dir)
	dev := tensor.CPU(2)
	defer dev.Close()
	s, classes := m.NewSession(dev, 2), g.classes(m)
	value := 0.4
	n := testing.AllocsPerRun(20, func() {
		value = 1.4 - value
		if _, err := s.Generate(g.z, classes, Truncation{Value: value}); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}
