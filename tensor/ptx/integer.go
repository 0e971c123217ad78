package ptx

import "math/bits"

var integerForms = func() map[string]formOf {
	t := map[string]formOf{}
	w, l := []string{"u32", "s32"}, []string{"u64", "s64"}
	spread(t, "add.%", of("w=ww", add[uint32]), w...)
	spread(t, "add.%", of("l=ll", add[uint64]), l...)
	spread(t, "sub.%", of("w=ww", sub[uint32]), w...)
	spread(t, "sub.%", of("l=ll", sub[uint64]), l...)
	spread(t, "mul.lo.%", of("w=ww", mul[uint32]), w...)
	spread(t, "mul.lo.%", of("l=ll", mul[uint64]), l...)
	spread(t, "mad.lo.%", of("w=www", mad[uint32]), w...)
	spread(t, "mad.lo.%", of("l=lll", mad[uint64]), l...)
	t["mul.wide.u32"] = of("l=ww", mulWideU32)
	t["mul.wide.s32"] = of("l=ww", mulWideS32)
	t["mad.wide.u32"] = of("l=wwl", madWideU32)
	t["mad.wide.s32"] = of("l=wwl", madWideS32)
	t["mul.hi.u32"] = of("w=ww", mulHighU32)
	t["mul.hi.s32"] = of("w=ww", mulHighS32)
	t["min.u32"] = of("w=ww", smaller[uint32])
	t["min.s32"] = of("w=ww", smaller[int32])
	t["min.u64"] = of("l=ll", smaller[uint64])
	t["min.s64"] = of("l=ll", smaller[int64])
	t["max.u32"] = of("w=ww", larger[uint32])
	t["max.s32"] = of("w=ww", larger[int32])
	t["max.u64"] = of("l=ll", larger[uint64])
	t["max.s64"] = of("l=ll", larger[int64])
	t["div.u32"] = of("w=ww", divU[uint32])
	t["rem.u32"] = of("w=ww", remU[uint32])
	t["div.u64"] = of("l=ll", divU[uint64])
	t["rem.u64"] = of("l=ll", remU[uint64])

	// 16-bit arithmetic, and what is rare. s sign-extends the low bits of a register.
	s16 := func(f func(a, b, c int64) int64) func(a, b, c uint64) uint64 {
		return func(a, b, c uint64) uint64 { return uint64(uint16(f(s(a, 16), s(b, 16), s(c, 16)))) }
	}
	s32 := func(f func(a, b, c int64) int64) func(a, b, c uint64) uint64 {
		return func(a, b, c uint64) uint64 { return uint64(uint32(f(s(a, 32), s(b, 32), s(c, 32)))) }
	}
	s64 := func(f func(a, b, c int64) int64) func(a, b, c uint64) uint64 {
		return func(a, b, c uint64) uint64 { return uint64(f(int64(a), int64(b), int64(c))) }
	}
	u16 := func(f func(a, b, c uint64) uint64) func(a, b, c uint64) uint64 {
		return func(a, b, c uint64) uint64 { return uint64(uint16(f(a, b, c))) }
	}
	h := []string{"u16", "s16"}
	spread(t, "add.%", each("w=ww", u16(func(a, b, _ uint64) uint64 { return a + b })), h...)
	spread(t, "sub.%", each("w=ww", u16(func(a, b, _ uint64) uint64 { return a - b })), h...)
	spread(t, "mul.lo.%", each("w=ww", u16(func(a, b, _ uint64) uint64 { return a * b })), h...)
	spread(t, "mad.lo.%", each("w=www", u16(func(a, b, c uint64) uint64 { return a*b + c })), h...)
	t["mul.hi.u16"] = each("w=ww", func(a, b, _ uint64) uint64 { return a * b >> 16 })
	t["mul.hi.s16"] = each("w=ww", s16(func(a, b, _ int64) int64 { return a * b >> 16 }))
	t["mul.wide.u16"] = each("w=ww", func(a, b, _ uint64) uint64 { return a * b })
	t["mul.wide.s16"] = each("w=ww", func(a, b, _ uint64) uint64 { return uint64(s(a, 16) * s(b, 16)) })
	t["mad.wide.u16"] = each("w=www", func(a, b, c uint64) uint64 { return a*b + c })
	t["mad.wide.s16"] = each("w=www", func(a, b, c uint64) uint64 { return uint64(s(a, 16)*s(b, 16)) + c })
	t["mul.hi.u64"] = each("l=ll", func(a, b, _ uint64) uint64 { hi, _ := bits.Mul64(a, b); return hi })
	t["mul.hi.s64"] = each("l=ll", func(a, b, _ uint64) uint64 { return mulHighS64(a, b) })
	t["mad.hi.u32"] = each("w=www", func(a, b, c uint64) uint64 { return a*b>>32 + c })
	t["mad.hi.s32"] = each("w=www", func(a, b, c uint64) uint64 { return uint64(s(a, 32)*s(b, 32)>>32) + c })
	t["mad.hi.u64"] = each("l=lll", func(a, b, c uint64) uint64 { hi, _ := bits.Mul64(a, b); return hi + c })
	t["mad.hi.s64"] = each("l=lll", func(a, b, c uint64) uint64 { return mulHighS64(a, b) + c })
	t["mul24.lo.u32"] = each("w=ww", func(a, b, _ uint64) uint64 { return a & 0xffffff * (b & 0xffffff) })
	t["mul24.lo.s32"] = each("w=ww", func(a, b, _ uint64) uint64 { return uint64(s(a, 24) * s(b, 24)) })

	minimum := func(a, b, _ int64) int64 { return min(a, b) }
	maximum := func(a, b, _ int64) int64 { return max(a, b) }
	t["min.u16"] = each("w=ww", func(a, b, _ uint64) uint64 { return min(a, b) })
	t["max.u16"] = each("w=ww", func(a, b, _ uint64) uint64 { return max(a, b) })
	t["min.s16"] = each("w=ww", s16(minimum))
	t["max.s16"] = each("w=ww", s16(maximum))

	// Division by zero gives all bits set, and its remainder the dividend.
	divide := func(a, b, _ int64) int64 {
		if b == 0 {
			return -1
		} else if b == -1 {
			return -a
		}
		return a / b
	}
	remainder := func(a, b, _ int64) int64 {
		if b == 0 {
			return a
		} else if b == -1 {
			return 0
		}
		return a % b
	}
	t["div.s16"], t["rem.s16"] = each("w=ww", s16(divide)), each("w=ww", s16(remainder))
	t["div.s32"], t["rem.s32"] = each("w=ww", s32(divide)), each("w=ww", s32(remainder))
	t["div.s64"], t["rem.s64"] = each("l=ll", s64(divide)), each("l=ll", s64(remainder))
	t["div.u16"] = each("w=ww", u16(func(a, b, _ uint64) uint64 {
		if b == 0 {
			return 0xffff
		}
		return a / b
	}))
	t["rem.u16"] = each("w=ww", func(a, b, _ uint64) uint64 {
		if b == 0 {
			return a
		}
		return a % b
	})

	negate := func(a, _, _ int64) int64 { return -a }
	absolute := func(a, _, _ int64) int64 { return max(a, -a) }
	t["neg.s16"], t["abs.s16"] = each("w=w", s16(negate)), each("w=w", s16(absolute))
	t["neg.s32"], t["abs.s32"] = each("w=w", s32(negate)), each("w=w", s32(absolute))
	t["neg.s64"], t["abs.s64"] = each("l=l", s64(negate)), each("l=l", s64(absolute))
	t["sad.u32"] = each("w=www", func(a, b, c uint64) uint64 { return c + max(a, b) - min(a, b) })
	t["sad.s32"] = each("w=www", s32(func(a, b, c int64) int64 { return c + max(a, b) - min(a, b) }))
	saturate := func(v int64) int64 { return max(-1<<31, min(v, 1<<31-1)) }
	t["add.sat.s32"] = each("w=ww", s32(func(a, b, _ int64) int64 { return saturate(a + b) }))
	t["sub.sat.s32"] = each("w=ww", s32(func(a, b, _ int64) int64 { return saturate(a - b) }))

	// Dot products of four bytes, or of two halves with two bytes.
	for _, x := range []struct {
		types string
		sa    uint
		sb    uint
	}{{"u32.u32", 0, 0}, {"u32.s32", 0, 1}, {"s32.u32", 1, 0}, {"s32.s32", 1, 1}} {
		element := func(v uint64, i, size, signed uint) int64 {
			v = v >> (size * i) & (1<<size - 1)
			if signed == 1 {
				return s(v, size)
			}
			return int64(v)
		}
		t["dp4a."+x.types] = each("w=www", func(a, b, c uint64) uint64 {
			for i := range uint(4) {
				c += uint64(element(a, i, 8, x.sa) * element(b, i, 8, x.sb))
			}
			return c
		})
		for half, name := range []string{"lo", "hi"} {
			t["dp2a."+name+"."+x.types] = each("w=www", func(a, b, c uint64) uint64 {
				for i := range uint(2) {
					c += uint64(element(a, i, 16, x.sa) * element(b, i+2*uint(half), 8, x.sb))
				}
				return c
			})
		}
	}
	return t
}()

