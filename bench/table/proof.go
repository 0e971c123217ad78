package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// proof is the benchmarks of the last run in prove's results, by name, each with its figures by unit.
type proof struct {
	when       string
	benchmarks map[string]map[string]float64
	processes  []process // cinn, the first time and again
}

// process is one run of cinn.
type process struct{ timings, real string }

// benchmark is a line of go test: the name, the number of processors, the iterations, then figures and units.
var benchmark = regexp.MustCompile(`^\s+Benchmark(\S+?)(?:-\d+)?\s+\d+\s+(.*)$`)

// run is what cinn says of its pictures, and what the shell says of cinn.
var command = regexp.MustCompile(`\.png\s+8 pictures, .*?(encode .*)\n\s+real (\S+)`)

func readProof(path string) (proof, error) {
	p := proof{benchmarks: map[string]map[string]float64{}}
	data, err := os.ReadFile(path)
	if err != nil {
		return p, err
	}
	last := string(data)
	if i := strings.LastIndex(last, "\n== "); i >= 0 {
		last = last[i+1:]
	}
	p.when, _, _ = strings.Cut(strings.TrimPrefix(last, "== "), "\n")
	for line := range strings.Lines(last) {
		m := benchmark.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil {
			continue
		}
		values := map[string]float64{}
		words := strings.Fields(m[2])
		for i := 0; i+1 < len(words); i += 2 {
			if v, err := strconv.ParseFloat(words[i], 64); err == nil {
				values[words[i+1]] = v
			}
		}
		p.benchmarks[m[1]] = values
	}
	for _, m := range command.FindAllStringSubmatch(last, -1) {
		p.processes = append(p.processes, process{m[1], m[2]})
	}
	return p, nil
}

// fusion is what it costs to embed the fusion that ships.
func (p proof) fusion() string {
	precisions := []string{"f32", "bf16", "int8"}
	var rows [][]string
	row := func(title string, cell func(precision string) string) {
		cells := []string{title}
		for _, precision := range precisions {
			cells = append(cells, cell(precision))
		}
		if strings.Trim(strings.Join(cells[1:], ""), "–") != "" {
			rows = append(rows, cells)
		}
	}
	row("Open, then NewSession", func(precision string) string {
		return p.cell("%s / %s ms", []string{"Open/" + precision}, "open-ms", "session-ms")
	})
	row("memory that Open takes, and a Session's heap", func(precision string) string {
		return p.cell("%s / %s MB", []string{"Open/" + precision}, "open-resident-MB", "session-heap-MB")
	})
	row("first picture", func(precision string) string { return p.cell("%s ms", []string{"Open/" + precision}, "first-call-ms") })
	workers := func(precision string) []string {
		return []string{"Generate/" + precision + "/workers=1", "Generate/" + precision + "/workers=2"}
	}
	row("a new prompt to a picture, 1 / 2 cores: median", func(precision string) string { return p.cell("%s / %s ms", workers(precision), "p50-ms") })
	row("99th percentile", func(precision string) string { return p.cell("%s / %s ms", workers(precision), "p99-ms") })
	text := table(append([]string{"the fusion that ships, 64 pixels"}, precisions...), rows)
	if len(p.processes) == 2 {
		text += fmt.Sprintf("`cinn red heart`, eight pictures from start to PNG, takes %s s, %s s the first time, when it unpacks its weights: %s.\n\n", p.processes[1].real,
			p.processes[0].real, p.processes[1].timings)
	}
	if text == "" {
		return ""
	}
	return text + "From the last run of `./build.sh prove`, " + p.when + ".\n\n"
}

// cell formats the figures of some units of some benchmarks, or a dash if one is missing.
func (p proof) cell(format string, names []string, units ...string) string {
	var values []any
	for _, name := range names {
		for _, unit := range units {
			v, ok := p.benchmarks[name][unit]
			if !ok {
				return "–"
			}
			values = append(values, digits(v))
		}
	}
	return fmt.Sprintf(format, values...)
}
