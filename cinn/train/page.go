package train

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"math"
	"strings"
	"time"

	"netfusion/cinn/flow"
)

// Page is a run as one HTML file that needs nothing else: what was trained, how it went, what it took.
type Page struct {
	Title           string
	Config          flow.Config
	Options         Options
	Train, Validate int // pairs
	Memory          Memory
	Machine         string
	Watts           float64  // of the whole machine; assumed, nothing measures it
	Columns         []string // what the columns of sample sheets were asked for; may be empty
}

// Prices and emissions of a kWh as the paper has them (Rombach, Esser, Ommer 2020, table 2).
const (
	euroPerKWh = 0.216
	kgPerKWh   = 0.296
)

// paperCosts are the rows of that table, as printed.
var paperCosts = []struct{ what, time, machine, kWh, euro, kg string }{
	{"the paper's cINN", "≤ 1 day", "1 Titan X, a system of 600 W", "14.4", "3.11", "4.26"},
	{"FUNIT", "14 days", "8 V100, a DGX-1 of 3500 W", "1176.0", "254.02", "348.10"},
	{"BigGAN", "15 days", "8 V100", "1260.0", "272.16", "372.96"},
	{"BERT", "10.3 days", "8 V100", "865.2", "186.88", "256.10"},
}

const pageStyle = `<style>
:root { color-scheme: light dark; --ink: #222; --soft: #777; --rule: #ddd; --a: #0b67b2; --b: #c2410c; --c: #3f7d20; }
@media (prefers-color-scheme: dark) { :root { --ink: #ddd; --soft: #999; --rule: #444; --a: #6db3f2; --b: #f59e6c; --c: #9ccc65; } body { background: #181818; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 1180px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin: 2em 0 .5em; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 1em; }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: var(--ink); }
svg .title { font-size: 13px; font-weight: 600; } svg .note { fill: var(--soft); }
.grid { stroke: var(--rule); fill: none; } .level { stroke: var(--soft); stroke-dasharray: 5 4; fill: none; }
.curve { fill: none; stroke-width: 1.6; } .curve.a { stroke: var(--a); } .curve.b { stroke: var(--b); } .curve.c { stroke: var(--c); }
svg .name.a, .bar.a, .dot.a { fill: var(--a); } svg .name.b, .bar.b, .dot.b { fill: var(--b); } svg .name.c, .bar.c, .dot.c { fill: var(--c); }
table { border-collapse: collapse; } td, th { padding: .15em .9em .15em 0; text-align: left; border-bottom: 1px solid var(--rule); } td.n, th.n { text-align: right; }
.sheets { display: flex; flex-wrap: wrap; gap: 1em; } figure { margin: 0; } figure img { image-rendering: pixelated; width: 340px; max-width: 100%; }
figcaption, .soft { color: var(--soft); } pre { white-space: pre-wrap; }
</style>
`

