package train

import (
	"fmt"
	"io"
	"text/tabwriter"

	"netfusion/cinn/flow"
)

// Memory is what a run takes, in bytes, known before it begins.
type Memory struct {
	Parameters int

	Weights  int // of the flow, with its linear layer
	Gradient int
	Moments  int // two of the gradient, and with AMSGrad the largest of the second
	Average  int // of the weights
	Step     int // what a step keeps of a batch, the batch with it
	Pairs    int // those in memory, or the list of those in a file
	Experts  int // that are open beside the run
	Program  int // the rest, an allowance: buffers of files, the runtime
	Fit      int // the closed-form first layer, before the gradient, the moments and the average are there
}

// program is the allowance. Writing a report takes most of it.
const program = 96 << 20

// Plan computes the memory of training a flow of config c on pairs that take so many bytes. fit is how many draws of them the
// closed-form layer is fitted to; 0 is none.
func Plan(c flow.Config, o Options, pairs, fit int) (Memory, error) {
	p, err := c.Footprint(o.Batch, flow.Regularisation{Dropout: o.Dropout, Noise: o.ConditionNoise})
	if err != nil {
		return Memory{}, err
	}
	n := 4 * p.Parameters
	m := Memory{
		Parameters: p.Parameters,
		Weights:    n + p.Beside, Gradient: n, Moments: 2 * n,
		Step: p.Step + samplerBytes(c, o.Batch) + samplerBytes(c, min(o.Batch, maxJudge)), Pairs: pairs, Program: program,
	}
	if o.Optimizer == "amsgrad" {
		m.Moments += n
	}
	if o.EMA > 0 {
		m.Average = n + p.Beside
	}
	if fit > 0 {
		m.Fit = fitBytes(c, fit)
	}
	return m, nil
}

// samplerBytes is what a sampler takes for batches of so many rows.
func samplerBytes(c flow.Config, rows int) int {
	return rows * (4*(3*c.Latent+c.Class+c.Cond) + 128)
}

// fitBytes is what Fit takes: the draws, their standardised conditions, and moments in float64, some times over.
func fitBytes(c flow.Config, rows int) int {
	read := c.Cond
	if c.Side > 0 {
		read /= c.Pool * c.Pool
	}
	width := read + c.Class + 1 + c.Latent
	return samplerBytes(c, rows) + 4*rows*(read+c.Class) + 8*14*width*width
}

// Total is the most that is taken at any time.
func (m Memory) Total() int {
	fixed := m.Weights + m.Pairs + m.Experts + m.Program
	return fixed + max(m.Fit, m.Gradient+m.Moments+m.Average+m.Step)
}

// Write writes the plan as a table.
func (m Memory) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name string, bytes int) { fmt.Fprintf(t, "%s\t%8s\n", name, Bytes(bytes)) }
	line(fmt.Sprintf("memory for %s parameters, at most", count(m.Parameters)), m.Total())
	for _, part := range []struct {
		name  string
		bytes int
	}{
		{"weights", m.Weights}, {"their gradient", m.Gradient}, {"optimizer", m.Moments}, {"average of the weights", m.Average},
		{"what a step keeps of a batch", m.Step}, {"pairs", m.Pairs}, {"experts", m.Experts}, {"the program", m.Program},
	} {
		if part.bytes > 0 {
			line("  "+part.name, part.bytes)
		}
	}
	if m.Fit > 0 {
		line("before the first step instead: the linear layer's fit", m.Fit)
	}
	return t.Flush()
}

// Bytes is n in units of 1024.
func Bytes(n int) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, unit := float64(n), 0
	for v >= 1000 && unit < len(units)-1 {
		v, unit = v/1024, unit+1
	}
	if v >= 100 || unit == 0 {
		return fmt.Sprintf("%.0f %s", v, units[unit])
	}
	return fmt.Sprintf("%.3g %s", v, units[unit])
}

// count is n in millions where it has that many.
func count(n int) string {
	if n < 1e6 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%.2f million", float64(n)/1e6)
}
