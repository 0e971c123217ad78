package ptx

import "math/bits"

var logicForms = func() map[string]formOf {
	t := map[string]formOf{}
	spread(t, "and.%", of("w=ww", and[uint32]), "b32", "b16")
	spread(t, "or.%", of("w=ww", or[uint32]), "b32", "b16")
	spread(t, "xor.%", of("w=ww", xor[uint32]), "b32", "b16")
	t["and.b64"], t["or.b64"], t["xor.b64"] = of("l=ll", and[uint64]), of("l=ll", or[uint64]), of("l=ll", xor[uint64])
	t["not.b32"] = each("w=w", func(a, _, _ uint64) uint64 { return ^a })
	t["not.b16"] = each("w=w", func(a, _, _ uint64) uint64 { return uint64(^uint16(a)) })
	t["not.b64"] = each("l=l", func(a, _, _ uint64) uint64 { return ^a })
	zero := func(a, _, _ uint64) uint64 {
		if a == 0 {
			return 1
		}
		return 0
	}
	spread(t, "cnot.%", each("w=w", zero), "b32", "b16")
	t["cnot.b64"] = each("l=l", zero)

	// Go shifts by more than the width as PTX does: to zero, or to the sign.
	t["shl.b32"], t["shr.s32"] = of("w=ww", shiftLeft32), of("w=ww", shiftRightS32)
	spread(t, "shr.%", of("w=ww", shiftRight32), "u32", "b32")
	t["shl.b64"], t["shr.s64"] = of("l=lw", shiftLeft64), of("l=lw", shiftRightS64)
	spread(t, "shr.%", of("l=lw", shiftRight64), "u64", "b64")
	t["shl.b16"] = each("w=ww", func(a, b, _ uint64) uint64 { return uint64(uint16(a << b)) })
	spread(t, "shr.%", each("w=ww", func(a, b, _ uint64) uint64 { return a >> b }), "u16", "b16")
	t["shr.s16"] = each("w=ww", func(a, b, _ uint64) uint64 { return uint64(uint16(s(a, 16) >> b)) })

	// Funnel shifts of b:a.
	t["shf.l.wrap.b32"] = each("w=www", func(a, b, c uint64) uint64 { return (b<<32 | a) << (c & 31) >> 32 })
	t["shf.r.wrap.b32"] = each("w=www", func(a, b, c uint64) uint64 { return (b<<32 | a) >> (c & 31) })
	t["shf.l.clamp.b32"] = each("w=www", func(a, b, c uint64) uint64 { return (b<<32 | a) << min(c, 32) >> 32 })
	t["shf.r.clamp.b32"] = each("w=www", func(a, b, c uint64) uint64 { return (b<<32 | a) >> min(c, 32) })

	spread(t, "prmt.%", each("w=www", permute), "b32")
	t["popc.b32"] = each("w=w", func(a, _, _ uint64) uint64 { return uint64(bits.OnesCount64(a)) })
	t["popc.b64"] = each("w=l", func(a, _, _ uint64) uint64 { return uint64(bits.OnesCount64(a)) })
	t["clz.b32"] = each("w=w", func(a, _, _ uint64) uint64 { return uint64(bits.LeadingZeros32(uint32(a))) })
	t["clz.b64"] = each("w=l", func(a, _, _ uint64) uint64 { return uint64(bits.LeadingZeros64(a)) })
	t["brev.b32"] = each("w=w", func(a, _, _ uint64) uint64 { return uint64(bits.Reverse32(uint32(a))) })
	t["brev.b64"] = each("l=l", func(a, _, _ uint64) uint64 { return bits.Reverse64(a) })
	for _, x := range []struct {
		kind   string
		banks  string
		size   uint
		signed bool
	}{{"u32", "w=w", 32, false}, {"s32", "w=w", 32, true}, {"u64", "w=l", 64, false}, {"s64", "w=l", 64, true}} {
		highest := func(a uint64) uint64 {
			if x.signed && s(a, x.size) < 0 {
				a = uint64(^s(a, x.size))
			}
			return uint64(bits.Len64(a) - 1)
		}
		t["bfind."+x.kind] = each(x.banks, func(a, _, _ uint64) uint64 { return highest(a) })
		t["bfind.shiftamt."+x.kind] = each(x.banks, func(a, _, _ uint64) uint64 {
			if h := highest(a); h < 64 {
				return uint64(x.size-1) - h
			}
			return 1<<32 - 1
		})
		field := func(a, b, c uint64) uint64 { return extract(a, b, c, x.size, x.signed) }
		t["bfe."+x.kind] = each(x.banks+"ww", field)
		if x.size == 64 {
			t["bfe."+x.kind] = each("l=lww", field)
		}
	}
	return t
}()

