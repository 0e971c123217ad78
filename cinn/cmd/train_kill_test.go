package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// kills is how often a process is killed: a few times, or as often as KILLS says.
func kills() int {
	if n, err := strconv.Atoi(os.Getenv("KILLS")); err == nil {
		return n
	}
	return 3
}

// A run that is killed at any moment, and resumed, ends with the bytes of one that is not: the flow, and the checkpoint. Temporary
// files that it leaves are cleaned up by the next.
func TestTrainingSurvivesKills(t *testing.T) {
	t.Chdir(t.TempDir())
	tinyStore(t, "store", 3)
	args := []string{
		"train", "-pairs", "store", "-steps", strconv.Itoa(200 * (2 + kills())), "-validate", "20", "-every", "5", "-batch", "64", "-blocks", "4", "-hidden", "48", "-embed", "8",
		"-embed-width", "16", "-head", "8", "-last=false", "-workers", "1", "-o",
	}
	start := time.Now()
	if code, _, stderr := commandLine(t, append(args, "whole")...); code != exitOK {
		t.Fatalf("exit %d, %q", code, stderr)
	}
	killed(t, rand.New(rand.NewPCG(3, 4)), kills(), time.Since(start), func() []string {
		if taken("torn.checkpoint") {
			return append(args, "torn", "-f", "-resume")
		}
		return append(args, "torn", "-f") // killed before the first checkpoint
	})
	for _, name := range []string{"", ".checkpoint", ".checkpoint.best"} {
		if content(t, "torn"+name) != content(t, "whole"+name) {
			t.Errorf("torn%s is not what it is without kills", name)
		}
	}
	if left, _ := filepath.Glob(".*.tmp"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
