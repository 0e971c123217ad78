//go:build linux

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"netfusion/cinn/pairs"
	"netfusion/cinn/train"
)

// The process that trains the paper's flow has no more memory of its own than it said before. PAPER_SIZE makes the flow as large as
// it is in the paper, and not a small one of that shape.
func TestMemoryStaysBelowWhatWasStated(t *testing.T) {
	t.Chdir(t.TempDir())
	h := pairs.Header{Source: "chance", Cond: 768, Latent: 268, Type: "f16"}
	a, err := pairs.Append("store", h)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	p := h.NewPair()
	for i := range 200 {
		for j := range p.Condition {
			p.Condition[j] = float32(r.NormFloat64())
		}
		for j := range p.Latent {
			p.Latent[j] = float32(r.NormFloat64())
		}
		p.Split = pairs.Split(i % 2)
		if err := a.Append(&p); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	hidden, averages := "48", []string{"0.999"}
	if os.Getenv("PAPER_SIZE") != "" {
		hidden, averages = "1024", []string{"0", "0.999"}
	}
	for _, average := range averages {
		preset, err := train.FindPreset("sbert-to-biggan256")
		if err != nil {
			t.Fatal(err)
		}
		preset.Config.Hidden, _ = strconv.Atoi(hidden)
		preset.Options.EMA, _ = strconv.ParseFloat(average, 64)
		plan, err := train.Plan(preset.Config, preset.Options, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		c := exec.Command(os.Args[0], "train", "-preset", preset.Name, "-hidden", hidden, "-ema", average, "-pairs", "store", "-steps", "1", "-validate", "1", "-o", "flow", "-f", "-report", "r.html")
		c.Env, c.Stdout, c.Stderr = append(os.Environ(), roleKey+"=cinn"), &out, &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		peak, ended := 0, make(chan error)
		go func() { ended <- c.Wait() }()
		for running := true; running; {
			select {
			case err = <-ended:
				running = false
			case <-time.After(2 * time.Millisecond):
				peak = max(peak, anonymous(c.Process.Pid))
			}
		}
		if err != nil || !strings.Contains(out.String(), train.Bytes(plan.Total())) {
			t.Fatalf("%v, or %s was not stated: %s", err, train.Bytes(plan.Total()), out.String())
		}
		t.Logf("%d parameters, average %s: %s stated, %s taken", plan.Parameters, average, train.Bytes(plan.Total()), train.Bytes(peak))
		if peak > plan.Total()+plan.Pairs+4*200 {
			t.Errorf("%s are more than the %s that were stated", train.Bytes(peak), train.Bytes(plan.Total()))
		}
		if least := 16 * plan.Parameters; peak < least {
			t.Errorf("%s is less than the weights, their gradient and two moments have: nothing was measured", train.Bytes(peak))
		}
	}
}

// anonymous is the memory that a process has for itself: not that of files which it maps.
func anonymous(pid int) int {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(raw), "RssAnon:")
	line, _, _ := strings.Cut(rest, "kB")
	kB, _ := strconv.Atoi(strings.TrimSpace(line))
	return kB << 10
}