// s sign-extends the low n bits of v.
func s(v uint64, n uint) int64 { return int64(v<<(64-n)) >> (64 - n) }

func mulHighS64(a, b uint64) uint64 {
	hi, _ := bits.Mul64(a, b)
	return hi - a&uint64(int64(b)>>63) - b&uint64(int64(a)>>63)
}

func add[T lane](w *warp, in *inst, d int32) {
	z, x, y := reg[T](w, d), reg[T](w, in.a), reg[T](w, in.b)
	for l := range z {
		z[l] = x[l] + y[l]
	}
}

func sub[T lane](w *warp, in *inst, d int32) {
	z, x, y := reg[T](w, d), reg[T](w, in.a), reg[T](w, in.b)
	for l := range z {
		z[l] = x[l] - y[l]
	}
}

func mul[T lane](w *warp, in *inst, d int32) {
	z, x, y := reg[T](w, d), reg[T](w, in.a), reg[T](w, in.b)
	for l := range z {
		z[l] = x[l] * y[l]
	}
}

func mad[T uint32 | uint64](w *warp, in *inst, d int32) {
	z, x, y, c := reg[T](w, d), reg[T](w, in.a), reg[T](w, in.b), reg[T](w, in.c)
	for l := range z {
		z[l] = x[l]*y[l] + c[l]
	}
}

