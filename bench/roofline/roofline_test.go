package roofline

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"netfusion/kernels/cpu"
	"netfusion/kernels/cpu/cputest"
)

// A loop that leaves out work would make a roof of any height.
func TestMultiplyAddDoesEveryStep(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		for _, c := range []struct { // all of it exact in float32
			x, y  float32
			steps int
			want  func(v float32) float32
		}{
			{1, 0.75, 1001, func(v float32) float32 { return v + 1001*0.75 }},
			{3, 2, 3, func(v float32) float32 { return 27*v + 26 }},
			{-2, 5, 1, func(v float32) float32 { return 5 - 2*v }},
		} {
			var acc [192]float32
			for i := range acc {
				acc[i] = float32(i)
			}
			multiplyAdd(&acc, c.x, c.y, c.steps)
			for i, got := range acc {
				want := float32(i)
				if i < 12*lanes() {
					want = c.want(want)
				}
				if got != want {
					t.Fatalf("%d steps: acc[%d] = %v, want %v", c.steps, i, got, want)
				}
			}
		}
	})
}

func TestDotsDoEveryStep(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		const steps = 101
		var acc [256]float32
		if operations := dotBF16(&acc, 0x3fc0_4000, 0x4080_3f00, steps); operations > 0 {
			for i, v := range acc {
				if v != (2*0.5+1.5*4)*steps {
					t.Fatalf("bfloat16: acc[%d] = %v", i, v)
				}
			}
			if operations != 256*4*steps {
				t.Errorf("bfloat16: %d operations", operations)
			}
		}
		var sums [256]int32
		if operations := dotI8(&sums, 0x04_03_02_01, 0xc8_07_06_05, steps); operations > 0 {
			lanes, want := 256, int32(1*5+2*6+3*7+4*200)*steps
			if !cpu.AVX512VNNI {
				lanes, want = 96, (0x0201*0x0605+0x0403*(0xc807-0x10000))*steps
			}
			for i, v := range sums[:lanes] {
				if v != want {
					t.Fatalf("int8: sums[%d] = %v, want %v", i, v, want)
				}
			}
			if perLane := operations / (lanes * steps); perLane != 8 && cpu.AVX512VNNI || perLane != 4 && !cpu.AVX512VNNI {
				t.Errorf("int8: %d operations a lane and step", perLane)
			}
		}
	})
}

func TestSumReadsEveryValue(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		for _, n := range []int{128, 256, 1280} {
			src := cputest.AtPageEnd[float32](t, n)
			want := float32(0)
			for i := range src {
				src[i] = float32(i)
				want += src[i] // below 1<<24, so exact in any order
			}
			if got := sum(src); got != want {
				t.Errorf("%d values: %v, want %v", n, got, want)
			}
		}
	})
}

func TestOfIsTheLongerOfBothTimes(t *testing.T) {
	r := Roof{FMA: 1e9, Read: [levels]float64{DRAM: 1e6, L3: 1e8, L2: 1e9}}
	for _, c := range []struct {
		flops, bytes float64
		from         Level
		want         time.Duration
	}{
		{2e9, 1e6, DRAM, 2 * time.Second},
		{2e9, 3e6, DRAM, 3 * time.Second},
		{1e6, 1e8, L3, time.Second},
		{0, 5e6, L2, 5 * time.Millisecond},
	} {
		if got := r.Of(c.flops, c.bytes, c.from); got != c.want {
			t.Errorf("%v operations, %v bytes from level %d: %v, want %v", c.flops, c.bytes, c.from, got, c.want)
		}
	}
}

// That more threads reach more is for a benchmark to show, not for a test to demand: other work on the machine comes between.
func TestEveryCeilingIsMeasured(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second and 1 GiB")
	}
	for _, threads := range []int{1, 2} {
		r := measure(threads)
		if !(r.FMA > 0 && r.BF16 > 0 && r.I8 > 0 && r.Read[DRAM] > 0 && r.Read[L3] > 0 && r.Read[L2] > 0) {
			t.Errorf("%d threads: not all ceilings are positive: %+v", threads, r)
		}
	}
}

// BenchmarkRoof prints the ceilings of every form, for one goroutine and for one a processor.
func BenchmarkRoof(b *testing.B) {
	cputest.EachForm(b, func(b *testing.B) {
		for threads := 1; ; threads = runtime.GOMAXPROCS(0) {
			b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
				var r Roof
				for b.Loop() {
					r = measure(threads)
				}
				b.ReportMetric(0, "ns/op") // says nothing here
				b.ReportMetric(r.FMA/1e9, "GFLOP/s")
				b.ReportMetric(r.BF16/1e9, "bf16-GFLOP/s")
				b.ReportMetric(r.I8/1e9, "int8-GOP/s")
				b.ReportMetric(r.Read[DRAM]/1e9, "DRAM-GB/s")
				b.ReportMetric(r.Read[L3]/1e9, "L3-GB/s")
				b.ReportMetric(r.Read[L2]/1e9, "L2-GB/s")
			})
			if threads == runtime.GOMAXPROCS(0) {
				break
			}
		}
	})
}

func TestAStreamReadsEveryValue(t *testing.T) {
	cputest.EachForm(t, func(t *testing.T) {
		for _, threads := range []int{1, 3} {
			s := newStream(threads, 3<<12)
			for range 2 {
				if rate := s.Read(); !(rate > 0) {
					t.Errorf("%v bytes a second", rate)
				}
			}
			for thread, sum := range s.sums {
				if sum != float32(2*3<<10/threads) {
					t.Errorf("thread %d of %d read a sum of %v in two passes", thread, threads, sum)
				}
			}
		}
	})
}
