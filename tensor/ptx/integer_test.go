package ptx

import (
	"math/big"
	"math/bits"
	"math/rand/v2"
	"strings"
	"testing"
)

var integerCorners = []uint64{0, 1, 2, 7, 31, 32, 33, 63, 64, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, 1<<63 - 1, 1 << 63, 1<<64 - 1}

func anyBits(r *rand.Rand) uint64 { return r.Uint64() }

// number reads a register as an integer of a type.
func number(v uint64, kind string) *big.Int {
	size := uint(8 * typeBytes(kind))
	v = v << (64 - size) >> (64 - size)
	if kind[0] == 's' {
		return big.NewInt(int64(v<<(64-size)) >> (64 - size))
	}
	return new(big.Int).SetUint64(v)
}

// bitsOf is the low 64 bits of an integer.
func bitsOf(x *big.Int) uint64 {
	return new(big.Int).And(x, new(big.Int).SetUint64(1<<64-1)).Uint64()
}

func TestIntegerArithmetic(t *testing.T) {
	banks := map[int]string{2: "h", 4: "w", 8: "l"}
	for _, kind := range []string{"u16", "s16", "u32", "s32", "u64", "s64"} {
		b, size := banks[typeBytes(kind)], uint(8*typeBytes(kind))
		two := func(op string, f func(x, y *big.Int) *big.Int) calculation {
			return calculation{op + "." + kind, b + "=" + b + b, func(a, c, _ uint64) uint64 { return bitsOf(f(number(a, kind), number(c, kind))) }}
		}
		three := func(op string, f func(x, y *big.Int) *big.Int) calculation {
			return calculation{op + "." + kind, b + "=" + b + b + b, func(a, c, e uint64) uint64 {
				return bitsOf(new(big.Int).Add(f(number(a, kind), number(c, kind)), number(e, kind)))
			}}
		}
		one := func(op string, f func(x *big.Int) *big.Int) calculation {
			return calculation{op + "." + kind, b + "=" + b, func(a, _, _ uint64) uint64 { return bitsOf(f(number(a, kind))) }}
		}
		product := func(x, y *big.Int) *big.Int { return new(big.Int).Mul(x, y) }
		high := func(x, y *big.Int) *big.Int { return new(big.Int).Rsh(product(x, y), size) }
		pick := func(want int) func(x, y *big.Int) *big.Int {
			return func(x, y *big.Int) *big.Int {
				if x.Cmp(y) == want {
					return x
				}
				return y
			}
		}
		all := []calculation{
			two("add", func(x, y *big.Int) *big.Int { return new(big.Int).Add(x, y) }),
			two("sub", func(x, y *big.Int) *big.Int { return new(big.Int).Sub(x, y) }),
			two("mul.lo", product), two("mul.hi", high), three("mad.lo", product),
			two("min", pick(-1)), two("max", pick(1)),
			two("div", func(x, y *big.Int) *big.Int {
				if y.Sign() == 0 {
					return big.NewInt(-1)
				}
				return new(big.Int).Quo(x, y)
			}),
			two("rem", func(x, y *big.Int) *big.Int {
				if y.Sign() == 0 {
					return x
				}
				return new(big.Int).Rem(x, y)
			}),
			{"shr." + kind, b + "=" + b + "w", func(a, c, _ uint64) uint64 { return bitsOf(new(big.Int).Rsh(number(a, kind), uint(c))) }},
		}
		if kind[0] == 's' {
			all = append(all, one("neg", func(x *big.Int) *big.Int { return new(big.Int).Neg(x) }), one("abs", func(x *big.Int) *big.Int { return new(big.Int).Abs(x) }))
		}
		if size < 64 {
			to := map[string]string{"h": "w", "w": "l"}[b]
			all = append(all,
				calculation{"mul.wide." + kind, to + "=" + b + b, func(a, c, _ uint64) uint64 { return bitsOf(product(number(a, kind), number(c, kind))) }},
				calculation{"mad.wide." + kind, to + "=" + b + b + to, func(a, c, e uint64) uint64 {
					return bitsOf(product(number(a, kind), number(c, kind))) + e
				}})
		}
		if size > 16 {
			all = append(all, three("mad.hi", high))
		}
		if size == 32 {
			all = append(all, three("sad", func(x, y *big.Int) *big.Int { return new(big.Int).Abs(new(big.Int).Sub(x, y)) }))
		}
		for _, c := range all {
			check(t, c, operands(len(c.banks)-2, integerCorners, anyBits), identical)
		}
	}
}

