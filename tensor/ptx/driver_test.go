package ptx

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"netfusion/tensor"
	"netfusion/tensor/drivertest"
)

func TestWorkIsDoneAtSynchronize(t *testing.T) {
	r := newRig(t, Options{})
	p := r.alloc(8)
	src, dst := []byte("12345678"), make([]byte, 8)
	if err := r.dev.Upload(r.s, p, src); err != nil {
		t.Fatal(err)
	}
	if err := r.dev.Download(r.s, dst, p); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(dst, make([]byte, 8)) {
		t.Fatal("copied before Synchronize")
	}
	if err := r.dev.Synchronize(r.s); err != nil || !bytes.Equal(dst, src) {
		t.Fatalf("%v: %q", err, dst)
	}
	if err := r.dev.Upload(r.s, p+4, src); err != nil {
		t.Fatal(err)
	}
	if err := r.dev.Synchronize(r.s); err == nil || !strings.Contains(err.Error(), "Upload: 8 bytes at") {
		t.Errorf("an upload past the end: %v", err)
	}
	if err := r.dev.Synchronize(r.s); err != nil {
		t.Errorf("an error is reported once: %v", err)
	}
}

func TestContract(t *testing.T) {
	drivertest.Run(t, func() tensor.Driver { return Open(Options{}) })
}

func TestNothingRunsWhileCapturing(t *testing.T) {
	r := newRig(t, Options{})
	if _, err := r.dev.Capture(r.s, func() error { return r.dev.Synchronize(r.s) }); err == nil {
		t.Error("Synchronize while capturing")
	}
	if _, err := r.dev.Capture(r.s, func() error { _, err := r.dev.Elapsed(r.s, 0, 0); return err }); err == nil {
		t.Error("Elapsed while capturing")
	}
	if _, err := r.dev.Capture(r.s, func() error { _, err := r.dev.Capture(r.s, nil); return err }); err == nil {
		t.Error("Capture while capturing")
	}
	if err := r.dev.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.dev.Alloc(4); err == nil {
		t.Error("Alloc after Close")
	}
}

func TestLimitsOfTheDevice(t *testing.T) {
	r := newRig(t, Options{Memory: 1000, SharedPerBlock: 64 << 10, Multiprocessors: 2})
	p := r.alloc(600)
	if _, err := r.dev.Alloc(600); !errors.Is(err, tensor.ErrOutOfMemory) {
		t.Errorf("600 of 400 bytes: %v", err)
	}
	if err := r.dev.Free(p + 4); err == nil {
		t.Error("a pointer that Alloc did not return")
	}
	if err := r.dev.Free(p); err != nil {
		t.Error(err)
	}
	p = r.alloc(600)
	src := header + shell("")
	if _, err := r.dev.Load("test.ptx", src, []tensor.Entry{{Name: "k", DynamicShared: 64 << 10}}); err == nil || !strings.Contains(err.Error(), "bytes of shared memory") {
		t.Errorf("too much shared memory: %v", err)
	}
	f := r.load(strings.Replace(shell(""), "{", ".maxntid 128, 2, 1 .minnctapersm 2 {", 1), 50<<10)
	for _, x := range []struct {
		l    tensor.Launch
		want string
	}{
		{tensor.Launch{Block: [3]int{1025}}, "block [1025 1 1]"},
		{tensor.Launch{Block: [3]int{64, 5}}, "block [64 5 1] of at most 256 threads"},
		{tensor.Launch{Grid: [3]int{1, 70000}}, "grid [1 70000 1]"},
		{tensor.Launch{DynamicShared: 60 << 10}, "loaded with 51200"},
		{tensor.Launch{Grid: [3]int{3}, DynamicShared: 50 << 10, Cooperative: true}, "3 blocks cannot run at once, 2 can"},
	} {
		x.l.Args = pack(p)
		if err := r.dev.Launch(r.s, f, x.l); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%+v: %v, want %q", x.l, err, x.want)
		}
	}
}

func TestTargets(t *testing.T) {
	text := func(target string) string { return ".version 8.0\n.target " + target + "\n.entry k() { ret; }" }
	for _, x := range []struct {
		capability int
		target     string
		runs       bool
	}{{80, "sm_80", true}, {86, "sm_80", true}, {75, "sm_80", false}, {90, "sm_90a", true}, {100, "sm_90a", false}, {80, "sm_90", false}} {
		_, err := Open(Options{Capability: x.capability}).Load("t", text(x.target), []tensor.Entry{{Name: "k"}})
		if x.runs != (err == nil) || err != nil && !errors.Is(err, tensor.ErrRefused) {
			t.Errorf("%s on %d: %v", x.target, x.capability, err)
		}
	}
}