// Write writes the page for the history so far.
func (p *Page) Write(w io.Writer, h *History) error {
	var b strings.Builder
	title := html.EscapeString(p.Title)
	fmt.Fprintf(&b, "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>%s</title>\n%s<h1>%s</h1>\n", title, pageStyle, title)
	judged := h.validations()
	if len(judged) == 0 {
		b.WriteString("<p>No validation yet.</p>\n")
	} else {
		p.summary(&b, h, judged)
		p.curves(&b, h, judged)
		p.sheets(&b, h)
		p.calibration(&b, judged[len(judged)-1])
		p.costs(&b, h)
	}
	p.settings(&b)
	b.WriteString("</html>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// summary is the figures that matter.
func (p *Page) summary(b *strings.Builder, h *History, judged []Record) {
	c, last, best := &p.Config, judged[len(judged)-1], judged[0]
	for _, r := range judged {
		if r.Validation.total() < best.Validation.total() {
			best = r
		}
	}
	fmt.Fprintf(b, "<p>Step %d of %d, on %d pairs to train and %d to validate. %s parameters.</p>\n", h.Records[len(h.Records)-1].Step, p.Options.Steps, p.Train, p.Validate, count(p.Memory.Parameters))
	t := table{b}
	t.begin("validation", "step", "NLL, nats", "nats per dimension", "bits per dimension", "½|v|²")
	dims := float64(c.Latent + c.Class)
	for _, row := range []struct {
		name string
		r    Record
	}{{"before training", judged[0]}, {"best", best}, {"last", last}} {
		v := row.r.Validation
		t.row(row.name, fmt.Sprint(row.r.Step), fmt.Sprintf("%.3f", v.total()), fmt.Sprintf("%.4f", v.total()/dims),
			fmt.Sprintf("%.4f", v.total()/dims/math.Ln2), fmt.Sprintf("%.2f", v.Half))
	}
	t.end()
	fmt.Fprintf(b, "<p class=\"soft\">Where residuals are normal, ½|v|² is D/2 = %g on average: above it the flow is too sure of itself on pairs that it has not seen.</p>\n", float64(c.Latent)/2)
}

func (v *Validation) total() float64 { return v.Z + v.Class }

func (p *Page) curves(b *strings.Builder, h *History, judged []Record) {
	dims := float64(p.Config.Latent + p.Config.Class)
	loss, nll := curve{name: "batches", class: "a"}, curve{name: "validation", class: "b"}
	half := curve{name: "½|v|²", class: "b"}
	norm, rate := curve{class: "a"}, curve{class: "c"}
	for _, r := range h.Records {
		x := float64(r.Step)
		if v := r.Validation; v != nil {
			nll.x, nll.y = append(nll.x, x), append(nll.y, v.total()/dims)
			half.x, half.y = append(half.x, x), append(half.y, v.Half)
			continue
		}
		loss.x, loss.y = append(loss.x, x), append(loss.y, r.Loss/dims)
		norm.x, norm.y = append(norm.x, x), append(norm.y, r.Norm)
		rate.x, rate.y = append(rate.x, x), append(rate.y, r.Rate)
	}
	reference := float64(p.Config.Latent) / 2
	b.WriteString("<h2>How it went</h2><div class=\"charts\">\n")
	for _, c := range []chart{
		{title: "Negative log-likelihood", x: "step", y: "nats per dimension", curves: []curve{loss, nll}},
		{title: "Residual energy on validation pairs", x: "step", y: "nats", curves: []curve{half}, level: reference, levelName: fmt.Sprintf("D/2 = %g", reference)},
		{title: "Gradient's norm", x: "step", y: "before clipping", curves: []curve{norm}},
		{title: "Learning rate", x: "step", y: "", curves: []curve{rate}},
	} {
		c.write(b)
	}
	b.WriteString("</div>\n")
}

func (p *Page) sheets(b *strings.Builder, h *History) {
	begun := false
	for _, r := range h.Records {
		if r.Sheet == nil {
			continue
		}
		if !begun {
			asked := "conditions of validation pairs"
			if len(p.Columns) > 0 {
				asked = strings.Join(p.Columns, "; ")
			}
			fmt.Fprintf(b, "<h2>Samples over time</h2><p class=\"soft\">The same noise each time; from left to right: %s.</p><div class=\"sheets\">\n", html.EscapeString(asked))
			begun = true
		}
		fmt.Fprintf(b, "<figure><img alt=\"samples at step %d\" src=\"data:image/png;base64,%s\"><figcaption>step %d</figcaption></figure>\n", r.Step, base64.StdEncoding.EncodeToString(r.Sheet), r.Step)
	}
	if begun {
		b.WriteString("</div>\n")
	}
}

func (p *Page) calibration(b *strings.Builder, last Record) {
	qq, std := curve{class: "b"}, curve{class: "a", bars: true}
	for k, q := range last.Validation.Quantiles {
		if k < len(Levels) {
			qq.x, qq.y = append(qq.x, normalQuantile(Levels[k])), append(qq.y, float64(q))
		}
	}
	for j, s := range last.Validation.Std {
		std.x, std.y = append(std.x, float64(j)), append(std.y, float64(s))
	}
	fmt.Fprintf(b, "<h2>Calibration of the residual</h2><p class=\"soft\">Of validation pairs, at step %d: v = τ⁻¹(z | c) is normal, with variance 1 in every dimension, if the flow is right about pairs that it has not seen.</p><div class=\"charts\">\n", last.Step)
	for _, c := range []chart{
		{title: "All values of v: quantiles", x: "normal", y: "v", curves: []curve{qq}, square: true},
		{title: "Standard deviation of each dimension of v", x: "dimension", y: "", curves: []curve{std}, level: 1, levelName: "1"},
	} {
		c.write(b)
	}
	b.WriteString("</div>\n")
}

// costs are in time, and in energy as the paper has it.
func (p *Page) costs(b *strings.Builder, h *History) {
	last := h.Records[len(h.Records)-1]
	s := last.Spent
	b.WriteString("<h2>Time</h2>\n")
	t := table{b}
	t.begin("what", "time", "share")
	for _, row := range []struct {
		name string
		v    Seconds
	}{{"steps: drawing batches", s.Draw}, {"steps: gradient", s.Gradient}, {"steps: optimizer", s.Update}, {"validation", s.Validate}, {"checkpoints", s.Save}, {"sample sheets", s.Sheet}, {"all", s.Total()}} {
		t.row(row.name, duration(row.v), fmt.Sprintf("%.1f %%", 100*float64(row.v)/max(1e-9, float64(s.Total()))))
	}
	t.end()
	if last.Step > 0 && s.Training() > 0 {
		fmt.Fprintf(b, "<p>%.0f pairs a second in steps of %d, %.1f ms each.</p>\n", float64(last.Step*p.Options.Batch)/float64(s.Training()), p.Options.Batch, 1000*float64(s.Training())/float64(last.Step))
	}
	kWh := float64(s.Total()) / 3600 * p.Watts / 1000
	fmt.Fprintf(b, "<h2>Energy</h2>\n<p class=\"soft\">In the form of table 2 of the paper, whose rows are as printed there: %g EUR and %g kg CO₂ a kWh. The %g W of this machine are assumed (-watts), not measured.</p>\n", euroPerKWh, kgPerKWh, p.Watts)
	t.begin("one run of training", "time", "machine", "kWh", "EUR", "kg CO₂")
	t.row("this flow", duration(s.Total()), fmt.Sprintf("%s, %g W", p.Machine, p.Watts), figure(kWh), figure(kWh*euroPerKWh), figure(kWh*kgPerKWh))
	for _, r := range paperCosts {
		t.row(r.what, r.time, r.machine, r.kWh, r.euro, r.kg)
	}
	t.end()
}

// settings are what the run can be repeated from.
func (p *Page) settings(b *strings.Builder) {
	config, err1 := json.MarshalIndent(p.Config, "", "  ")
	options, err2 := json.MarshalIndent(p.Options, "", "  ")
	if err1 != nil || err2 != nil { // there is nothing in them that JSON does not have
		return
	}
	var plan strings.Builder
	if p.Memory.Write(&plan) == nil {
		fmt.Fprintf(b, "<h2>Memory, stated before the start</h2><pre>%s</pre>\n", html.EscapeString(plan.String()))
	}
	fmt.Fprintf(b, "<h2>Settings</h2><div class=\"charts\"><pre>%s</pre><pre>%s</pre></div>\n", html.EscapeString(string(config)), html.EscapeString(string(options)))
}

// table writes a table of texts.
type table struct{ b *strings.Builder }

func (t table) begin(heads ...string) {
	t.b.WriteString("<table><tr>")
	for _, h := range heads {
		fmt.Fprintf(t.b, "<th>%s</th>", html.EscapeString(h))
	}
	t.b.WriteString("</tr>\n")
}

func (t table) row(cells ...string) {
	t.b.WriteString("<tr>")
	for _, c := range cells {
		fmt.Fprintf(t.b, "<td>%s</td>", html.EscapeString(c))
	}
	t.b.WriteString("</tr>\n")
}

func (t table) end() { t.b.WriteString("</table>\n") }

// figure has three digits that mean something.
func figure(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

func duration(s Seconds) string {
	d := time.Duration(float64(s) * float64(time.Second))
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}