func TestSaturatedAndShortProducts(t *testing.T) {
	clamp := func(v int64) uint64 { return uint64(max(-1<<31, min(v, 1<<31-1))) }
	low24 := func(a uint64) int64 { return int64(int32(a<<8)) >> 8 }
	dot := func(a, b uint64, sa, sb bool) (sum int64) {
		for i := range 4 {
			x, y := int64(uint8(a>>(8*i))), int64(uint8(b>>(8*i)))
			if sa {
				x = int64(int8(x))
			}
			if sb {
				y = int64(int8(y))
			}
			sum += x * y
		}
		return sum
	}
	for _, c := range []calculation{
		{"add.sat.s32", "w=ww", func(a, b, _ uint64) uint64 { return clamp(int64(int32(a)) + int64(int32(b))) }},
		{"sub.sat.s32", "w=ww", func(a, b, _ uint64) uint64 { return clamp(int64(int32(a)) - int64(int32(b))) }},
		{"mul24.lo.s32", "w=ww", func(a, b, _ uint64) uint64 { return uint64(low24(a) * low24(b)) }},
		{"mul24.lo.u32", "w=ww", func(a, b, _ uint64) uint64 { return (a & 0xffffff) * (b & 0xffffff) }},
		{"dp4a.u32.u32", "w=www", func(a, b, c uint64) uint64 { return uint64(dot(a, b, false, false)) + c }},
		{"dp4a.s32.u32", "w=www", func(a, b, c uint64) uint64 { return uint64(dot(a, b, true, false)) + c }},
		{"dp4a.u32.s32", "w=www", func(a, b, c uint64) uint64 { return uint64(dot(a, b, false, true)) + c }},
		{"dp4a.s32.s32", "w=www", func(a, b, c uint64) uint64 { return uint64(dot(a, b, true, true)) + c }},
		{"dp2a.lo.s32.s32", "w=www", func(a, b, c uint64) uint64 {
			return uint64(int64(int16(a))*int64(int8(b))+int64(int16(a>>16))*int64(int8(b>>8))) + c
		}},
		{"dp2a.hi.u32.u32", "w=www", func(a, b, c uint64) uint64 {
			return uint64(uint16(a))*uint64(uint8(b>>16)) + uint64(uint16(a>>16))*uint64(uint8(b>>24)) + c
		}},
	} {
		check(t, c, operands(len(c.banks)-2, integerCorners, anyBits), identical)
	}
}

