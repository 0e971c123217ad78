package ptx

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"

	"netfusion/tensor"
)

// header begins every text of these tests.
const header = ".version 7.8\n.target sm_80\n.address_size 64\n"

// rig is a device with one stream.
type rig struct {
	t   testing.TB
	dev *Device
	s   tensor.Stream
}

func newRig(t testing.TB, o Options) *rig {
	t.Helper()
	dev := Open(o)
	s, _, err := dev.OpenStream(0)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{t, dev, s}
}

// load compiles a text and returns its entry k.
func (r *rig) load(src string, dynamic int) tensor.Function {
	r.t.Helper()
	fs, err := r.dev.Load("test.ptx", header+src, []tensor.Entry{{Name: "k", DynamicShared: dynamic}})
	if err != nil {
		r.t.Fatal(err)
	}
	return fs[0]
}

// words uploads 32-bit values.
func (r *rig) words(v ...uint32) tensor.DevicePtr {
	r.t.Helper()
	b := make([]byte, 0, 4*len(v))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	p := r.alloc(len(b))
	if err := r.dev.Upload(r.s, p, b); err != nil {
		r.t.Fatal(err)
	}
	return p
}

func (r *rig) alloc(bytes int) tensor.DevicePtr {
	r.t.Helper()
	p, err := r.dev.Alloc(bytes)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// run launches f and waits; args are pointers, uint32, uint64 and float32.
func (r *rig) run(f tensor.Function, l tensor.Launch, args ...any) error {
	r.t.Helper()
	l.Args = pack(args...)
	if err := r.dev.Launch(r.s, f, l); err != nil {
		r.t.Fatal(err)
	}
	return r.dev.Synchronize(r.s)
}

func pack(args ...any) (b []byte) {
	for _, a := range args {
		switch v := a.(type) {
		case uint32:
			b = binary.LittleEndian.AppendUint32(b, v)
		case float32:
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		case tensor.DevicePtr:
			b = binary.LittleEndian.AppendUint64(append(b, make([]byte, -len(b)&7)...), uint64(v))
		}
	}
	return b
}

// download reads n 32-bit values.
func (r *rig) download(p tensor.DevicePtr, n int) []uint32 {
	r.t.Helper()
	b := make([]byte, 4*n)
	if err := r.dev.Download(r.s, b, p); err != nil {
		r.t.Fatal(err)
	}
	if err := r.dev.Synchronize(r.s); err != nil {
		r.t.Fatal(err)
	}
	v := make([]uint32, n)
	for i := range v {
		v[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return v
}

func faultOf(err error) (f *Fault, ok bool) {
	ok = errors.As(err, &f)
	return f, ok
}

// wantFault tells whether err is a fault of a kind at the line of the PTX text that holds the words at.
func wantFault(t *testing.T, err error, kind Kind, src, at string) *Fault {
	t.Helper()
	f, ok := faultOf(err)
	if !ok || f.Kind != kind {
		t.Fatalf("got %v, want %s", err, kind)
	}
	if line := 1 + strings.Count((header + src)[:strings.Index(header+src, at)], "\n"); f.Line != line {
		t.Fatalf("%v: line %d, want %d", err, f.Line, line)
	}
	return f
}

const axpy = `.visible .entry k(.param .u64 y, .param .u64 x, .param .f32 a, .param .u32 n)
{
	.reg .pred %p<2>;
	.reg .b32 %r<6>;
	.reg .f32 %f<5>;
	.reg .b64 %rd<8>;
	ld.param.u64 %rd1, [y];
	ld.param.u64 %rd2, [x];
	ld.param.f32 %f1, [a];
	ld.param.u32 %r2, [n];
	mov.u32 %r3, %ctaid.x;
	mov.u32 %r4, %ntid.x;
	mov.u32 %r5, %tid.x;
	mad.lo.s32 %r1, %r3, %r4, %r5;
	setp.ge.s32 %p1, %r1, %r2;
	@%p1 bra $L__BB0_2;
	cvta.to.global.u64 %rd3, %rd1;
	cvta.to.global.u64 %rd4, %rd2;
	mul.wide.s32 %rd5, %r1, 4;
	add.s64 %rd6, %rd3, %rd5;
	add.s64 %rd7, %rd4, %rd5;
	ld.global.nc.f32 %f2, [%rd7];
	ld.global.f32 %f3, [%rd6];
	fma.rn.f32 %f4, %f1, %f2, %f3;
	st.global.f32 [%rd6], %f4;
$L__BB0_2:
	ret;
}
`

func TestAxpyWithARaggedTail(t *testing.T) {
	r := newRig(t, Options{})
	f := r.load(axpy, 0)
	const n = 1003
	x, y := make([]uint32, n), make([]uint32, n)
	for i := range x {
		x[i], y[i] = math.Float32bits(float32(i)), math.Float32bits(float32(3*i))
	}
	px, py := r.words(x...), r.words(y...)
	if err := r.run(f, tensor.Launch{Grid: [3]int{8}, Block: [3]int{128}}, py, px, float32(0.5), uint32(n)); err != nil {
		t.Fatal(err)
	}
	for i, v := range r.download(py, n) {
		if got := math.Float32frombits(v); got != 3.5*float32(i) {
			t.Fatalf("y[%d] = %v", i, got)
		}
	}
	err := r.run(f, tensor.Launch{Grid: [3]int{8}, Block: [3]int{128}}, py, px, float32(0.5), uint32(n+1))
	fault := wantFault(t, err, OutOfBounds, axpy, "ld.global.nc.f32 %f2")
	if fault.Block != [3]int{7, 0, 0} || fault.Thread != [3]int{107, 0, 0} {
		t.Errorf("block %v, thread %v", fault.Block, fault.Thread)
	}
	if _, err := r.dev.Alloc(4); !errors.Is(err, tensor.ErrLost) {
		t.Errorf("after a fault: %v", err)
	}
}
