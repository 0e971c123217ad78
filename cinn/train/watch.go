package train

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"netfusion/cinn/flow"
	"netfusion/nn/disk"
	"netfusion/tensor"
)

// watch shows and records how a run goes.
type watch struct {
	*Progress
	t     *Trainer
	panel *panel // nil where there is no terminal

	begin time.Time
	from  int     // the step at begin
	loss  float64 // smoothed

	due         int // steps between records
	count       int // steps since the last
	sum, norms  float64
	sheets      int // that have been drawn
	losses      []float64
	validations []float64
	half        float64 // ½|v|² of the last validation; 0 if that is not known
}

// So many records of the loss, and sheets of samples, has a run, about.
const (
	recordsPerRun = 400
	sheetsPerRun  = 6
)

// watch removes what a killed run left, and begins to watch.
func (t *Trainer) watch() (*watch, error) {
	if t.Checkpoint != "" {
		for _, path := range []string{t.Checkpoint, bestPath(t.Checkpoint)} {
			if err := disk.Clean(path); err != nil {
				return nil, err
			}
		}
	}
	w := &watch{Progress: NewProgress(t.Log), t: t, begin: time.Now(), from: t.state.Step, due: max(1, t.Options.Steps/recordsPerRun)}
	if t.Columns > 0 && t.Log != nil {
		w.panel, w.terminal = &panel{w: t.Log, columns: t.Columns}, true
	}
	if t.History == nil {
		return w, nil
	}
	var err error
	if t.spent, err = t.History.goOn(t.state.Step, t.state.Last != none); err != nil {
		return nil, err
	}
	for _, r := range t.History.Records {
		if r.Sheet != nil {
			w.sheets++
		}
		if v := r.Validation; v != nil {
			w.validations = append(w.validations, (v.Z+v.Class)/w.dims())
			w.half = v.Half
		} else {
			w.losses = append(w.losses, r.Loss/w.dims())
		}
	}
	return w, nil
}

func (w *watch) close() {
	if w.panel != nil {
		w.panel.show(w.lines())
	}
	w.Clear()
}

func (w *watch) dims() float64 { return float64(w.t.flow.Config.Latent + w.t.flow.Config.Class) }

func (w *watch) step(loss float64) error {
	t := w.t
	if n := t.state.Step - w.from; n == 1 {
		w.loss = loss
	} else {
		w.loss += (loss - w.loss) / min(50, float64(n))
	}
	w.count++
	w.sum += loss
	w.norms += t.norm
	if t.state.Step%w.due == 0 {
		n := float64(w.count)
		r := Record{Step: t.state.Step, Spent: t.spent, Loss: w.sum / n, Norm: w.norms / n, Rate: t.Options.rate(t.state.Step)}
		w.losses = append(w.losses, r.Loss/w.dims())
		w.count, w.sum, w.norms = 0, 0, 0
		if t.History != nil {
			if err := t.History.add(r); err != nil {
				return err
			}
		}
	}
	if w.Due() {
		w.show()
	}
	return nil
}

func (w *watch) show() {
	if w.panel != nil {
		w.shown = time.Now()
		w.panel.show(w.lines())
		return
	}
	t := w.t
	w.Show(fmt.Sprintf("%s %d/%d  loss %.4f  validation %.4f nats/dim  %.0f pairs/s  %v left", Bar(t.state.Step, t.Options.Steps, 24),
		t.state.Step, t.Options.Steps, w.loss/w.dims(), w.last(), w.rate(), w.left()))
}

// last is the last validation, in nats per dimension.
func (w *watch) last() float64 { return (w.t.state.Last.Z + w.t.state.Last.Class) / w.dims() }

// rate is in pairs a second, all that is done between steps included.
func (w *watch) rate() float64 {
	return float64((w.t.state.Step-w.from)*w.t.Options.Batch) / max(time.Since(w.begin).Seconds(), 1e-9)
}

func (w *watch) left() time.Duration {
	done := w.t.state.Step - w.from
	if done == 0 {
		return 0
	}
	return (time.Since(w.begin) / time.Duration(done) * time.Duration(w.t.Options.Steps-w.t.state.Step)).Round(time.Second)
}

