// Package soak draws thousands of pictures in one Session, and measures how long each takes and whether memory grows.
package soak

import (
	"context"
	"fmt"
	"image"
	"os"
	"runtime"
	"slices"
	"time"

	"netfusion/cinn"
)

// Result is what a run took. Growth is from when every prompt had been drawn a few times to the end.
type Result struct {
	Requests              int
	P50, P99, Slowest     time.Duration
	Host, Device          int           // bytes of growth: of the process, and as the caller measures the device
	FirstTenth, LastTenth time.Duration // medians of the first and of the last tenth of the requests
}

// String is one line of a report.
func (r Result) String() string {
	return fmt.Sprintf("%d requests: p50 %v, p99 %v, slowest %v; medians of the first and of the last tenth %v and %v; growth of the process %d bytes, of the device %d",
		r.Requests, r.P50, r.P99, r.Slowest, r.FirstTenth, r.LastTenth, r.Host, r.Device)
}

// prompts have different numbers of tokens, so that each shape of request comes up.
var prompts = []string{
	"heart", "red heart", "a big red heart", "a dog under a tree in the rain", "the sun above the mountains", "smiling face with a hat and glasses, by night",
	"rocket", "two clouds over the sea",
}

// rounds of all prompts are drawn before memory is measured: what there is to allocate has been by then.
const rounds = 4

// Run draws requests pictures, of several prompts in turn. device says how much of the device's memory is in use; nil is for a Model
// that has none.
func Run(ctx context.Context, m *cinn.Model, requests int, device func() (int, error)) (Result, error) {
	if requests < 10 {
		return Result{}, fmt.Errorf("soak: %d requests, want at least 10", requests)
	}
	s, err := m.NewSession()
	if err != nil {
		return Result{}, err
	}
	defer s.Close()
	picture := image.NewNRGBA(m.Bounds())
	draw := func(i int) error {
		return s.Generate(ctx, picture, cinn.Request{Prompt: prompts[i%len(prompts)], Seed: uint64(i)})
	}
	for i := range rounds * len(prompts) {
		if err := draw(i); err != nil {
			return Result{}, err
		}
	}
	times := make([]time.Duration, requests)
	host, onDevice, err := memory(device)
	if err != nil {
		return Result{}, err
	}
	for i := range times {
		start := time.Now()
		if err := draw(i); err != nil {
			return Result{}, fmt.Errorf("request %d: %w", i, err)
		}
		times[i] = time.Since(start)
	}
	r := Result{Requests: requests, FirstTenth: median(times[:requests/10]), LastTenth: median(times[requests-requests/10:])}
	hostAfter, deviceAfter, err := memory(device)
	if err != nil {
		return Result{}, err
	}
	r.Host, r.Device = hostAfter-host, deviceAfter-onDevice
	slices.Sort(times)
	r.P50, r.P99, r.Slowest = times[requests/2], times[requests*99/100], times[requests-1]
	return r, nil
}

func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}

// memory is what the process has, where the system says so with what libraries have, and what device says.
func memory(device func() (int, error)) (host, onDevice int, err error) {
	runtime.GC()
	var pages int
	if data, err := os.ReadFile("/proc/self/statm"); err == nil {
		fmt.Sscan(string(data), new(int), &pages) // resident is the second number
	}
	if host = pages * os.Getpagesize(); host == 0 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		host = int(m.Sys)
	}
	if device != nil {
		onDevice, err = device()
	}
	return host, onDevice, err
}