func mulWideU32(w *warp, in *inst, d int32) {
	z, x, y := &w.longs[d], &w.words[in.a], &w.words[in.b]
	for l := range z {
		z[l] = uint64(x[l]) * uint64(y[l])
	}
}

func mulWideS32(w *warp, in *inst, d int32) {
	z, x, y := reg[int64](w, d), reg[int32](w, in.a), reg[int32](w, in.b)
	for l := range z {
		z[l] = int64(x[l]) * int64(y[l])
	}
}

func madWideU32(w *warp, in *inst, d int32) {
	z, x, y, c := &w.longs[d], &w.words[in.a], &w.words[in.b], &w.longs[in.c]
	for l := range z {
		z[l] = uint64(x[l])*uint64(y[l]) + c[l]
	}
}

func madWideS32(w *warp, in *inst, d int32) {
	z, x, y, c := reg[int64](w, d), reg[int32](w, in.a), reg[int32](w, in.b), reg[int64](w, in.c)
	for l := range z {
		z[l] = int64(x[l])*int64(y[l]) + c[l]
	}
}

func mulHighU32(w *warp, in *inst, d int32) {
	z, x, y := &w.words[d], &w.words[in.a], &w.words[in.b]
	for l := range z {
		z[l] = uint32(uint64(x[l]) * uint64(y[l]) >> 32)
	}
}

func mulHighS32(w *warp, in *inst, d int32) {
	z, x, y := reg[int32](w, d), reg[int32](w, in.a), reg[int32](w, in.b)
	for l := range z {
		z[l] = int32(int64(x[l]) * int64(y[l]) >> 32)
	}
}

func smaller[T lane](w *warp, in *inst, d int32) {
	z, x, y := reg[T](w, d), reg[T](w, in.a), reg[T](w, in.b)
	for l := range z {
		z[l] = min(x[l], y[l])
	}
}

func larger[T lane](w *warp, in *inst, d int32) {
	z, x, y := reg[T](w, d), reg[T](w, in.a), reg[T](w, in.b)
	for l := range z {
		z[l] = max(x[l], y[l])
	}
}

func divU[T uint32 | uint64](w *warp, in *inst, d int32) {
	z, x, y := reg[T](w, d), reg[T](w, in.a), reg[T](w, in.b)
	for l := range z {
		if y[l] == 0 {
			z[l] = ^T(0)
		} else {
			z[l] = x[l] / y[l]
		}
	}
}

func remU[T uint32 | uint64](w *warp, in *inst, d int32) {
	z, x, y := reg[T](w, d), reg[T](w, in.a), reg[T](w, in.b)
	for l := range z {
		if y[l] == 0 {
			z[l] = x[l]
		} else {
			z[l] = x[l] % y[l]
		}
	}
}
