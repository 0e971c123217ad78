package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
)

// line is one line of a peers' file: a case, or the ceilings of the machine for one form of the kernels.
type line struct {
	Date, Commit, Processor string
	Busy                    bool // measured on a machine that did other things, to try things out
	Threads                 int

	Case        string
	Rounds      int
	Dropped     int
	Contestants []contestant
	Ratios      map[string]float64 // of the peer's time to ours, by our precision

	Ceilings string
	Values   map[string]float64 // by unit
}

type contestant struct {
	Name, Version, Precision, Form string
	Median, Low, High              float64 // ms
}

const ours = "netfusion"

// key is a case and its threads.
type key struct {
	name    string
	threads int
}

// peers is what a file says last about each case.
type peers struct {
	cases    map[key]line
	names    []string                              // of the cases, as they first came
	ceilings map[int]map[string]map[string]float64 // by threads, form of the kernels and unit
}

func readPeers(path string) (peers, error) {
	r := peers{cases: map[key]line{}, ceilings: map[int]map[string]map[string]float64{}}
	f, err := os.Open(path)
	if err != nil {
		return r, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for at := 1; lines.Scan(); at++ {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return r, fmt.Errorf("%s: line %d: %w", path, at, err)
		}
		r.add(l)
	}
	return r, lines.Err()
}

func (r *peers) add(l line) {
	switch {
	case l.Busy:
	case l.Ceilings != "":
		if r.ceilings[l.Threads] == nil {
			r.ceilings[l.Threads] = map[string]map[string]float64{}
		}
		r.ceilings[l.Threads][l.Ceilings] = l.Values
	default:
		if !slices.Contains(r.names, l.Case) {
			r.names = append(r.names, l.Case)
		}
		r.cases[key{l.Case, l.Threads}] = l
	}
}

// ceiling is the most that any form of the kernels reached, or 0.
func (r peers) ceiling(threads int, unit string) (top float64) {
	for _, values := range r.ceilings[threads] {
		top = max(top, values[unit])
	}
	return top
}

// threads are the thread counts of all cases.
var threads = []int{1, 2}

// time is the median of our contestant in a precision.
func (l line) time(precision string) (float64, bool) {
	i := slices.IndexFunc(l.Contestants, func(c contestant) bool { return c.Name == ours && c.Precision == precision })
	if i < 0 {
		return 0, false
	}
	return l.Contestants[i].Median, true
}

// peer is the fastest of the others in a precision.
func (l line) peer(precision string) (best contestant, ok bool) {
	for _, c := range l.Contestants {
		if c.Name != ours && c.Precision == precision && (!ok || c.Median < best.Median) {
			best, ok = c, true
		}
	}
	return best, ok
}

// each joins what f says about a case for each number of threads, or returns a dash if it says nothing.
func (r peers) each(name string, f func(l line) string) string {
	var all []string
	for _, t := range threads {
		if l, ok := r.cases[key{name, t}]; ok {
			if s := f(l); s != "" {
				all = append(all, s)
			}
		}
	}
	if len(all) == 0 {
		return "–"
	}
	return strings.Join(all, " / ")
}