// TestEveryCallCanFail injects a failure into each call in turn, once of the call alone and once of the device.
func TestEveryCallCanFail(t *testing.T) {
	use := func(fail func(string) error) (err error) {
		dev := Open(Options{Fail: fail})
		s, _, err := dev.OpenStream(0)
		if err != nil {
			return err
		}
		fs, err := dev.Load("test.ptx", header+shell(""), []tensor.Entry{{Name: "k"}})
		if err != nil {
			return err
		}
		p, err := dev.Alloc(8)
		if err != nil {
			return err
		}
		g, err := dev.Capture(s, func() error {
			return errors.Join(dev.Upload(s, p, make([]byte, 8)), dev.Launch(s, fs[0], tensor.Launch{Args: pack(p)}), dev.Mark(s, 0), dev.Download(s, make([]byte, 8), p))
		})
		if err != nil {
			return err
		}
		if err := dev.Replay(s, g); err != nil {
			return err
		}
		if err := dev.Synchronize(s); err != nil {
			return err
		}
		if _, err := dev.Elapsed(s, 0, 0); err != nil {
			return err
		}
		return errors.Join(dev.Free(p), dev.CloseStream(s))
	}
	var calls []string
	if err := use(func(call string) error { calls = append(calls, call); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(slices.Compact(slices.Sorted(slices.Values(calls)))) != 14 {
		t.Errorf("%d kinds of calls: %v", len(calls), calls)
	}
	for i, name := range calls {
		for _, injected := range []error{fmt.Errorf("injected"), tensor.ErrLost, tensor.ErrOutOfMemory} {
			n := 0
			err := use(func(string) error {
				if n++; n == i+1 {
					return injected
				}
				return nil
			})
			if !errors.Is(err, injected) || !strings.Contains(err.Error(), name) && name != "Kernel" {
				t.Errorf("call %d, %s: %v", i, name, err)
			}
		}
	}
}

// TestASeedFixesTheSchedule: the order in which blocks and warps come is another for other seeds, the same for the same.
func TestASeedFixesTheSchedule(t *testing.T) {
	tickets := func(seed uint64) string {
		r := newRig(t, Options{Seed: seed})
		f := r.load(shell(`
	and.b32 %r6, %r1, 31;
	setp.ne.u32 %p3, %r6, 0;
	@%p3 ret;
	atom.global.add.u32 %r7, [%rd1], 1;
	shr.u32 %r8, %r1, 5;
	mad.lo.u32 %r8, %r5, 4, %r8;
	mul.wide.u32 %rd4, %r8, 4;
	add.s64 %rd4, %rd1, %rd4;
	st.global.u32 [%rd4+4], %r7;`), 0)
		p := r.words(make([]uint32, 100)...)
		if err := r.run(f, tensor.Launch{Grid: [3]int{20}, Block: [3]int{128}}, p); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(r.download(p+4, 80))
	}
	seen := map[string]bool{}
	for seed := range uint64(5) {
		first := tickets(seed)
		if tickets(seed) != first {
			t.Errorf("seed %d: two schedules", seed)
		}
		seen[first] = true
	}
	if len(seen) != 5 {
		t.Errorf("%d schedules of 5 seeds", len(seen))
	}
}

// TestFaultsNameTheSource: where the text says which line of which file an instruction is of, so does the fault.
func TestFaultsNameTheSource(t *testing.T) {
	r := newRig(t, Options{})
	f := r.load(".file 1 \"src/kernel.cu\"\n"+shell("\t.loc 1 42 7\n\tst.global.u32 [%rd3+8], %r1;"), 0)
	err := r.run(f, tensor.Launch{Block: [3]int{4}}, r.alloc(16))
	fault, ok := faultOf(err)
	if !ok || fault.Source != "kernel.cu:42" || fault.Thread != [3]int{2, 0, 0} {
		t.Fatal(err)
	}
	if !strings.Contains(err.Error(), "k: test.ptx:") || !strings.Contains(err.Error(), "(kernel.cu:42): st.global.u32 in block [0 0 0], thread [2 0 0]") {
		t.Error(err)
	}
}