func TestLogicAndShifts(t *testing.T) {
	shift := func(v, by uint64, size uint) uint64 {
		if by >= uint64(size) {
			return 0
		}
		return v << by
	}
	funnel := func(f func(ab, c uint64) uint64) func(a, b, c uint64) uint64 {
		return func(a, b, c uint64) uint64 { return f(b<<32|a, c) }
	}
	bytewise := func(a, b, c uint64) (r uint64) {
		var pool [8]byte
		for i := range 4 {
			pool[i], pool[4+i] = byte(a>>(8*i)), byte(b>>(8*i))
		}
		for i := range 4 {
			v := pool[c>>(4*i)&7]
			if c>>(4*i)&8 != 0 {
				v = byte(int8(v) >> 7)
			}
			r |= uint64(v) << (8 * i)
		}
		return r
	}
	flag := func(b bool) uint64 {
		if b {
			return 1
		}
		return 0
	}
	all := []calculation{
		{"shf.l.wrap.b32", "w=www", funnel(func(ab, c uint64) uint64 { return ab << (c % 32) >> 32 })},
		{"shf.r.wrap.b32", "w=www", funnel(func(ab, c uint64) uint64 { return ab >> (c % 32) })},
		{"shf.l.clamp.b32", "w=www", funnel(func(ab, c uint64) uint64 { return ab << min(c, 32) >> 32 })},
		{"shf.r.clamp.b32", "w=www", funnel(func(ab, c uint64) uint64 { return ab >> min(c, 32) })},
		{"prmt.b32", "w=www", bytewise},
		{"brev.b32", "w=w", func(a, _, _ uint64) uint64 { return uint64(bits.Reverse32(uint32(a))) }},
		{"and.pred", "p=pp", func(a, b, _ uint64) uint64 { return a & b }},
		{"or.pred", "p=pp", func(a, b, _ uint64) uint64 { return a | b }},
		{"xor.pred", "p=pp", func(a, b, _ uint64) uint64 { return a ^ b }},
		{"not.pred", "p=p", func(a, _, _ uint64) uint64 { return 1 - a }},
		{"mov.pred", "p=p", func(a, _, _ uint64) uint64 { return a }},
		{"selp.b32", "w=wwp", func(a, b, c uint64) uint64 { return a*c + b*(1-c) }},
		{"selp.b64", "l=llp", func(a, b, c uint64) uint64 { return a*c + b*(1-c) }},
		{"slct.b32.s32", "w=www", func(a, b, c uint64) uint64 {
			if int32(c) >= 0 {
				return a
			}
			return b
		}},
	}
	for _, x := range []struct {
		bank string
		size uint
		kind string
	}{{"h", 16, "b16"}, {"w", 32, "b32"}, {"l", 64, "b64"}} {
		low := uint64(1)<<x.size - 1
		all = append(all,
			calculation{"and." + x.kind, x.bank + "=" + x.bank + x.bank, func(a, b, _ uint64) uint64 { return a & b }},
			calculation{"or." + x.kind, x.bank + "=" + x.bank + x.bank, func(a, b, _ uint64) uint64 { return a | b }},
			calculation{"xor." + x.kind, x.bank + "=" + x.bank + x.bank, func(a, b, _ uint64) uint64 { return a ^ b }},
			calculation{"not." + x.kind, x.bank + "=" + x.bank, func(a, _, _ uint64) uint64 { return ^a & low }},
			calculation{"cnot." + x.kind, x.bank + "=" + x.bank, func(a, _, _ uint64) uint64 { return flag(a == 0) }},
			calculation{"shl." + x.kind, x.bank + "=" + x.bank + "w", func(a, b, _ uint64) uint64 { return shift(a, b, x.size) }})
		if x.size > 16 {
			all = append(all,
				calculation{"popc." + x.kind, "w=" + x.bank, func(a, _, _ uint64) uint64 { return uint64(strings.Count(new(big.Int).SetUint64(a).Text(2), "1")) }},
				calculation{"clz." + x.kind, "w=" + x.bank, func(a, _, _ uint64) uint64 { return uint64(int(x.size) - new(big.Int).SetUint64(a).BitLen()) }})
		}
	}
	for _, kind := range []string{"u32", "s32", "u64", "s64"} {
		b, size := map[int]string{4: "w", 8: "l"}[typeBytes(kind)], 8*typeBytes(kind)
		highest := func(a uint64) uint64 { // of the bits that differ from the sign
			x := number(a, kind)
			if x.Sign() < 0 {
				x = new(big.Int).Not(x)
			}
			return uint64(x.BitLen() - 1)
		}
		all = append(all,
			calculation{"bfind." + kind, "w=" + b, func(a, _, _ uint64) uint64 { return highest(a) }},
			calculation{"bfind.shiftamt." + kind, "w=" + b, func(a, _, _ uint64) uint64 {
				if highest(a) == 1<<64-1 {
					return 1<<32 - 1
				}
				return uint64(size-1) - highest(a)
			}},
			calculation{"bfe." + kind, b + "=" + b + "ww", func(a, pos, n uint64) (r uint64) { // the ISA's own loop
				pos, n = pos&0xff, n&0xff
				last := min(pos+n-1, uint64(size-1))
				sign := kind[0] == 's' && n != 0 && a>>last&1 == 1
				for i := range uint64(size) {
					if bit := i < n && pos+i < uint64(size) && a>>(pos+i)&1 == 1; bit || (i >= n || pos+i >= uint64(size)) && sign {
						r |= 1 << i
					}
				}
				return r
			}})
	}
	for _, c := range all {
		check(t, c, operands(len(c.banks)-2, integerCorners, anyBits), identical)
		if strings.HasPrefix(c.op, "bfe") { // small fields
			check(t, c, operands(3, integerCorners, func(r *rand.Rand) uint64 { return r.Uint64()&^0xff | r.Uint64N(70) }), identical)
		}
	}
}

func TestLookupTablesAndBitFields(t *testing.T) {
	rows := operands(3, integerCorners, anyBits)
	for _, lut := range []uint64{0xf8, 0x96, 0xe8, 0x01, 0xca} {
		got := evaluateText(t, strings.Replace(text("lop3.b32", "w=www"), "%s1, %s2;", "%s1, %s2, "+big.NewInt(int64(lut)).String()+";", 1), rows)
		for i, r := range rows {
			want := uint64(0)
			for bit := range 32 {
				want |= lut >> (r[0]>>bit&1<<2 | r[1]>>bit&1<<1 | r[2]>>bit&1) & 1 << bit
			}
			if got[i] != want {
				t.Fatalf("lop3 %#x of %#x: %#x, want %#x", lut, r, got[i], want)
			}
		}
	}
	for _, x := range []struct {
		kind, banks string
		size        uint64
	}{{"b32", "w=wwww", 32}, {"b64", "l=llww", 64}} {
		rows := operands(4, integerCorners, func(r *rand.Rand) uint64 { return r.Uint64()&^0xff | r.Uint64N(70) })
		got := evaluate(t, "bfi."+x.kind, x.banks, rows)
		for i, r := range rows {
			want, pos, n := r[1], r[2]&0xff, r[3]&0xff
			for k := uint64(0); k < n && pos+k < x.size; k++ {
				want = want&^(1<<(pos+k)) | r[0]>>k&1<<(pos+k)
			}
			if want = narrowTo(x.banks[0], want); got[i] != want {
				t.Fatalf("bfi.%s of %#x: %#x, want %#x", x.kind, r, got[i], want)
			}
		}
	}
}
