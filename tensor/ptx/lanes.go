package ptx

import (
	"math/bits"
	"strings"
	"unsafe"
)

// formOf describes an instruction whose result is one word or long, computed from up to three registers lane by lane.
type formOf struct {
	result  bank
	sources []bank
	lanes   func(w *warp, in *inst, d int32)
	scalar  *scalar
}

// of reads the banks of a result and its sources, "w=ww": word, long or predicate.
func of(banks string, lanes func(w *warp, in *inst, d int32)) formOf {
	name := map[byte]bank{'w': words, 'l': longs, 'p': predicates}
	f := formOf{result: name[banks[0]], lanes: lanes}
	for i := 2; i < len(banks); i++ {
		f.sources = append(f.sources, name[banks[i]])
	}
	return f
}

// each makes a form of a function of one lane, for what is too rare to deserve a loop of its own.
func each(banks string, f func(a, b, c uint64) uint64) formOf {
	g := of(banks, scalarWords)
	if g.result == longs {
		g.lanes = scalarLongs
	}
	g.scalar = &scalar{f: f}
	copy(g.scalar.sources[:], g.sources)
	return g
}

// forms has all instructions of this kind by their opcode, types and modifiers.
var forms = merge(integerForms, logicForms, floatForms, halfForms, convertForms, compareForms, moveForms)

func merge(tables ...map[string]formOf) map[string]formOf {
	all := map[string]formOf{}
	for _, t := range tables {
		for name, f := range t {
			all[name] = f
		}
	}
	return all
}

// spread adds a form under each of several types: spread(t, "add.%", f, "u32", "s32").
func spread(t map[string]formOf, opcode string, f formOf, types ...string) {
	for _, x := range types {
		t[strings.ReplaceAll(opcode, "%", x)] = f
	}
}

func lookUp(st *statement) (formOf, bool) {
	f, ok := forms[st.opcode()]
	return f, ok
}

type lane interface {
	int32 | uint32 | float32 | int64 | uint64 | float64
}

// reg is a register seen as 32 values of T.
func reg[T lane](w *warp, i int32) *[warpSize]T {
	var z T
	if unsafe.Sizeof(z) == 8 {
		return (*[warpSize]T)(unsafe.Pointer(&w.longs[i]))
	}
	return (*[warpSize]T)(unsafe.Pointer(&w.words[i]))
}

// gather widens a register of any bank.
func (w *warp) gather(dst *[warpSize]uint64, b bank, i int32) {
	switch b {
	case words:
		for l, v := range &w.words[i] {
			dst[l] = uint64(v)
		}
	case longs:
		*dst = w.longs[i]
	case predicates:
		for l := range dst {
			dst[l] = uint64(w.preds[i] >> l & 1)
		}
	}
}

func (w *warp) scalars(in *inst, out *[warpSize]uint64) {
	var x, y, z [warpSize]uint64
	w.gather(&x, in.scalar.sources[0], in.a)
	w.gather(&y, in.scalar.sources[1], in.b)
	w.gather(&z, in.scalar.sources[2], in.c)
	f := in.scalar.f
	for l := range out {
		out[l] = f(x[l], y[l], z[l])
	}
}

func scalarWords(w *warp, in *inst, d int32) {
	var out [warpSize]uint64
	w.scalars(in, &out)
	r := &w.words[d]
	for l, v := range &out {
		r[l] = uint32(v)
	}
}

func scalarLongs(w *warp, in *inst, d int32) { w.scalars(in, &w.longs[d]) }

// first is the lowest lane of a mask.
func first(m uint32) int { return bits.TrailingZeros32(m) & 31 }
