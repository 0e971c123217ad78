package pairs

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"netfusion/nn/disk"
)

// kinds are headers of every form.
func kinds() map[string]Header {
	plain := Header{Source: "a test", Cond: 3, Latent: 5, Type: "f32"}
	all := Header{Source: "a test", Cond: 3, Latent: 4, Type: "f16", Std: true, Classes: 2, ClassDim: 2, Names: []string{"a", "b"}, Recipe: map[string]string{"seed": "1"}}
	all.SetTable([]float32{1, 0, 0.5, -1})
	bf := Header{Source: "a test", Cond: 1, Latent: 2, Type: "bf16", Std: true}
	return map[string]Header{"f32": plain, "f16 with all": all, "bf16": bf}
}

// fillPair makes pair i; all types hold its numbers exactly.
func fillPair(p *Pair, h *Header, i int) {
	for k, v := range [][]float32{p.Condition, p.Latent, p.Std} {
		for j := range v {
			v[j] = float32((i*7+j*3+k)%64) / 4
		}
	}
	if h.Classes > 0 {
		p.Class = i % h.Classes
	}
	p.Group, p.Split = i/2, Split(i%3)
}

func write(t testing.TB, path string, h Header, n int) {
	t.Helper()
	a, err := Append(path, h)
	if err != nil {
		t.Fatal(err)
	}
	p := h.NewPair()
	for a.Len() < n {
		fillPair(&p, &h, a.Len())
		if err := a.Append(&p); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAStoreGivesBackWhatWasAppended(t *testing.T) {
	const n = 20
	for name, h := range kinds() {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store")
			write(t, path, h, n/2)
			write(t, path, h, n)
			if is, err := IsStore(path); !is || err != nil {
				t.Errorf("it does not say what it is: %v", err)
			}
			s, err := OpenStore(path)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if s.Len() != n || !reflect.DeepEqual(s.Header, h) {
				t.Fatalf("%d pairs of %+v", s.Len(), s.Header)
			}
			fingerprint, err := s.Verify(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			got, want := h.NewPair(), h.NewPair()
			for _, i := range []int{7, 0, 19, 3} {
				s.Read(i, &got)
				if fillPair(&want, &h, i); !reflect.DeepEqual(got, want) {
					t.Errorf("pair %d is %+v, want %+v", i, got, want)
				}
			}
			if n := testing.AllocsPerRun(10, func() { s.Read(7, &got) }); n != 0 {
				t.Errorf("reading allocates %v times", n)
			}
			if rows := s.Select(Test); !slices.Equal(rows, []uint32{2, 5, 8, 11, 14, 17}) {
				t.Errorf("test pairs: %v", rows)
			}
			write(t, path, h, n+1)
			again, err := OpenStore(path)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if other, err := again.Verify(t.Context(), nil); err != nil || other == fingerprint {
				t.Errorf("more pairs have the same fingerprint: %v", err)
			}
		})
	}
}

// A writer may be killed at any byte of a record: the next one goes on where the last whole pair ends, and the file is the one that
// an uninterrupted writer makes.
func TestATornTailIsCutAndTheCountFoundAgain(t *testing.T) {
	const n = 6
	h := kinds()["f16 with all"]
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	write(t, whole, h, n)
	want, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	size := h.record()
	for lost := range 2*size + 1 {
		path := filepath.Join(dir, "torn")
		if err := os.WriteFile(path, want[:len(want)-lost], 0o600); err != nil {
			t.Fatal(err)
		}
		left := n - (lost+size-1)/size
		s, err := OpenStore(path)
		if err != nil || s.Len() != left {
			t.Fatalf("%d bytes lost: a reader finds %d pairs, want %d: %v", lost, s.Len(), left, err)
		}
		s.Close()
		a, err := Append(path, h)
		if err != nil || a.Len() != left {
			t.Fatalf("%d bytes lost: a writer finds %d pairs, want %d: %v", lost, a.Len(), left, err)
		}
		a.Close()
		write(t, path, h, n)
		if got, _ := os.ReadFile(path); !bytes.Equal(got, want) {
			t.Fatalf("%d bytes lost: the file is another in the end", lost)
		}
		os.Remove(path)
	}
	// After a crash of the machine, whole records may hold anything.
	spoilt := slices.Clone(want)
	for i := len(spoilt) - size - size/2; i < len(spoilt); i++ {
		spoilt[i] = 0
	}
	if s, err := ParseStore("spoilt", spoilt); err != nil || s.Len() != n-2 {
		t.Errorf("two records spoilt: %d pairs, %v", s.Len(), err)
	}
}

func TestMoreDamageThanACrashCanLeaveIsAnError(t *testing.T) {
	h := Header{Cond: maxDimension, Latent: maxDimension, Type: "f32"}
	start, err := h.encode()
	if err != nil {
		t.Fatal(err)
	}
	data := append(start, make([]byte, syncEvery+2*h.record())...)
	if _, err := ParseStore("zeros", data); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("got %v", err)
	}
	if s, err := ParseStore("zeros", data[:len(start)+3*h.record()]); err != nil || s.Len() != 0 {
		t.Errorf("a few: %v", err)
	}
}

