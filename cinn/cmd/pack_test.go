package main

import (
	"path/filepath"
	"strings"
	"testing"

	"netfusion/bench/tiny"
	"netfusion/cinn"
)

func TestPackTakesExpertsOutOfAPack(t *testing.T) {
	pack, checkpoint := tinyPack(t), tiny.ImageEncoder(t)
	t.Chdir(filepath.Dir(pack))
	command := func(args ...string) {
		t.Helper()
		if code, _, stderr := commandLine(t, args...); code != exitOK {
			t.Fatalf("%q: exit %d, %s", args, code, stderr)
		}
	}
	command("convert", checkpoint, "-arch", "vae-encoder", "-dtype", "f16", "-licence", "also free", "-o", "encoder")
	command("pack", "-source", pack, "-flow", "flow", "-target", pack, "-name", "tiny", "-o", "same.pack")
	if content(t, "same.pack") != content(t, pack) {
		t.Error("the parts of a pack make another pack")
	}
	command("pack", "-source", "source", "-flow", "flow", "-target", "target", "-encoder", "encoder", "-compress", "-o", "full.small")
	command("pack", "-source", "full.small", "-flow", "flow", "-target", "full.small", "-encoder", "full.small", "-o", "full.pack")
	m, err := cinn.Open("full.pack", cinn.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if info := m.Info(); !info.Encoder || info.Licences["encoder"] != "also free" || info.Licences["source"] != "free" {
		t.Errorf("%+v", info)
	}
	for name, encoder := range map[string]string{"a pack without encoder": pack, "another expert": "target", "no file": "absent"} {
		code, _, stderr := commandLine(t, "pack", "-source", pack, "-flow", "flow", "-target", pack, "-encoder", encoder, "-o", "wrong.pack")
		if code != exitError || taken("wrong.pack") || !strings.Contains(stderr, "encoder") && !strings.Contains(stderr, "absent") {
			t.Errorf("%s: exit %d, %q", name, code, stderr)
		}
	}
}