// permute picks four of the eight bytes of b:a by the nibbles of c, whose top bits ask for the byte's sign instead.
func permute(a, b, c uint64) (r uint64) {
	ab := b<<32 | a
	for i := range 4 {
		sel := c >> (4 * i)
		v := ab >> (8 * (sel & 7)) & 0xff
		if sel&8 != 0 {
			v = v >> 7 * 0xff
		}
		r |= v << (8 * i)
	}
	return r
}

// extract is bfe: n bits of a from pos on, extended by the last of them, or by that of a where they run over it.
func extract(a, pos, n uint64, size uint, signed bool) uint64 {
	pos, n = pos&0xff, n&0xff
	there := min(n, uint64(size)-min(pos, uint64(size)))
	r := a >> pos & (1<<there - 1)
	if last := min(pos+n-1, uint64(size-1)); signed && n > 0 && a>>last&1 == 1 {
		r |= ^uint64(0) << there
	}
	return r
}

func and[T uint32 | uint64](w *warp, in *inst, d int32) {
	z, x, y := reg[T](w, d), reg[T](w, in.a), reg[T](w, in.b)
	for l := range z {
		z[l] = x[l] & y[l]
	}
}

func or[T uint32 | uint64](w *warp, in *inst, d int32) {
	z, x, y := reg[T](w, d), reg[T](w, in.a), reg[T](w, in.b)
	for l := range z {
		z[l] = x[l] | y[l]
	}
}

func xor[T uint32 | uint64](w *warp, in *inst, d int32) {
	z, x, y := reg[T](w, d), reg[T](w, in.a), reg[T](w, in.b)
	for l := range z {
		z[l] = x[l] ^ y[l]
	}
}

func shiftLeft32(w *warp, in *inst, d int32) {
	z, x, y := &w.words[d], &w.words[in.a], &w.words[in.b]
	for l := range z {
		z[l] = x[l] << y[l]
	}
}

func shiftRight32(w *warp, in *inst, d int32) {
	z, x, y := &w.words[d], &w.words[in.a], &w.words[in.b]
	for l := range z {
		z[l] = x[l] >> y[l]
	}
}

func shiftRightS32(w *warp, in *inst, d int32) {
	z, x, y := reg[int32](w, d), reg[int32](w, in.a), &w.words[in.b]
	for l := range z {
		z[l] = x[l] >> y[l]
	}
}

func shiftLeft64(w *warp, in *inst, d int32) {
	z, x, y := &w.longs[d], &w.longs[in.a], &w.words[in.b]
	for l := range z {
		z[l] = x[l] << y[l]
	}
}

func shiftRight64(w *warp, in *inst, d int32) {
	z, x, y := &w.longs[d], &w.longs[in.a], &w.words[in.b]
	for l := range z {
		z[l] = x[l] >> y[l]
	}
}

func shiftRightS64(w *warp, in *inst, d int32) {
	z, x, y := reg[int64](w, d), reg[int64](w, in.a), &w.words[in.b]
	for l := range z {
		z[l] = x[l] >> y[l]
	}
}