func TestVerifyNamesTheDamagedPair(t *testing.T) {
	h := kinds()["f16 with all"]
	path := filepath.Join(t.TempDir(), "store")
	write(t, path, h, 6)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	size := h.record()
	begin := len(good) - 6*size
	resum := func(b []byte, i int) { // as a writer would that is not this one
		record := b[begin+i*size:][:size]
		binary.LittleEndian.PutUint32(record[size-4:], h.sum(record, i))
	}
	for name, c := range map[string]struct {
		spoil func(b []byte)
		want  string
	}{
		"a bit":          {func(b []byte) { b[begin+2*size+3] ^= 4 }, "pair 2: is damaged"},
		"order":          {func(b []byte) { copy(b[begin+size:], good[begin+3*size:][:size]) }, "pair 1: is damaged"},
		"NaN":            {func(b []byte) { b[begin+4*size+1] = 0x7e; resum(b, 4) }, "pair 4: condition: dimension 0 is NaN"},
		"infinite":       {func(b []byte) { copy(b[begin+2*h.Cond:], "\x00\xfc"); resum(b, 0) }, "pair 0: latent: dimension 0 is -Inf"},
		"negative std":   {func(b []byte) { b[begin+2*(h.Cond+h.Latent)+1] |= 0xb0; resum(b, 0) }, "standard deviation: dimension 0 is -"},
		"no such class":  {func(b []byte) { b[begin+size-12] = 2; resum(b, 0) }, "pair 0: class 2 of 2"},
		"no such split":  {func(b []byte) { b[begin+size-8] |= 3; resum(b, 0) }, "pair 0: split 3"},
		"another header": {func(b []byte) { b[20] ^= 1 }, "header is damaged"},
		"not a store":    {func(b []byte) { b[0] = 'x' }, "not a store"},
		"a long header":  {func(b []byte) { b[11] = 1 }, "header should be"},
	} {
		b := slices.Clone(good)
		c.spoil(b)
		s, err := ParseStore("the file", b)
		if err == nil {
			_, err = s.Verify(t.Context(), nil)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "the file: ") {
			t.Errorf("%s: got %v, want the file's name and %q", name, err, c.want)
		}
	}
}

