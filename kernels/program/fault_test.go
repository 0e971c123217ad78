//go:build !cuda

package program_test

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	. "netfusion/kernels/program"
	"netfusion/tensor"
	. "netfusion/tensor/kerneltest"
	"netfusion/tensor/ptx"
)

// plant is a small Program of every instruction: how it is made, and the bits of its result.
type plant struct {
	add  func(r *rig) (out Matrix, n int)
	want []float32
}

func plants() []*plant {
	return []*plant{
		{add: func(r *rig) (Matrix, int) { return r.encoder(6, 1, false) }},
		{add: func(r *rig) (Matrix, int) { return r.flow(1, 1) }},
		{add: func(r *rig) (Matrix, int) { // more rows than are taken at a time
			const m, n = 34, 4
			out := r.out(1, n)
			r.Add(&Pool{M: m, N: n, X: r.in(Single, m, n), Norm: Norm{Gamma: r.vector(n, 1), Beta: r.vector(n, 1), Epsilon: 1e-5}, Out: out})
			return out, n
		}},
		{add: func(r *rig) (Matrix, int) { // more columns than its threads wait for at a time
			const m, n, k = 8, 3, 270
			out, x := r.out(m, n), r.Hidden(m, k)
			r.Add(&Move{M: m, N: k, X: r.plain(m, k), Out: x}, &MatMul{M: m, N: n, K: k, X: x, Weights: r.weights(n, k), Out: out})
			return out, m * n
		}},
		{add: func(r *rig) (Matrix, int) { return r.late(true) }},
		{add: func(r *rig) (Matrix, int) { return r.late(false) }},
		{add: func(r *rig) (Matrix, int) {
			const n = 5
			state, out := r.in(Local, 1, n), r.out(1, n)
			r.Add(&Uncouple{M: 1, N: n, Raw: r.in(Single, 1, n), Shift: r.in(Single, 1, n), State: state, Alpha: 2}, &Move{M: 1, N: n, X: state, Out: out})
			return out, n
		}},
	}
}

// late adds a product with a residual of rows that are mixed with a base. The residual or the base takes long to make.
func (r *rig) late(base bool) (out Matrix, n int) {
	n = 5
	const k = 900
	x, slow, soon := r.Hidden(1, n), r.Singles(1, n), r.in(Single, 1, n)
	r.Add(&MatMul{M: 1, N: n, K: k, X: r.plain(1, k), Weights: r.weights(n, k), Out: slow})
	mix := &Move{M: 1, N: n, X: r.in(Single, 1, n), Base: soon, Factor: put(r, []float32{3}), Out: x}
	product := &MatMul{M: 1, N: n, K: n, X: x, Weights: r.weights(n, n), Residual: slow, Out: r.out(1, n)}
	if base {
		mix.Base, product.Residual = slow, soon
	}
	r.Add(mix, product)
	return product.Out, n
}

// run runs p by a text, in an order of turns that the seed decides, and returns the result or what went wrong.
func (p *plant) run(t *testing.T, f Format, text string, seed uint64) ([]float32, error) {
	d := ptx.Open(ptx.Options{Seed: seed, Instructions: 1 << 23})
	r := newRig(t, f, LoadOn(t, d, text, f.Entry()))
	out, n := p.add(r)
	r.encode(4) // so the block that makes late's product does not make its residual
	if err := r.launch(); err != nil {
		return nil, err
	}
	got := make([]float32, n)
	r.k.Get(got, tensor.DevicePtr(out.At))
	return got, nil
}

// harms tells whether one of the plants, run by a text, faults or gives another result, in one of a few orders of turns.
func harms(t *testing.T, f Format, text string, all []*plant) bool {
	for seed := range uint64(16) {
		for _, p := range all {
			if p.want == nil {
				var err error
				if p.want, err = p.run(t, f, strings.Join(linesOf(f), "\n"), 0); err != nil {
					t.Fatal(err)
				}
			}
			got, err := p.run(t, f, text, seed)
			var fault *ptx.Fault
			if err != nil && !errors.As(err, &fault) {
				t.Fatal(err)
			}
			same := func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }
			if err != nil || !slices.EqualFunc(got, p.want, same) {
				return true
			}
		}
	}
	return false
}

// linesOf returns the lines of PTX that an entry takes.
func linesOf(f Format) []string {
	lines := strings.Split(PTX, "\n")
	entry := func(l string) bool { return strings.Contains(l, ".entry ") }
	header := slices.IndexFunc(lines, entry)
	begin := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, ".entry "+f.Entry()+"(") })
	end := len(lines)
	if next := slices.IndexFunc(lines[begin+1:], entry); next >= 0 {
		end = begin + 1 + next
	}
	return append(slices.Clone(lines[:header]), lines[begin:end]...)
}

