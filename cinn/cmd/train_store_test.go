package main

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"netfusion/cinn/flow"
	"netfusion/cinn/pairs"
	"netfusion/cinn/train"
)

// tinyStore writes pairs for the generator of tinyPack, of no other use: z of 2 and a class of three, of 2 dimensions.
func tinyStore(t testing.TB, path string, classes int) {
	t.Helper()
	h := pairs.Header{Source: "chance", Cond: 6, Latent: 2, Type: "f32"}
	if classes > 0 {
		h.Classes, h.ClassDim = classes, 2
		h.SetTable([]float32{1, 0, 0, 1, -1, -1}[:2*classes])
	} else {
		h.Latent = 4
	}
	a, err := pairs.Append(path, h)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	r := rand.New(rand.NewPCG(1, 1))
	p := h.NewPair()
	for i := range 200 {
		for j := range p.Condition {
			p.Condition[j] = float32(r.NormFloat64())
		}
		for j := range p.Latent {
			p.Latent[j] = p.Condition[j] + float32(r.NormFloat64())
		}
		p.Class, p.Group, p.Split = i%max(1, classes), i, pairs.Split(i%10/8)
		if err := a.Append(&p); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTrainOnAStore(t *testing.T) {
	pack := tinyPack(t)
	t.Chdir(filepath.Dir(pack))
	tinyStore(t, "with.store", 3)
	tinyStore(t, "without.store", 0)
	small := []string{"train", "-steps", "6", "-validate", "3", "-batch", "24", "-blocks", "2", "-hidden", "8", "-embed", "4", "-embed-width", "8", "-head", "0"}
	learn := func(args ...string) (int, string, string) { return commandLine(t, append(small, args...)...) }

	code, stdout, stderr := learn("-pairs", "with.store", "-o", "one", "-report", "one.html", "-target", "target")
	if code != exitOK || !strings.HasPrefix(stdout, "one: validation NLL ") || !strings.Contains(stderr, "memory for ") {
		t.Fatalf("exit %d, %q, %q", code, stdout, stderr)
	}
	page := content(t, "one.html")
	if strings.Count(page, "data:image/png") != 3 || !strings.Contains(page, "Step 6 of 6") || !strings.Contains(page, "160 pairs to train and 40 to validate") {
		t.Errorf("the report is %.3000s", page)
	}
	if h, err := train.OpenHistory("one.history"); err != nil || len(h.Records) != 6+3 {
		t.Errorf("%d records, %v", len(h.Records), err)
	}
	if code, _, stderr := learn("-pairs", "with.store", "-o", "two", "-workers", "2", "-last=false", "-judge", "10"); code != exitOK || !taken("two.checkpoint.best") {
		t.Errorf("exit %d, %q, or no best weights", code, stderr)
	}
	if code, _, stderr := learn("-pairs", "with.store", "-o", "one", "-f", "-resume"); code != exitOK {
		t.Errorf("resuming: exit %d, %q", code, stderr)
	}
	tinyStore(t, "longer.store", 3)
	tinyStore(t, "longer.store", 3)
	if code, _, stderr := learn("-pairs", "longer.store", "-o", "one", "-f", "-resume"); code != exitError || !strings.Contains(stderr, "other training data") {
		t.Errorf("resuming on more pairs: exit %d, %q", code, stderr)
	}

	// A preset's settings are changed by other flags, wherever they stand.
	code, _, stderr = commandLine(t, "train", "-hidden", "16", "-pairs", "without.store", "-preset", "sbert-to-biggan256", "-o", "net", "-steps", "2")
	f, err := flow.Open("net")
	if code != exitOK || err != nil {
		t.Fatalf("exit %d, %q, %v", code, stderr, err)
	}
	if c := f.Config; c.Dialect != flow.Net2Net || c.Blocks != 24 || c.Hidden != 16 || c.Depth != 2 || c.Latent != 4 || c.Cond != 6 {
		t.Errorf("the flow is %+v", c)
	}
	if _, o, err := train.ReadCheckpoint("net.checkpoint"); err != nil || o.Steps != 2 || o.Batch != 16 || o.Optimizer != "amsgrad" || o.Draws != 1 {
		t.Errorf("the options are %+v, %v", o, err)
	}

	for name, test := range map[string]struct {
		args string
		code int
		want string
	}{
		"no such preset":    {"-pairs with.store -preset paper -o x", exitUsage, "no preset"},
		"a class head":      {"-pairs with.store -preset iin-celeba -o x", exitError, "-class join"},
		"little memory":     {"-pairs with.store -memory 50M -o x", exitError, "more than the 50 MiB that -memory allows"},
		"no memory":         {"-pairs with.store -memory 0 -o x", exitUsage, "-memory"},
		"energy":            {"-pairs with.store -watts -3 -o x", exitUsage, "-watts"},
		"another generator": {"-pairs without.store -dialect netfusion -target source -o x", exitError, "source"},
		"nobody to judge":   {"-pairs with.store -judge -1 -o x", exitUsage, "-judge"},
		"a report nowhere":  {"-pairs with.store -report absent/r.html -o x", exitError, "absent"},
	} {
		code, _, stderr := learn(strings.Fields(test.args)...)
		if code != test.code || !strings.Contains(stderr, test.want) || taken("x") {
			t.Errorf("%s: exit %d, %q, want %d and %q", name, code, stderr, test.code, test.want)
		}
	}
	if err := os.WriteFile("with.store", bytes.Replace([]byte(content(t, "with.store")), []byte("chance"), []byte("chosen"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := learn("-pairs", "with.store", "-o", "y"); code != exitError || !strings.Contains(stderr, "with.store: the header is damaged") {
		t.Errorf("a damaged store: exit %d, %q", code, stderr)
	}
}

// A run that wants what no machine has is refused before it takes any of it.
func TestWhatNoMachineHasIsRefused(t *testing.T) {
	t.Chdir(t.TempDir())
	tinyStore(t, "store", 0)
	code, _, stderr := commandLine(t, "train", "-pairs", "store", "-preset", "sbert-to-biggan256", "-hidden", "16000", "-o", "x", "-memory", "100GiB")
	if code != exitError || !strings.Contains(stderr, "training takes") || !strings.Contains(stderr, "100 GiB that -memory allows") {
		t.Errorf("exit %d, %q", code, stderr)
	}
	if free := freeMemory(); free < 0 || free > 0 && free < 1<<20 {
		t.Errorf("this machine has %d bytes left", free)
	}
}

func TestMemoryFlag(t *testing.T) {
	for text, want := range map[string]float64{"1000": 1000, "800M": 800 << 20, "3.5GiB": 3.5 * (1 << 30), "2 kib": 2048, "1t": 1 << 40, "7B": 7} {
		var m memory
		if err := m.Set(text); err != nil || math.Abs(float64(m)-want) > 0.5 {
			t.Errorf("%s: %d, %v", text, m, err)
		}
	}
	for _, bad := range []string{"", "M", "-1G", "0", "1e30", "nan", "3 apples"} {
		var m memory
		if err := m.Set(bad); err == nil {
			t.Errorf("%q: %s", bad, fmt.Sprint(&m))
		}
	}
}
