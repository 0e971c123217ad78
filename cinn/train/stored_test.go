package train

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"netfusion/cinn/flow"
	"netfusion/cinn/pairs"
	"netfusion/tensor"
)

// fill writes a Store of n pairs of the toy world, of which every tenth is to validate.
func fill(t testing.TB, path string, kind string, n int) *pairs.Store {
	t.Helper()
	h := pairs.Header{Source: "a toy", Cond: 5, Latent: 6, Type: kind, Std: true, Classes: 3, ClassDim: 2}
	h.SetTable([]float32{1, 0, 0, 1, -1, -1})
	a, err := pairs.Append(path, h)
	if err != nil {
		t.Fatal(err)
	}
	d := toy(n, 1)
	p := h.NewPair()
	for a.Len() < n {
		i := a.Len()
		copy(p.Condition, d.Cond.Row(2*i))
		copy(p.Latent, d.Mean.Row(i))
		copy(p.Std, d.Std.Row(i))
		p.Class, p.Group, p.Split = d.Class[i], i, pairs.Train
		if i%10 == 0 {
			p.Split = pairs.Validation
		}
		if err := a.Append(&p); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := pairs.OpenStore(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// The same pairs give the same steps from memory and from a file, where they are taken in the same order.
func TestAStoreTrainsAsMemoryDoes(t *testing.T) {
	s := fill(t, filepath.Join(t.TempDir(), "store"), "f32", 200)
	learn, judge, err := Splits(t.Context(), s, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if learn.Len() != 180 || judge.Len() != 20 || learn.fingerprint() == judge.fingerprint() {
		t.Fatalf("%d and %d pairs", learn.Len(), judge.Len())
	}
	f := toyFlow(t, toy(200, 1), flow.NetFusion)
	d := toy(200, 1)
	a, b := newSampler(learn, f, 1, 16), newSampler(d, f, 1, 16)
	a.fixed, b.fixed = true, true
	for r := range a.pairs {
		a.pairs[r] = 7 * r
		b.pairs[r] = 2 * int(learn.rows[7*r]) // of two captions, the first
	}
	dev := tensor.CPU(2)
	defer dev.Close()
	x, c := a.draw(dev, 3)
	wx, wc := b.draw(dev, 3)
	if fmt.Sprint(x, c) != fmt.Sprint(wx, wc) {
		t.Error("the batches differ")
	}
	if n := testing.AllocsPerRun(10, func() { a.Tile(5) }); n != 0 {
		t.Errorf("a row from a file allocates %v times", n)
	}
}

func TestAPassOverAStoreTakesEveryPairOnce(t *testing.T) {
	for _, n := range []int{1, 2, 3, 16, 17, 1000, 4097} {
		d := &Stored{rows: make([]uint32, n)}
		order := make([][]int, 3)
		for pass := range order {
			seen := make([]bool, n)
			for i := range n {
				k := d.Pick(7, uint64(pass*n+i), 0)
				if seen[k] {
					t.Fatalf("%d pairs: pass %d takes pair %d twice", n, pass, k)
				}
				seen[k] = true
				order[pass] = append(order[pass], k)
			}
		}
		if n < 16 {
			continue
		}
		same := 0
		for i, k := range order[0] {
			if k == order[1][i] || k == i {
				same++
			}
		}
		if same > n/4+4 {
			t.Errorf("%d pairs: %d are taken at the same place twice", n, same)
		}
	}
}

func TestAnEvenChoiceOfPairsJudges(t *testing.T) {
	s := fill(t, filepath.Join(t.TempDir(), "store"), "f16", 200)
	_, judge, err := Splits(t.Context(), s, 5, nil)
	if err != nil || fmt.Sprint(judge.rows) != "[0 40 80 120 160]" {
		t.Errorf("%v, %v", judge.rows, err)
	}
	for name, c := range map[string]flow.Config{
		"conditions of 5": {Latent: 6, Cond: 4}, "latents of 6": {Latent: 5, Cond: 5}, "3 classes of 2": {Latent: 6, Cond: 5, Classes: 4, Class: 2},
	} {
		if err := judge.check(c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: %v, want %q", c, err, name)
		}
	}
	if err := (&Stored{store: s}).check(flow.Config{Latent: 6, Cond: 5}); err == nil {
		t.Error("no pairs are enough")
	}
}

// A run on a Store that keeps its best weights in a file ends with the bytes of one that keeps them in memory, whatever is
// interrupted, and leaves no temporary file.
func TestTheBestWeightsAreInAFileAsTheyWouldBeInMemory(t *testing.T) {
	s := fill(t, filepath.Join(t.TempDir(), "store"), "f16", 300)
	learn, judge, err := Splits(t.Context(), s, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	dev := tensor.CPU(2)
	defer dev.Close()
	o := toyOptions()
	o.Rate, o.Validate, o.EMA = 0.1, 4, 0.5 // so fast that one part gets worse again before the other
	result := func(checkpoint string, stop int) []byte {
		t.Helper()
		tr, err := New(toyFlow(t, toy(60, 1), flow.NetFusion), learn, judge, o, dev)
		if err != nil {
			t.Fatal(err)
		}
		tr.Checkpoint = checkpoint
		if stop > 0 {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			tr.Log = &stopper{at: fmt.Sprintf("step %d:", stop), cancel: cancel}
			tr.Run(ctx)
			left := filepath.Join(filepath.Dir(checkpoint), ".run.99.tmp")
			if err := os.WriteFile(left, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if tr, err = Resume(checkpoint, learn, judge, nil, dev); err != nil {
				t.Fatal(err)
			}
			tr.Log = nil
		}
		if err := tr.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(t.TempDir(), "flow")
		if err := tr.SaveResult(out); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		f, err := tr.Result()
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Save(out, false); err != nil {
			t.Fatal(err)
		}
		if again, _ := os.ReadFile(out); !bytes.Equal(again, b) {
			t.Error("Result is not what SaveResult saves")
		}
		if score := tr.Score(); score.StepZ == score.StepClass {
			t.Errorf("both parts were best at step %d: this shows nothing", score.StepZ)
		}
		return b
	}
	want := result("", 0)
	for _, stop := range []int{0, 8, 20} {
		dir := t.TempDir()
		path := filepath.Join(dir, "run")
		if !bytes.Equal(result(path, stop), want) {
			t.Errorf("stopped at step %d, the best weights in a file are others than in memory", stop)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		if err := RemoveCheckpoint(path); err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("after RemoveCheckpoint: %v", left)
		}
	}
	path := filepath.Join(t.TempDir(), "run")
	result(path, 0)
	os.Remove(bestPath(path))
	if _, err := Resume(path, learn, judge, nil, dev); err == nil || !strings.Contains(err.Error(), "best weights") {
		t.Errorf("without its best weights a run goes on: %v", err)
	}
}

// A batch of the paper's size, drawn from a shuffled file: to be compared with the step that it is for.
func BenchmarkStoredBatch(b *testing.B) {
	h := pairs.Header{Source: "a benchmark", Cond: 768, Latent: 268, Type: "f16"}
	path := filepath.Join(b.TempDir(), "store")
	a, err := pairs.Append(path, h)
	if err != nil {
		b.Fatal(err)
	}
	p := h.NewPair()
	for range 20000 {
		if err := a.Append(&p); err != nil {
			b.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		b.Fatal(err)
	}
	s, err := pairs.OpenStore(path)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	learn, _, err := Splits(b.Context(), s, 0, nil)
	if err != nil {
		b.Fatal(err)
	}
	f, err := flow.New(flow.Config{Dialect: flow.Net2Net, Latent: 268, Cond: 768, Blocks: 1, Hidden: 1, Clamp: 1, Embed: 1, EmbedWidth: 1}, 1)
	if err != nil {
		b.Fatal(err)
	}
	dev := tensor.CPU(1)
	defer dev.Close()
	draws := newSampler(learn, f, 1, 64)
	b.ReportAllocs()
	for step := uint64(0); b.Loop(); step++ {
		draws.draw(dev, step)
	}
}