// digits writes a number with three significant digits, as far as they stand behind the point.
func digits(v float64) string {
	switch {
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func table(head []string, rows [][]string) string {
	if len(rows) == 0 {
		return ""
	}
	var b strings.Builder
	write := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	write(head)
	b.WriteString(strings.Repeat("|---", len(head)) + "|\n")
	for _, row := range rows {
		write(row)
	}
	return b.String() + "\n"
}

// titles names the cases of the first table.
var titles = []struct{ prefix, title string }{
	{"bert/minilm/", "MiniLM-L6, %s"},
	{"bert/base/", "BERT-base, %s"},
	{"biggan/", "BigGAN-deep-%s"},
	{"flow/sample", "the paper's flow, 254.7 M parameters: a sample%s"},
	{"flow/train,rows=", "a step of its training, batch %s"},
}

// title is what the first table calls a case, or nothing.
func title(name string) string {
	for _, t := range titles {
		if rest, ok := strings.CutPrefix(name, t.prefix); ok {
			var texts, tokens int
			if n, _ := fmt.Sscanf(rest, "%dx%d", &texts, &tokens); n == 2 {
				rest = fmt.Sprintf("%d tokens", tokens)
				if texts > 1 {
					rest = fmt.Sprintf("%d texts of %d tokens", texts, tokens)
				}
			}
			return fmt.Sprintf(t.title, rest)
		}
	}
	return ""
}

// titled are the cases of the first table, in its order.
func (r peers) titled() []string {
	var all []string
	for _, t := range titles {
		for _, name := range r.names {
			if strings.HasPrefix(name, t.prefix) {
				all = append(all, name)
			}
		}
	}
	return all
}

// models is a row for each whole model: times, and the ratio to the peer.
func (r peers) models() string {
	var rows [][]string
	for _, name := range r.titled() {
		row := []string{title(name)}
		for _, p := range []string{"f32", "int8"} {
			row = append(row, r.each(name, func(l line) string {
				c, ok := l.peer(p)
				if !ok {
					return ""
				}
				return digits(c.Median)
			}))
		}
		for _, p := range []string{"f32", "bf16", "int8"} {
			cell := r.each(name, func(l line) string {
				t, ok := l.time(p)
				if !ok {
					return ""
				}
				return digits(t)
			})
			if cell != "–" {
				cell += " (" + r.each(name, func(l line) string { return fmt.Sprintf("%.2f", l.Ratios[p]) }) + ")"
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	text := table([]string{"ms, 1 core / 2 cores", "peer f32", "peer int8", "ours f32", "ours bf16", "ours int8"}, rows)
	if text == "" {
		return ""
	}
	return text + "In brackets how many times as long the peer takes; more than 1 means that ours is faster. Ours in bf16 stands beside the peer's float32, " +
		"in int8 beside its int8\nwhere it has one. The peers are the fastest forms of onnxruntime, and of PyTorch for the flow.\n\n"
}

// products sums the matmul cases up by rows: over the layers, the median ratio to oneDNN and the least, and the median part of the
// ceiling that is reached.
func (r peers) products() string {
	var rows [][]string
	for _, m := range []string{"1,memory", "1", "8", "16", "32", "128", "1024"} {
		row := []string{m + " rows"}
		switch m {
		case "1":
			row[0] = "1 row"
		case "1,memory":
			row[0] = "1 row, weights from memory"
		}
		for _, p := range []string{"f32", "bf16", "int8"} {
			row = append(row, r.product("/m="+m, p))
		}
		if strings.Trim(strings.Join(row[1:], ""), "–") != "" {
			rows = append(rows, row)
		}
	}
	text := table([]string{"matrix products, 1 core / 2 cores", "f32", "bf16", "int8"}, rows)
	if text == "" {
		return ""
	}
	return text + "How many times as long oneDNN takes with weights that it packed: the median over layers of these models and, in brackets, the least; " +
		"then the median part\nof this machine's measured peak, or of its memory's speed. Ours rounds its activations within the time, oneDNN gets rounded ones.\n\n"
}

func (r peers) product(suffix, precision string) string {
	var ratios, parts []string
	for _, t := range threads {
		var all, of []float64
		for k, l := range r.cases {
			if ratio, ok := l.Ratios[precision]; ok && k.threads == t && strings.HasPrefix(k.name, "matmul/") && strings.HasSuffix(k.name, suffix) {
				all = append(all, ratio)
				if part := r.part(l, precision); part > 0 {
					of = append(of, part)
				}
			}
		}
		if len(all) == 0 {
			continue
		}
		ratios = append(ratios, fmt.Sprintf("%.2f (%.2f)", median(all), slices.Min(all)))
		if len(of) > 0 {
			parts = append(parts, fmt.Sprintf("%.0f", 100*median(of)))
		}
	}
	if len(ratios) == 0 {
		return "–"
	}
	text := strings.Join(ratios, " / ")
	if len(parts) > 0 {
		text += ", " + strings.Join(parts, " / ") + " %"
	}
	return text
}

// part is how much of the ceiling a matmul reaches: of the memory's speed if its weights come from there, of the arithmetic's from 8
// rows on. Between the two it is bound by caches, and has none.
func (r peers) part(l line, precision string) float64 {
	var n, k, m float64
	if c, _ := fmt.Sscanf(l.Case, "matmul/n=%g,k=%g/m=%g", &n, &k, &m); c != 3 {
		return 0
	}
	ms, _ := l.time(precision)
	if strings.HasSuffix(l.Case, ",memory") {
		size := map[string]float64{"f32": 4, "bf16": 2, "int8": 1}[precision]
		return n * k * size / (ms * 1e6) / cmp.Or(r.ceiling(l.Threads, "DRAM-GB/s"), math.Inf(1))
	}
	if m < 8 {
		return 0
	}
	unit := map[string]string{"f32": "GFLOP/s", "bf16": "bf16-GFLOP/s", "int8": "int8-GOP/s"}[precision]
	return 2 * m * n * k / (ms * 1e6) / cmp.Or(r.ceiling(l.Threads, unit), math.Inf(1))
}

func median(v []float64) float64 {
	slices.Sort(v)
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

// convolutions is a row for each layer.
func (r peers) convolutions() string {
	var rows [][]string
	for _, name := range r.names {
		var channels, size int
		if n, _ := fmt.Sscanf(name, "conv/channels=%d/size=%d", &channels, &size); n != 2 {
			continue
		}
		row := []string{fmt.Sprintf("%d channels, %d×%d", channels, size, size)}
		for _, p := range []string{"f32", "bf16"} {
			row = append(row, r.each(name, func(l line) string { return fmt.Sprintf("%.2f", l.Ratios[p]) })+
				" (from "+r.each(name, func(l line) string {
				c, _ := l.peer(p)
				return digits(c.Median) + " ms " + c.Form
			})+")")
		}
		rows = append(rows, row)
	}
	text := table([]string{"3×3 convolutions, 1 core / 2 cores", "f32", "bf16"}, rows)
	if text == "" {
		return ""
	}
	return text + "How many times as long oneDNN's best form takes, whose times and form follow.\n\n"
}

// source tells where the figures are from.
func (r peers) source(file string) string {
	versions, commits, dates := map[string]bool{}, map[string]bool{}, map[string]bool{}
	processor, rounds, dropped := "", 0, 0
	for _, l := range r.cases {
		for _, c := range l.Contestants {
			if c.Name != ours {
				versions[c.Name+" "+c.Version] = true
			}
		}
		commits[l.Commit], dates[l.Date] = true, true
		processor, rounds, dropped = l.Processor, rounds+l.Rounds, dropped+l.Dropped
	}
	if rounds == 0 {
		return ""
	}
	text := fmt.Sprintf("From [%s](bench/results/%s): %s, %s; %s; commit %s; %d rounds, and %d dropped in which a thread lost its core or others took time.\n",
		file, file, processor, join(dates), join(versions), join(commits), rounds, dropped)
	for _, t := range threads {
		if r.ceilings[t] == nil {
			continue
		}
		text += fmt.Sprintf("What %d of its cores can do, as bench/roofline measured it: %.0f GFLOP/s in float32, %.0f in bf16, %.0f GOP/s in int8; ", t,
			r.ceiling(t, "GFLOP/s"), r.ceiling(t, "bf16-GFLOP/s"), r.ceiling(t, "int8-GOP/s"))
		text += fmt.Sprintf("%.0f GB/s from memory, %.0f from L3, %.0f from L2.\n", r.ceiling(t, "DRAM-GB/s"), r.ceiling(t, "L3-GB/s"), r.ceiling(t, "L2-GB/s"))
	}
	return text + r.scaling() + "\n"
}

// small are cases that read more than they compute: one or a few rows of activations for each weight.
var small = regexp.MustCompile(`/m=(1|8|16)$|,memory$|/1x(8|16)$|^flow/sample$`)

// scaling tells how much faster two cores are than one where a call computes for more than a millisecond.
func (r peers) scaling() string {
	var gains []float64
	least, where := math.Inf(1), ""
	for _, name := range r.names {
		one, two := r.cases[key{name, 1}], r.cases[key{name, 2}]
		for _, p := range []string{"f32", "bf16", "int8"} {
			t1, ok1 := one.time(p)
			t2, ok2 := two.time(p)
			if !ok1 || !ok2 || t1 <= 1 || small.MatchString(name) {
				continue
			}
			gains = append(gains, t1/t2)
			if t1/t2 < least {
				least, where = t1/t2, name+" in "+p
			}
		}
	}
	if len(gains) == 0 {
		return ""
	}
	return fmt.Sprintf("Two cores are %.2f times as fast as one, the median of %d cases of more than a millisecond's arithmetic; at least %.2f (%s).\n",
		median(gains), len(gains), least, where)
}

func join(set map[string]bool) string {
	var all []string
	for s := range set {
		all = append(all, s)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}
