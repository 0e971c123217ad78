// Package roofline measures what this machine can do at most: multiply-adds in each precision, and reads from each level of memory.
// Benchmarks report their rate as a part of that (the roofline model, Williams et al. 2009). Only tests import it.
//
// The ceilings are those of the form that package cpu selects: with AVX-512 switched off they are what AVX2 reaches, and
// without assembly what plain Go reaches, whose reads and products come one value at a time.
package roofline

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"netfusion/kernels/cpu"
	"netfusion/kernels/memory"
)

// A Level is where operands lie before they are read.
type Level int

const (
	DRAM Level = iota
	L3
	L2
	levels
)

// sizes is how many bytes a measurement reads over and over, all threads together: more than the level above holds, so
// that it does not answer instead. L1 is tens of KiB, L2 one or two MiB a core, L3 some hundred MiB at most. (Shares of
// more than 4 threads would fit into the level above: there L3 and L2 come out too high.)
var sizes = [levels]int{DRAM: 1 << 30, L3: 8 << 20, L2: 512 << 10}

// Warm is the level at which operands of so many bytes lie after they were used: L2 or L3. It never is DRAM: for operands
// that no cache holds the roof is rather too high, and the part of it that a benchmark reaches too low.
func Warm(bytes float64) Level {
	if bytes <= float64(sizes[L2]) {
		return L2
	}
	return L3
}

// A Roof has the ceilings for some number of threads, together.
type Roof struct {
	FMA  float64         // float32 operations a second, two for each multiply-add
	BF16 float64         // the same with products of bfloat16, or FMA where no instruction multiplies them
	I8   float64         // the same with products of int8 or of int16, or FMA where no instruction multiplies them
	Read [levels]float64 // bytes a second, warm in L2 and L3
}

// Of is the shortest time in which so many float32 operations can be done and so many bytes read from a level: the
// longer of the two.
func (r Roof) Of(flops, bytes float64, from Level) time.Duration {
	return time.Duration(max(flops/r.FMA, bytes/r.Read[from]) * 1e9)
}

// InBF16 is the roof of work in bfloat16.
func (r Roof) InBF16() Roof { r.FMA = r.BF16; return r }

// InI8 is the roof of work in int8.
func (r Roof) InI8() Roof { r.FMA = r.I8; return r }

// Report reports the rate of a benchmark that has done flops operations an iteration, on operands of so many bytes in
// all, as GFLOP/s and as the part of r that it reached. Bytes should be counted once, however often they are read.
func (r Roof) Report(b *testing.B, flops, bytes float64, from Level) {
	unit.Do(func() { fmt.Println("Unit %roof better=higher") })
	n, seconds := float64(b.N), b.Elapsed().Seconds()
	b.ReportMetric(flops*n/seconds/1e9, "GFLOP/s")
	b.ReportMetric(100*r.Of(flops, bytes, from).Seconds()*n/seconds, "%roof")
}

// unit guards a line that tells benchstat which way is better; benchmarks run once before their names are printed.
var unit sync.Once

// known holds what was measured: a process measures each form and number of threads once.
var known struct {
	sync.Mutex
	roofs map[setting]Roof
}

type setting struct {
	lanes      int
	bf16, vnni bool
	threads    int
}

// Measure returns the ceilings of so many goroutines together. The first call takes a second or two, and 1 GiB meanwhile.
func Measure(threads int) Roof {
	known.Lock()
	defer known.Unlock()
	key := setting{lanes(), cpu.AVX512BF16, cpu.AVX512VNNI, threads}
	r, ok := known.roofs[key]
	if !ok {
		if known.roofs == nil {
			known.roofs = map[setting]Roof{}
		}
		r = measure(threads)
		known.roofs[key] = r
	}
	return r
}

// lanes is how many values an instruction of the selected form takes.
func lanes() int {
	switch {
	case cpu.AVX512:
		return 16
	case cpu.AVX2:
		return 8
	}
	return 1
}

func measure(threads int) Roof {
	const steps = 1 << 22 // some 10 ms
	var r Roof
	accumulators := make([][192]float32, threads)
	r.FMA = float64(threads*12*lanes()*2*steps) / fastest(threads, func(thread int) {
		multiplyAdd(&accumulators[thread], 0.5, 1, steps) // tends to 2
	})
	r.BF16, r.I8 = r.FMA, r.FMA
	sums, integers := make([][256]float32, threads), make([][256]int32, threads)
	done := make([]int, threads)
	if seconds := fastest(threads, func(thread int) {
		done[thread] = dotBF16(&sums[thread], 0x3f803f80, 0x3f803f80, steps) // ones
	}); done[0] > 0 {
		r.BF16 = float64(threads*done[0]) / seconds
	}
	if seconds := fastest(threads, func(thread int) {
		done[thread] = dotI8(&integers[thread], 0x01010101, 0x01010101, steps)
	}); done[0] > 0 {
		r.I8 = float64(threads*done[0]) / seconds
	}
	buffer := memory.Make[float32](sizes[DRAM] / 4)
	for i := range buffer {
		buffer[i] = 1 // memory never written to need not exist
	}
	totals := make([]float32, threads)
	for level, size := range sizes {
		share := size / 4 / threads &^ 127
		passes := sizes[DRAM] / size
		r.Read[level] = float64(4*share*threads*passes) / fastest(threads, func(thread int) {
			part := buffer[thread*share:][:share]
			for range passes {
				totals[thread] += sum(part)
			}
		})
	}
	return r
}

// fastest runs work on so many goroutines at once, and again, and returns the seconds of the best of 7 runs after the first.
func fastest(threads int, work func(thread int)) float64 {
	const runs = 7
	best := time.Duration(1<<63 - 1)
	for run := range 1 + runs {
		start := make(chan struct{})
		var done sync.WaitGroup
		for thread := range threads {
			done.Go(func() {
				<-start
				work(thread)
			})
		}
		began := time.Now()
		close(start)
		done.Wait()
		if run > 0 {
			best = min(best, time.Since(began))
		}
	}
	return best.Seconds()
}
