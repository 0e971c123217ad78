package main

import (
	"path/filepath"
	"strings"
	"testing"

	"netfusion/bench/tiny"
	"netfusion/cinn/pairs"
)

func TestPairsEncodesTheImages(t *testing.T) {
	checkpoint := tiny.ImageEncoder(t)
	t.Chdir(t.TempDir())
	tiny.Images(t, "data")
	if code, _, stderr := commandLine(t, "convert", checkpoint, "-arch", "vae-encoder", "-o", "encoder"); code != exitOK {
		t.Fatal(stderr)
	}
	for _, workers := range []string{"1", "2"} {
		code, stdout, stderr := commandLine(t, "pairs", "-data", "data", "-encoder", "encoder", "-workers", workers, "-o", "pairs."+workers)
		if code != exitOK || !strings.HasPrefix(stdout, "pairs."+workers+": 3 images of 2 concepts") {
			t.Fatalf("exit %d, %q, %q", code, stdout, stderr)
		}
	}
	if content(t, "pairs.1") != content(t, "pairs.2") {
		t.Error("two workers make other pairs than one")
	}
	set, err := pairs.Open("pairs.1")
	if err != nil {
		t.Fatal(err)
	}
	one, _ := set.Z(0)
	other, std := set.Z(1)
	if set.Latent != 2 || one[0] == other[0] || !(std[0] > 0) {
		t.Errorf("latents %v and %v ± %v", one, other, std)
	}
	for name, test := range map[string]struct {
		args string
		code int
		want string
	}{
		"neither":         {"-data data -o x", exitUsage, "-encoder or -expert"},
		"both":            {"-data data -encoder encoder -expert data -o x", exitUsage, "-encoder or -expert"},
		"exists":          {"-data data -encoder encoder -o pairs.1", exitError, "exists"},
		"no encoder":      {"-data data -encoder absent -o x", exitError, "absent"},
		"no expert file":  {"-data data -encoder " + filepath.Join("data", "emoji.json") + " -o x", exitError, "emoji.json"},
		"no latents":      {"-data data -expert data -o x", exitError, "latents.npz"},
		"many goroutines": {"-data data -encoder encoder -workers 9999 -o x", exitUsage, "-workers"},
	} {
		code, _, stderr := commandLine(t, append([]string{"pairs"}, strings.Fields(test.args)...)...)
		if code != test.code || !strings.Contains(stderr, test.want) || taken("x") {
			t.Errorf("%s: exit %d, %q, want %d and %q", name, code, stderr, test.code, test.want)
		}
	}
}