var branch = regexp.MustCompile(`^\s*@\S+\s+bra\s+(\S+);$`)

// spins finds the loops that wait for words: for each the lines of the branches back to where it loads them.
func spins(lines []string) map[string][]int {
	labels := map[string]int{}
	for i, l := range lines {
		if strings.HasPrefix(l, "$") && strings.HasSuffix(l, ":") {
			labels[strings.TrimSuffix(l, ":")] = i
		}
	}
	found := map[string][]int{}
	for i, l := range lines {
		if !strings.Contains(l, "ld.relaxed") {
			continue
		}
		inner := ""
		for j := i; j < len(lines); j++ {
			if m := branch.FindStringSubmatch(lines[j]); m != nil && labels[m[1]] <= i && (inner == "" || labels[m[1]] > labels[inner]) {
				inner = m[1]
			}
		}
		found[inner] = nil
		for j := i; j < len(lines); j++ {
			if m := branch.FindStringSubmatch(lines[j]); m != nil && m[1] == inner {
				found[inner] = append(found[inner], j)
			}
		}
	}
	return found
}

func TestPTXNeedsEveryWait(t *testing.T) {
	lines, all := linesOf(BF16), plants()
	waits := spins(lines)
	if len(waits) < 8 {
		t.Fatalf("%d waits were found", len(waits))
	}
	for _, branches := range waits {
		without := slices.Clone(lines)
		for _, i := range branches {
			without[i] = ""
		}
		if !harms(t, BF16, strings.Join(without, "\n"), all) {
			t.Errorf("the wait at line %d is not needed", 1+branches[0])
		}
	}
}

// A word that is not written, or without the number of the launch, is waited for in vain.
func TestPTXNeedsEveryWord(t *testing.T) {
	for _, f := range formats {
		for _, store := range []string{"st.relaxed.gpu.global.u64", "st.relaxed.gpu.global.v2.u64"} {
			lines := linesOf(f)
			for i, l := range lines {
				if strings.Contains(l, store) {
					lines[i] = ""
				}
			}
			_, err := plants()[1].run(t, f, strings.Join(lines, "\n"), 1)
			var fault *ptx.Fault
			if !errors.As(err, &fault) || fault.Kind != ptx.Endless {
				t.Errorf("%s without %s: %v", f.Entry(), store, err)
			}
		}
	}
}

var (
	synchronising = regexp.MustCompile(`^\s*(bar\.sync|bar\.warp\.sync|atom\.add\.acq_rel)\b`)
	awaiting      = regexp.MustCompile(`^\s*cp\.async\.wait_group\b`)
)

// The waits for pages are one for each number of pages: without them all, and without the one before the first step, there is harm.
func TestPTXNeedsEveryBarrier(t *testing.T) {
	for _, f := range formats {
		needsEveryBarrier(t, f)
	}
}

func needsEveryBarrier(t *testing.T, f Format) {
	t.Helper()
	lines, all := linesOf(f), plants()
	needs := func(what string, sites ...int) {
		without := slices.Clone(lines)
		for _, i := range sites {
			without[i] = ""
			if strings.Contains(lines[i], "atom") {
				without[i] = strings.Replace(lines[i], "acq_rel", "relaxed", 1)
			}
		}
		if !harms(t, f, strings.Join(without, "\n"), all) {
			t.Errorf("%s does not need line %d, %s", f.Entry(), 1+sites[0], what)
		}
	}
	var waits []int
	for i, l := range lines {
		if awaiting.MatchString(l) {
			waits = append(waits, i)
		} else if synchronising.MatchString(l) {
			needs(strings.TrimSpace(l), i)
		}
	}
	needs("the wait for the first steps", waits[0])
	needs("the waits for pages", waits[1:]...)
}

// Blocks that are not all resident would wait for those that are not; the driver refuses them.
func TestPTXBlocksMustBeResident(t *testing.T) {
	d := ptx.Open(ptx.Options{Multiprocessors: 1})
	r := newRig(t, BF16, LoadOn(t, d, PTX, BF16.Entry()))
	r.flow(1, 1)
	r.encode(64)
	if err := r.launch(); err == nil {
		t.Error(fmt.Sprintf("%d blocks of %d bytes ran on one multiprocessor", r.code.Blocks, r.code.Shared))
	}
}
