package pack_test

import (
	"bytes"
	"fmt"
	"image"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"testing"
	"time"

	"netfusion/cinn"
	"netfusion/cinn/pack"
)

// BenchmarkOpen is what a program waits for before its first picture, the weights being unpacked: Open, NewSession, and the first
// Generate. MB are what Open and NewSession add, to the memory of the process (resident) and to the Go heap.
func BenchmarkOpen(b *testing.B) {
	for _, precision := range precisions {
		b.Run(precision.String(), func(b *testing.B) {
			var opening, session, first samples
			var resident, heap [3]float64
			for b.Loop() {
				b.StopTimer()
				resident[0], heap[0] = memory()
				b.StartTimer()
				start := time.Now()
				m, err := pack.Open(cinn.Options{Precision: precision})
				if err != nil {
					b.Fatal(err)
				}
				opening.since(start)
				b.StopTimer()
				resident[1], heap[1] = memory()
				b.StartTimer()
				start = time.Now()
				s, err := m.NewSession()
				if err != nil {
					b.Fatal(err)
				}
				session.since(start)
				b.StopTimer()
				resident[2], heap[2] = memory()
				img := image.NewNRGBA(m.Bounds())
				b.StartTimer()
				start = time.Now()
				if err := s.Generate(b.Context(), img, cinn.Request{Prompt: "red heart", Seed: 1}); err != nil {
					b.Fatal(err)
				}
				first.since(start)
				s.Close()
				m.Close()
			}
			b.ReportMetric(opening.percentile(50), "open-ms")
			b.ReportMetric(session.percentile(50), "session-ms")
			b.ReportMetric(first.percentile(50), "first-call-ms")
			for i, step := range []string{"open", "session"} {
				if resident[0] > 0 {
					b.ReportMetric(resident[i+1]-resident[i], step+"-resident-MB")
				}
				b.ReportMetric(heap[i+1]-heap[i], step+"-heap-MB")
			}
		})
	}
}

// memory is what the process has resident, 0 where the system does not tell, and what is alive on the Go heap, in MB.
func memory() (resident, heap float64) {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	status, _ := os.ReadFile("/proc/self/statm")
	if fields := bytes.Fields(status); len(fields) > 1 {
		pages, _ := strconv.Atoi(string(fields[1]))
		resident = float64(pages) * float64(os.Getpagesize()) / 1e6
	}
	return resident, float64(m.HeapAlloc) / 1e6
}

// BenchmarkGenerate draws one picture of a new prompt each time: text in, pixels out.
func BenchmarkGenerate(b *testing.B) {
	prompts := []string{"red heart", "a dog in the rain", "sunflower", "police car", "an old wizard with a long beard", "rocket", "happy", "ten o'clock"}
	for _, precision := range precisions {
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("%v/workers=%d", precision, workers), func(b *testing.B) {
				m, err := pack.Open(cinn.Options{Workers: workers, Precision: precision})
				if err != nil {
					b.Fatal(err)
				}
				defer m.Close()
				s, err := m.NewSession()
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
				img := image.NewNRGBA(m.Bounds())
				calls := make(samples, 0, 1<<16)
				var parts cinn.Timings
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					start := time.Now()
					r := cinn.Request{Prompt: prompts[i%len(prompts)], Seed: uint64(i)}
					if err := s.Generate(b.Context(), img, r); err != nil {
						b.Fatal(err)
					}
					calls.since(start)
					t := s.Timings()
					parts.Encode += t.Encode
					parts.Flow += t.Flow
					parts.Decode += t.Decode
				}
				b.ReportMetric(calls.percentile(50), "p50-ms")
				b.ReportMetric(calls.percentile(99), "p99-ms")
				mean := func(t time.Duration) float64 { return t.Seconds() * 1e3 / float64(b.N) }
				b.ReportMetric(mean(parts.Encode), "encode-ms")
				b.ReportMetric(mean(parts.Flow), "flow-ms")
				b.ReportMetric(mean(parts.Decode), "decode-ms")
			})
		}
	}
}

// samples are times that something took.
type samples []time.Duration

func (s *samples) since(start time.Time) { *s = append(*s, time.Since(start)) }

// percentile is in milliseconds.
func (s samples) percentile(p int) float64 {
	slices.Sort(s)
	return s[(len(s)-1)*p/100].Seconds() * 1e3
}
