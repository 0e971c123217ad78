package main

import (
	"path/filepath"
	"strings"
	"testing"

	"netfusion/cinn/flow"
)

func TestConvertReadsAPublishedFlow(t *testing.T) {
	const checkpoint = "../flow/testdata/net2net.ckpt"
	out := filepath.Join(t.TempDir(), "flow")
	if code, _, stderr := commandLine(t, "convert", "-arch", "net2net", checkpoint, "-o", out); code != exitOK {
		t.Fatal(stderr)
	}
	got, err := flow.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	want, err := flow.Convert(checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	if got.Config != want.Config || got.Values()[100] != want.Values()[100] {
		t.Errorf("stored as %+v, read as %+v", want.Config, got.Config)
	}
	code, _, stderr := commandLine(t, "convert", "-arch", "net2net", "../pack/emoji.pack", "-o", out+"2")
	if code != exitError || taken(out+"2") || !strings.Contains(stderr, "emoji.pack") {
		t.Errorf("a file of another kind: exit %d, %q", code, stderr)
	}
}