// validation shows and records one that has just been.
func (w *watch) validation() error {
	t := w.t
	last := t.state.Last
	r := Record{Step: t.state.Step, Validation: t.residual.result()}
	r.Validation.Z, r.Validation.Class = last.Z, last.Class
	w.validations = append(w.validations, w.last())
	w.half = r.Validation.Half
	if w.panel != nil {
		w.show()
	} else {
		w.Keep(w.line(r.Validation))
	}
	if t.History == nil {
		return nil
	}
	if err := w.sheet(&r); err != nil {
		return err
	}
	r.Spent = t.spent
	if err := t.History.add(r); err != nil {
		return err
	}
	if t.Observe != nil {
		return t.Observe(t.History)
	}
	return nil
}

func (w *watch) line(v *Validation) string {
	t, c := w.t, &w.t.flow.Config
	line := fmt.Sprintf("step %d: validation %.4f nats/dim", t.state.Step, w.last())
	if c.Classes > 0 {
		line += fmt.Sprintf(" (latent %.4f, class %.4f per dimension)", v.Z/float64(c.Latent), v.Class/float64(c.Class))
	}
	line += fmt.Sprintf(", ½|v|² %.1f of %g", v.Half, float64(c.Latent)/2)
	if t.state.Wait > 0 {
		line += fmt.Sprintf(", best was %.4f", (t.state.Best.Z+t.state.Best.Class)/w.dims())
	}
	return line
}

// sheet draws samples if it is time to.
func (w *watch) sheet(r *Record) error {
	t := w.t
	if t.Sheet == nil || t.state.Step < t.Options.Steps*w.sheets/(sheetsPerRun-1) {
		return nil
	}
	begin := time.Now()
	defer func() { t.spent.Sheet.since(begin) }()
	if err := t.settle(); err != nil {
		return err
	}
	g, err := t.host()
	if err != nil {
		return err
	}
	r.Sheet, err = t.Sheet(func(x, c tensor.Tensor, d flow.Draw) { g.Sample(t.ema, x, c, d) })
	w.sheets = t.state.Step*(sheetsPerRun-1)/t.Options.Steps + 1
	return err
}

// lines are the panel.
func (w *watch) lines() []string {
	t, c, o := w.t, &w.t.flow.Config, &w.t.Options
	lines := []string{
		fmt.Sprintf("%s step %d of %d   %.0f pairs/s   %v left", Bar(t.state.Step, o.Steps, 24), t.state.Step, o.Steps, w.rate(), w.left()),
		fmt.Sprintf("loss        %9.4f nats/dim  %s", w.loss/w.dims(), sparkline(w.losses, sparkCells)),
		fmt.Sprintf("validation  %9.4f nats/dim  %s", w.last(), sparkline(w.validations, sparkCells)),
	}
	if t.state.Wait > 0 {
		lines[2] += fmt.Sprintf("  best %.4f", (t.state.Best.Z+t.state.Best.Class)/w.dims())
	}
	rates := fmt.Sprintf("learning rate %.2g   gradient %.2g", o.rate(max(1, t.state.Step)), t.norm)
	if w.half > 0 {
		rates = fmt.Sprintf("½|v|² %.1f, normal %g   ", w.half, float64(c.Latent)/2) + rates
	}
	return append(lines, "            "+rates)
}

const sparkCells = 32

// sparkline draws values as a row of bars, the means of parts where there are more values than cells. What is not finite is left
// out.
func sparkline(values []float64, cells int) string {
	var means []float64
	n := min(cells, len(values))
	for i := range n {
		part := values[i*len(values)/n : (i+1)*len(values)/n]
		var sum float64
		for _, v := range part {
			sum += v / float64(len(part))
		}
		if !math.IsNaN(sum) && !math.IsInf(sum, 0) {
			means = append(means, sum)
		}
	}
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range means {
		low, high = min(low, v), max(high, v)
	}
	var b strings.Builder
	for _, v := range means {
		level := 0
		if high > low {
			level = int(math.Round((v - low) / (high - low) * 7))
		}
		b.WriteRune([]rune("▁▂▃▄▅▆▇█")[level])
	}
	return b.String()
}

// panel draws some lines over those that it drew before.
type panel struct {
	w       io.Writer
	columns int
	drawn   int
}

func (p *panel) show(lines []string) {
	var b strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", p.drawn) // up to the first
	}
	for _, line := range lines {
		if utf8.RuneCountInString(line) >= p.columns { // a line that wraps is two
			line = string([]rune(line)[:max(0, p.columns-1)])
		}
		b.WriteString("\r" + line + "\x1b[K\n")
	}
	p.drawn = len(lines)
	io.WriteString(p.w, b.String())
}
