package train

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"netfusion/cinn/flow"
	"netfusion/tensor"
)

// A run that was interrupted, or killed behind its checkpoint, has the history of one that was not, but for time.
func TestAHistoryIsThatOfAnUninterruptedRun(t *testing.T) {
	dev := tensor.CPU(1)
	defer dev.Close()
	d, v := toy(60, 1), toy(20, 2)
	drawn := 0
	run := func(dir string, stops ...string) []Record {
		t.Helper()
		path := filepath.Join(dir, "run")
		f := toyFlow(t, d, flow.NetFusion)
		tr, err := New(f, d, v, toyOptions(), dev)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; ; i++ {
			tr.Checkpoint = path
			if tr.History, err = OpenHistory(path + ".history"); err != nil {
				t.Fatal(err)
			}
			tr.Sheet = func(sample func(x, c tensor.Tensor, d flow.Draw)) ([]byte, error) {
				drawn++
				x, c := tensor.New(2, 8), tensor.New(2, 5)
				sample(x, c, flow.Draw{Temperature: 1, Guidance: 1})
				return fmt.Append(nil, x.Data), nil
			}
			ctx, cancel := context.WithCancel(t.Context())
			if i < len(stops) {
				tr.Log = &stopper{at: stops[i], cancel: cancel}
			}
			err := tr.Run(ctx)
			cancel()
			if i == len(stops) {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
			// What was recorded behind the checkpoint is recorded again, and a torn line is left out.
			h := tr.History
			if err := errors.Join(h.add(Record{Step: tr.Step() + 1, Loss: 99}), h.add(Record{Step: tr.Step() + 2, Loss: 99})); err != nil {
				t.Fatal(err)
			}
			raw, err := os.ReadFile(path + ".history")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path+".history", raw[:len(raw)-5], 0o600); err != nil {
				t.Fatal(err)
			}
			if tr, err = Resume(path, d, v, nil, dev); err != nil {
				t.Fatal(err)
			}
		}
		h, err := OpenHistory(path + ".history")
		if err != nil {
			t.Fatal(err)
		}
		for i := range h.Records {
			if i > 0 && h.Records[i].Spent.Total() < h.Records[i-1].Spent.Total() {
				t.Errorf("record %d took less time than the one before", i)
			}
			h.Records[i].Spent = Spent{}
		}
		return h.Records
	}
	want := run(t.TempDir())
	if drawn != sheetsPerRun-1 || len(want) != 40+5 { // validations are at every fourth of the run
		t.Errorf("%d sheets and %d records", drawn, len(want))
	}
	got := run(t.TempDir(), "step 10:", "step 30:")
	for i := range want {
		if i >= len(got) || fmt.Sprintf("%+v", plainRecord(got[i])) != fmt.Sprintf("%+v", plainRecord(want[i])) {
			t.Fatalf("record %d of %d differs", i, len(got))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d records, want %d", len(got), len(want))
	}
	path := filepath.Join(t.TempDir(), "h")
	if err := os.WriteFile(path, []byte("{\"step\": 1}\nnot JSON\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenHistory(path); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a damaged history: %v", err)
	}
}

// plainRecord has values in place of pointers.
func plainRecord(r Record) any {
	v := Validation{}
	if r.Validation != nil {
		v = *r.Validation
	}
	r.Validation = nil
	return struct {
		Record
		V Validation
	}{r, v}
}

func TestResidualsOfANormalAreCalibrated(t *testing.T) {
	c := calibrator{sums: make([]float64, 3), squares: make([]float64, 3)}
	const n = 20000
	c.v = tensor.New(n, 3)
	for r := range n { // the quantiles themselves, scaled in the third dimension
		for j := range 3 {
			c.v.Row(r)[j] = float32(normalQuantile((float64(r) + 0.5) / n))
		}
		c.v.Row(r)[2] *= 2
	}
	for range 2 { // a second time, as a second validation is
		c.begin()
		for r := range n {
			c.add(r, 0.5)
		}
	}
	v := c.result()
	for j, want := range []float64{1, 1, 2} {
		if math.Abs(float64(v.Std[j])-want) > 1e-3 {
			t.Errorf("dimension %d has standard deviation %v, want %v", j, v.Std[j], want)
		}
	}
	if math.Abs(v.Half-3) > 0.01 {
		t.Errorf("½|v|² is %v, want 3", v.Half)
	}
	// Two thirds are normal and a third has twice their width: Φ(x)·2/3 + Φ(x/2)/3 = p.
	for k, p := range Levels {
		x := float64(v.Quantiles[k])
		phi := func(x float64) float64 { return 0.5 * math.Erfc(-x/math.Sqrt2) }
		if got := phi(x)*2/3 + phi(x/2)/3; math.Abs(got-p) > 2e-3 {
			t.Errorf("quantile %v is %v, below which are %v", p, x, got)
		}
	}
	c.begin()
	c.v.Row(0)[0], c.v.Row(0)[1] = float32(math.Inf(1)), float32(math.Inf(-1))
	c.add(0, 1) // no panic
}

func TestSparklinesShowTheCourse(t *testing.T) {
	for _, test := range []struct {
		values []float64
		cells  int
		want   string
	}{
		{nil, 5, ""}, {[]float64{3}, 5, "▁"}, {[]float64{7, 6, 5, 4, 3, 2, 1, 0}, 8, "█▇▆▅▄▃▂▁"},
		{[]float64{0, 2, 10, 12}, 2, "▁█"}, {[]float64{1, math.NaN(), 2, math.Inf(1)}, 4, "▁█"},
	} {
		if got := sparkline(test.values, test.cells); got != test.want {
			t.Errorf("%v in %d cells: %q, want %q", test.values, test.cells, got, test.want)
		}
	}
}

// On a terminal the panel is drawn over itself, and no line of it wraps.
func TestThePanelIsDrawnOverItself(t *testing.T) {
	dev := tensor.CPU(1)
	defer dev.Close()
	d, v := toy(60, 1), toy(20, 2)
	tr, err := New(toyFlow(t, d, flow.NetFusion), d, v, toyOptions(), dev)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	tr.Log, tr.Columns = &out, 48
	if err := tr.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	screen := []string{}
	row := 0
	for _, line := range strings.SplitAfter(out.String(), "\n") {
		if rest, ok := strings.CutPrefix(line, "\x1b[4A"); ok {
			row, line = row-4, rest
		}
		text, ok := strings.CutSuffix(strings.TrimPrefix(line, "\r"), "\x1b[K\n")
		if line == "" {
			continue
		}
		if !ok || len([]rune(text)) > 47 || row < 0 {
			t.Fatalf("line %q at row %d", line, row)
		}
		screen = append(screen[:row], text)
		row++
	}
	all := strings.Join(screen, "\n")
	if len(screen) != 4 || !strings.Contains(all, "step 40 of 40") || !strings.Contains(all, "nats/dim") || !strings.ContainsRune(all, '▁') || !strings.Contains(all, "normal 3") {
		t.Errorf("the screen shows\n%s", all)
	}
}

// The page is whole and needs nothing else, at every moment of a run.
func TestThePageStandsAlone(t *testing.T) {
	v := &Validation{Z: 3, Class: 1, Half: 3.2, Std: []float32{1, 0.9, 1.2}, Quantiles: make([]float32, len(Levels))}
	odd := &Validation{Z: math.MaxFloat64, Half: 1e30, Std: []float32{0, 0, 0}, Quantiles: make([]float32, len(Levels))}
	png := []byte("\x89PNG\r\n\x1a\n<&>")
	p := Page{
		Title: `a <b> & "c"`, Config: flow.Config{Latent: 3, Class: 2, Classes: 2}, Options: plain(), Train: 100, Validate: 10, Machine: "CPU", Watts: 80,
		Memory: Memory{Parameters: 1234567, Weights: 4e6}, Columns: []string{"<script>"},
	}
	for name, records := range map[string][]Record{
		"nothing":    nil,
		"first":      {{Validation: v}},
		"a run":      {{Validation: v, Sheet: png}, {Step: 1, Loss: 4, Norm: 2, Rate: 1e-3, Spent: Spent{Gradient: 3600}}, {Step: 2, Loss: 3, Norm: 1, Rate: 1e-3, Spent: Spent{Gradient: 7200}}, {Step: 2, Validation: v, Spent: Spent{Gradient: 7200, Validate: 100}}},
		"constant":   {{Validation: v}, {Step: 1, Loss: 4}, {Step: 2, Loss: 4}, {Step: 2, Validation: v}},
		"ridiculous": {{Validation: odd}, {Step: 1, Loss: math.NaN()}, {Step: 2, Loss: math.Inf(1)}, {Step: 2, Validation: odd}},
	} {
		var b bytes.Buffer
		if err := p.Write(&b, &History{Records: records}); err != nil {
			t.Fatal(err)
		}
		text := b.String()
		for _, bad := range []string{"<script", "<b>", "http", "NaN", "Inf", "%!"} {
			if strings.Contains(strings.ReplaceAll(text, "http://www.w3.org", ""), bad) {
				t.Errorf("%s: the page holds %q", name, bad)
			}
		}
		for _, svg := range strings.SplitAfter(text, "</svg>") {
			at := strings.Index(svg, "<svg")
			if at < 0 {
				continue
			}
			decoder := xml.NewDecoder(strings.NewReader(svg[at:]))
			for {
				if _, err := decoder.Token(); err == io.EOF {
					break
				} else if err != nil {
					t.Fatalf("%s: %v in %.200s", name, err, svg[at:])
				}
			}
		}
		if name == "a run" {
			for _, want := range []string{base64.StdEncoding.EncodeToString(png), "D/2 = 1.5", "0.162", "2h1m40s", "14.4", "1.23 million", "1.1542"} {
				if !strings.Contains(text, want) {
					t.Errorf("the page does not say %q", want)
				}
			}
		}
	}
}

// The paper's configs are those of its repository: their sizes are known from there.
func TestPresetsHaveThePapersSizes(t *testing.T) {
	want := map[string]float64{
		"sbert-to-biggan256": 254.74, "sbert-to-ae-coco256": 252.44, "sbert-to-bigbigan": 239.06, "faces32-to-faces256": 189.20, "creativity-anime": 179.47,
	}
	for _, p := range Presets() {
		plan, err := Plan(p.Config, p.Options, 0, 0)
		if err != nil || p.Options.check() != nil {
			t.Errorf("%s: %v, %v", p.Name, err, p.Options.check())
		}
		if millions, ok := want[p.Name]; ok && math.Abs(float64(plan.Parameters)/1e6-millions) > 0.006 {
			t.Errorf("%s: %.2f million parameters, want %.2f", p.Name, float64(plan.Parameters)/1e6, millions)
		}
		again, err := FindPreset(p.Name)
		if err != nil || again != p {
			t.Errorf("%s is not found: %v", p.Name, err)
		}
	}
	p, err := FindPreset("sbert-to-biggan256")
	if err != nil {
		t.Fatal(err)
	}
	if o := p.Options; math.Abs(o.Rate-7.2e-5) > 1e-12 || o.rate(1) != o.Rate || o.rate(o.Steps) != o.Rate || o.Beta1 != 0.5 || o.Beta2 != 0.9 || o.Optimizer != "amsgrad" || o.EMA != 0 {
		t.Errorf("its optimizer is %+v", o)
	}
	if _, err := FindPreset("sbert"); err == nil || !strings.Contains(err.Error(), "faces32-to-faces256") {
		t.Errorf("a preset that there is not: %v", err)
	}
}