func TestAppendRefusesWhatCouldNotBeTrainedOn(t *testing.T) {
	h := kinds()["f16 with all"]
	path := filepath.Join(t.TempDir(), "store")
	a, err := Append(path, h)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for want, spoil := range map[string]func(p *Pair){
		"condition has 2":  func(p *Pair) { p.Condition = p.Condition[:2] },
		"latent has 5":     func(p *Pair) { p.Latent = make([]float32, 5) },
		"deviation has 0":  func(p *Pair) { p.Std = nil },
		"is NaN":           func(p *Pair) { p.Latent[3] = float32(math.NaN()) },
		"is +Inf as f16":   func(p *Pair) { p.Condition[2] = 70000 },
		"is -0.5":          func(p *Pair) { p.Std[1] = -0.5 },
		"class 2 of 2":     func(p *Pair) { p.Class = 2 },
		"class -1 of 2":    func(p *Pair) { p.Class = -1 },
		"group -1":         func(p *Pair) { p.Group = -1 },
		"group 1073741824": func(p *Pair) { p.Group = 1 << 30 },
		"in split 3":       func(p *Pair) { p.Split = 3 },
	} {
		p := h.NewPair()
		spoil(&p)
		if err := a.Append(&p); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if info, err := os.Stat(path); a.Len() != 0 || err != nil || info.Size() != storePage {
		t.Errorf("%d pairs, %v", a.Len(), err)
	}
}

func TestAppendRefusesOtherFilesAndWriters(t *testing.T) {
	h := kinds()["f16 with all"]
	dir := t.TempDir()
	path := filepath.Join(dir, "store")
	write(t, path, h, 3)
	before, _ := os.ReadFile(path)
	other := h
	other.Recipe = map[string]string{"seed": "2"}
	if _, err := Append(path, other); err == nil || !strings.Contains(err.Error(), `recipe is {"seed":"1"}, not {"seed":"2"}`) {
		t.Errorf("another recipe: %v", err)
	}
	other = h
	other.SetTable([]float32{1, 0, 0.5, -2})
	if _, err := Append(path, other); err == nil || !strings.Contains(err.Error(), "other classes") {
		t.Errorf("other classes: %v", err)
	}
	if runtime.GOOS == "linux" || runtime.GOOS == "darwin" {
		a, err := Append(path, h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Append(path, h); !errors.Is(err, disk.ErrLocked) {
			t.Errorf("a second writer: %v", err)
		}
		a.Close()
	}
	foreign := filepath.Join(dir, "foreign")
	if err := os.WriteFile(foreign, []byte("a text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if is, err := IsStore(foreign); is || err != nil {
		t.Errorf("a text is a store: %v", err)
	}
	if _, err := Append(foreign, h); !errors.Is(err, errNoStore) {
		t.Errorf("a foreign file: %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(after, before) {
		t.Error("what was refused has changed the file")
	}
	left := filepath.Join(dir, ".store.99.tmp")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, path, h, 4)
	if _, err := os.Stat(left); err == nil {
		t.Error("a temporary file stays")
	}
}

func FuzzParseStore(f *testing.F) {
	for _, h := range kinds() {
		about, err := json.Marshal(h)
		if err != nil {
			f.Fatal(err)
		}
		record := make([]byte, h.record())
		p := h.NewPair()
		fillPair(&p, &h, 0)
		if err := h.encodeRecord(record, 0, &p); err != nil {
			f.Fatal(err)
		}
		f.Add(about, record, true)
	}
	f.Add([]byte(`{"cond": 65536, "latent": 65536, "type": "f32", "classes": 65536, "class_dim": 65536}`), []byte("x"), true)
	f.Fuzz(func(t *testing.T, about, records []byte, sum bool) {
		data := append([]byte(storeMagic), 0, 0, 0, 0, 0, 0, 0, 0)
		binary.LittleEndian.PutUint32(data[8:], uint32(len(about)))
		if sum { // by chance it is never right
			binary.LittleEndian.PutUint32(data[12:], crc32.Checksum(about, castagnoli))
		}
		data = append(data, about...)
		data = append(data, make([]byte, -len(data)&(storePage-1))...)
		s, err := ParseStore("fuzz", append(data, records...))
		if err != nil {
			return
		}
		if _, err := s.Verify(t.Context(), nil); err != nil {
			return
		}
		p := s.NewPair()
		for i := range s.Len() {
			s.Read(i, &p)
			for _, v := range [][]float32{p.Condition, p.Latent, p.Std} {
				for _, x := range v {
					if x-x != 0 {
						t.Fatalf("pair %d holds %v", i, x)
					}
				}
			}
		}
	})
}

func BenchmarkStoreRead(b *testing.B) {
	for _, kind := range []string{"f32", "f16"} {
		h := Header{Cond: 768, Latent: 268, Type: kind}
		path := filepath.Join(b.TempDir(), "store")
		write(b, path, h, 4096)
		s, err := OpenStore(path)
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		p := h.NewPair()
		b.Run(fmt.Sprintf("type=%s", kind), func(b *testing.B) {
			b.SetBytes(int64(h.record()))
			b.ReportAllocs()
			for i := range b.N {
				s.Read(i*1021%4096, &p)
			}
		})
	}
}
