package pack_test

import (
	"fmt"
	"image"
	"slices"
	"testing"
	"time"

	"netfusion/cinn"
	"netfusion/cinn/pack"
)

// BenchmarkOpen is what a program waits for before its first picture, the weights being unpacked.
func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		m, err := pack.Open(cinn.Options{})
		if err != nil {
			b.Fatal(err)
		}
		s, err := m.NewSession()
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
		m.Close()
	}
}

// BenchmarkGenerate draws one picture of a new prompt each time: text in, pixels out.
func BenchmarkGenerate(b *testing.B) {
	prompts := []string{"red heart", "a dog in the rain", "sunflower", "police car", "an old wizard with a long beard", "rocket", "happy", "ten o'clock"}
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			m, err := pack.Open(cinn.Options{Workers: workers})
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
			calls := make([]time.Duration, 0, 1<<16)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				start := time.Now()
				r := cinn.Request{Prompt: prompts[i%len(prompts)], Seed: uint64(i)}
				if err := s.Generate(b.Context(), img, r); err != nil {
					b.Fatal(err)
				}
				calls = append(calls, time.Since(start))
			}
			slices.Sort(calls)
			ms := func(part int) float64 { return calls[(len(calls)-1)*part/100].Seconds() * 1e3 }
			b.ReportMetric(ms(50), "p50-ms")
			b.ReportMetric(ms(99), "p99-ms")
		})
	}
}
