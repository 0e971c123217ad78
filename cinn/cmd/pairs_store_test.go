package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"image"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"netfusion/cinn/pairs"
	"netfusion/experts/biggan"
	"netfusion/experts/program"
	"netfusion/tensor"
)

func openStore(t *testing.T, path string) *pairs.Store {
	t.Helper()
	s, err := pairs.OpenStore(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if _, err := s.Verify(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPairsBackwardsFromATable(t *testing.T) {
	pack := tinyPack(t)
	t.Chdir(filepath.Dir(pack))
	if err := os.WriteFile("captions.json", []byte(`{"0": ["red heart"], "2": ["w1 w2", "w3"]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	from := func(args ...string) (int, string, string) {
		return commandLine(t, append([]string{"pairs", "-backwards", "-model", pack, "-captions", "captions.json"}, args...)...)
	}
	if code, stdout, stderr := from("-n", "12", "-o", "one"); code != exitOK || stdout != "one: 12 pairs, 12 of them new; conditions of 32 dimensions, latents of 2, 3 classes\n" {
		t.Fatalf("exit %d, %q, %q", code, stdout, stderr)
	}
	if code, _, stderr := from("-n", "20", "-o", "two", "-workers", "2"); code != exitOK {
		t.Fatalf("exit %d, %q", code, stderr)
	}
	if code, stdout, stderr := from("-n", "20", "-o", "one"); code != exitOK || !strings.Contains(stdout, "20 pairs, 8 of them new") || content(t, "one") != content(t, "two") {
		t.Errorf("more pairs: exit %d, %q, %q, or others than at once", code, stdout, stderr)
	}
	s := openStore(t, "one")
	target, err := biggan.Open("target", tensor.F32)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]int{}
	p := s.NewPair()
	for i := range s.Len() {
		s.Read(i, &p)
		seen[p.Class]++
	}
	if seen[0] == 0 || seen[1] != 0 || seen[2] == 0 || s.Fingerprints["source"] == "" || s.Licences["source"] != "free" || s.Recipe["truncation"] != "2.5" {
		t.Errorf("classes %v, header %+v", seen, s.Header)
	}
	// The class behind the latent, for flows without a class head: the same draws.
	if code, _, stderr := from("-n", "20", "-o", "joined", "-class", "join", "-class-noise", "0.5", "-type", "f16"); code != exitOK {
		t.Fatalf("exit %d, %q", code, stderr)
	}
	j := openStore(t, "joined")
	q := j.NewPair()
	for i := range s.Len() {
		s.Read(i, &p)
		j.Read(i, &q)
		for k, v := range append(append([]float32(nil), p.Latent...), target.Class(p.Class)...) {
			std := float32(0)
			if k >= len(p.Latent) {
				std = 0.5
			}
			if math.Abs(float64(q.Latent[k]-v)) > 1e-3*(1+math.Abs(float64(v))) || q.Std[k] != std {
				t.Errorf("pair %d is %v ± %v, not %v", i, q.Latent, q.Std, p.Latent)
			}
		}
	}
	if code, stdout, stderr := commandLine(t, "inspect", "joined"); code != exitOK || !strings.Contains(stdout, "a store of 20 pairs") || !strings.Contains(stdout, "latent              4 × f16") || !strings.Contains(stdout, "checksums: all right") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	var in storeInspection
	if code, stdout, _ := commandLine(t, "inspect", "-json", "one"); code != exitOK || json.Unmarshal([]byte(stdout), &in) != nil || in.Pairs != 20 || in.Splits["train"] < 10 || in.Header.Classes != 3 || !in.Verified {
		t.Errorf("exit %d, %q", code, stdout)
	}
	spoilt := []byte(content(t, "joined"))
	spoilt[len(spoilt)-5*j.Bytes()/j.Len()] ^= 1
	if err := os.WriteFile("spoilt", spoilt, 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := commandLine(t, "inspect", "spoilt"); code != exitError || !strings.Contains(stderr, "spoilt: pair 15: is damaged") {
		t.Errorf("a damaged store: exit %d, %q", code, stderr)
	}
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"another seed":   {[]string{"-o", "one", "-seed", "2"}, exitError, "its recipe is"},
		"another type":   {[]string{"-o", "one", "-type", "bf16"}, exitError, "its type is"},
		"no such type":   {[]string{"-o", "x", "-type", "f8"}, exitError, `"f8"`},
		"-class":         {[]string{"-o", "x", "-class", "both"}, exitUsage, "-class both"},
		"-truncation":    {[]string{"-o", "x", "-truncation", "0.01"}, exitUsage, "-truncation"},
		"-n":             {[]string{"-o", "x", "-n", "-1"}, exitUsage, "-n -1"},
		"two describers": {[]string{"-o", "x", "-captioner", "y"}, exitUsage, "-captions or -captioner"},
		"two sources":    {[]string{"-o", "x", "-lines", "y"}, exitUsage, "one of"},
	} {
		if code, _, stderr := from(test.args...); code != test.code || !strings.Contains(stderr, test.want) || taken("x") {
			t.Errorf("%s: exit %d, %q, want %d and %q", name, code, stderr, test.code, test.want)
		}
	}
	if code, stdout, _ := from("-o", "one", "-seed", "2", "-f", "-n", "3"); code != exitOK || !strings.Contains(stdout, "3 pairs, 3 of them new") {
		t.Errorf("-f: exit %d, %q", code, stdout)
	}
}

// A captioner sees what the generator draws: 8-bit pictures, not what lies between -1 and 1 (the second of the paper's traps).
func TestPairsBackwardsWithACaptioner(t *testing.T) {
	pack := tinyPack(t)
	t.Chdir(filepath.Dir(pack))
	captioner := play(t, "captioner")
	code, stdout, stderr := commandLine(t, "pairs", "-backwards", "-model", pack, "-captioner", captioner, "-n", "12", "-split", "caption", "-o", "store")
	if code != exitOK {
		t.Fatalf("exit %d, %q, %q", code, stdout, stderr)
	}
	s := openStore(t, "store")
	target, err := biggan.Open("target", tensor.F32)
	if err != nil {
		t.Fatal(err)
	}
	dev := tensor.CPU(1)
	defer dev.Close()
	session := target.NewSession(dev, 1)
	p, class := s.NewPair(), tensor.New(1, target.ClassDim)
	picture := image.NewNRGBA(image.Rect(0, 0, 16, 16))
	for i := range s.Len() {
		s.Read(i, &p)
		copy(class.Data, target.Class(p.Class))
		pixels, err := session.Generate(tensor.Of(1, s.Latent, p.Latent), class, biggan.Truncation{})
		if err != nil {
			t.Fatal(err)
		}
		biggan.Draw(picture, pixels.Data)
		sum := fnv.New32a()
		for k := range 256 {
			sum.Write(picture.Pix[4*k : 4*k+3])
		}
		text := fnv.New32a()
		text.Write([]byte(pictureText(sum.Sum32(), picture.Rect)))
		if p.Group != int(text.Sum32()>>2) {
			t.Errorf("pair %d was described from another picture", i)
		}
	}
	code, _, stderr = commandLine(t, "pairs", "-backwards", "-model", pack, "-captioner", "no-such-program", "-o", "x")
	if code != exitError || !strings.Contains(stderr, "no-such-program") || taken("x") {
		t.Errorf("no captioner: exit %d, %q", code, stderr)
	}
}

func TestPairsOfAProgramAndOfLines(t *testing.T) {
	t.Chdir(t.TempDir())
	source := play(t, "pairs")
	if code, stdout, stderr := commandLine(t, "pairs", "-program", source, "-n", "11", "-o", "asked"); code != exitOK || !strings.HasPrefix(stdout, "asked: 11 pairs, 11 of them new; conditions of 3 dimensions, latents of 2, 0 classes") {
		t.Fatalf("exit %d, %q, %q", code, stdout, stderr)
	}
	if code, stdout, stderr := commandLine(t, "pairs", "-program", source, "-o", "asked"); code != exitOK || !strings.Contains(stdout, "30 pairs, 19 of them new") {
		t.Fatalf("exit %d, %q, %q", code, stdout, stderr)
	}
	s := openStore(t, "asked")
	a, b := s.NewPair(), s.NewPair()
	for i := range s.Len() {
		s.Read(i, &a)
		want := numbered(program.Message{Pair: number64(i)})
		if a.Condition[1] != want.Condition[1] || a.Latent[0] != want.Latent[0] || a.Std[1] != want.Std[1] {
			t.Errorf("pair %d is %+v", i, a)
		}
		if s.Read(i&^1, &b); a.Group != b.Group || a.Split != b.Split {
			t.Errorf("pair %d is in another group than that of the same text", i)
		}
	}

	var lines strings.Builder
	encoder := json.NewEncoder(&lines)
	for i := range 30 {
		if i == 7 {
			lines.WriteString("\n")
		}
		encoder.Encode(numbered(program.Message{Pair: number64(i)}))
	}
	if err := os.WriteFile("lines", []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"4", "12", "0"} {
		if code, _, stderr := commandLine(t, "pairs", "-lines", "lines", "-n", n, "-o", "read"); code != exitOK {
			t.Fatalf("exit %d, %q", code, stderr)
		}
	}
	r := openStore(t, "read")
	for i := range 30 {
		s.Read(i, &a)
		if r.Read(i, &b); a.Latent[0] != b.Latent[0] || a.Group != b.Group || r.Len() != 30 {
			t.Errorf("line %d is %+v of %d", i, b, r.Len())
		}
	}
	for name, test := range map[string]struct{ text, want string }{
		"empty":        {"", "no pairs"},
		"no JSON":      {"hello\n", "not JSON"},
		"no latent":    {`{"condition": [1]}`, "condition"},
		"a class":      {`{"condition": [1], "latent": [2], "class": 1}`, "-target"},
		"other sizes":  {"{\"condition\": [1], \"latent\": [2]}\n{\"condition\": [1, 2], \"latent\": [2]}\n", "pair 1: the condition has 2 dimensions"},
		"not a number": {"{\"condition\": [1], \"latent\": [1e39]}\n", "1e39"},
	} {
		if err := os.WriteFile("bad", []byte(test.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if code, _, stderr := commandLine(t, "pairs", "-lines", "bad", "-o", name); code == exitOK || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: exit %d, %q, want %q", name, code, stderr, test.want)
		}
	}
	if err := os.WriteFile("lines", []byte(strings.SplitAfter(lines.String(), "\n")[0]), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := commandLine(t, "pairs", "-lines", "lines", "-o", "read"); code != exitError || !strings.Contains(stderr, "ends before the 30 pairs") {
		t.Errorf("a file that became shorter: exit %d, %q", code, stderr)
	}
}

func number64(i int) *int64 {
	n := int64(i)
	return &n
}

func TestPairsOfASet(t *testing.T) {
	pack := tinyPack(t)
	t.Chdir(filepath.Dir(pack))
	tinyPairs(t, "tiny.pairs")
	code, stdout, stderr := commandLine(t, "pairs", "-set", "tiny.pairs", "-model", pack, "-n", "150", "-o", "store")
	if code != exitOK || !strings.Contains(stdout, "150 pairs") {
		t.Fatalf("exit %d, %q, %q", code, stdout, stderr)
	}
	set, err := pairs.Open("tiny.pairs")
	if err != nil {
		t.Fatal(err)
	}
	s := openStore(t, "store")
	p := s.NewPair()
	counts := [3]int{}
	for i := range s.Len() {
		s.Read(i, &p)
		counts[p.Split]++
		mean, std := set.Z(p.Group) // a picture a concept
		if p.Latent[0] != mean[0] || p.Std[1] != std[1] || p.Class != p.Group%3 || p.Split != pairs.SplitOf(set.Concepts[p.Group].Name) {
			t.Errorf("pair %d is %+v", i, p)
		}
	}
	if counts[pairs.Train] < 90 || counts[pairs.Validation] == 0 || s.Names[2] != "c" {
		t.Errorf("%v, %v", counts, s.Names)
	}
}

// A maker of pairs that is killed again and again ends with the file of one that is not.
func TestPairsSurviveKills(t *testing.T) {
	pack := tinyPack(t)
	t.Chdir(filepath.Dir(pack))
	args := []string{"pairs", "-backwards", "-model", pack, "-n", strconv.Itoa(20000 * (2 + kills())), "-captions", "captions.json", "-workers", "1", "-o"}
	if err := os.WriteFile("captions.json", []byte(`{"0": ["red heart"], "2": ["w1 w2", "w3"]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if code, _, stderr := commandLine(t, append(args, "whole")...); code != exitOK {
		t.Fatalf("exit %d, %q", code, stderr)
	}
	killed(t, rand.New(rand.NewPCG(1, 2)), kills(), time.Since(start), func() []string { return append(args, "torn") })
	if content(t, "torn") != content(t, "whole") {
		t.Error("the file is another")
	}
	if left, _ := filepath.Glob(".*.tmp"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// interrupter calls cancel when it has been read to the end.
type interrupter struct {
	io.Reader
	cancel func()
}

func (i interrupter) Read(b []byte) (int, error) {
	n, err := i.Reader.Read(b)
	if err == io.EOF {
		i.cancel()
		select {} // more may come, for all that anybody knows
	}
	return n, err
}

// Ctrl-C loses no pair: the same command goes on behind the last.
func TestPairsOfAnInterruptedPipe(t *testing.T) {
	t.Chdir(t.TempDir())
	var all []string
	for i := range 20 {
		line, err := json.Marshal(numbered(program.Message{Pair: number64(i)}))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(line)+"\n")
	}
	read := func(ctx context.Context, in io.Reader, out string) (int, string) {
		var stdout, stderr bytes.Buffer
		code := run(ctx, []string{"pairs", "-lines", "-", "-o", out}, in, &stdout, &stderr)
		return code, stdout.String() + stderr.String()
	}
	if code, text := read(t.Context(), strings.NewReader(strings.Join(all, "")), "whole"); code != exitOK {
		t.Fatal(text)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan string)
	go func() {
		code, text := read(ctx, interrupter{strings.NewReader(strings.Join(all[:7], "")), cancel}, "torn")
		ended <- fmt.Sprint(code, text)
	}()
	select {
	case text := <-ended:
		if !strings.HasPrefix(text, fmt.Sprint(exitError)) || !strings.Contains(text, "stopped at 7 pairs in torn") {
			t.Errorf("interrupted: %q", text)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not stop while it waits for a line")
	}
	if code, text := read(t.Context(), strings.NewReader(strings.Join(all, "")), "torn"); code != exitOK || !strings.Contains(text, "20 pairs, 13 of them new") || content(t, "torn") != content(t, "whole") {
		t.Errorf("going on: exit %d, %q", code, text)
	}
}
