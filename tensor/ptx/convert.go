package ptx

import (
	"math"
	"strings"
)

// convertForms are the conversions that kernels do most; decodeConvert knows all.
var convertForms = map[string]formOf{
	"cvt.u64.u32":        of("l=w", widen[uint32]),
	"cvt.s64.s32":        of("l=w", widen[int32]),
	"cvt.u32.u64":        of("w=l", truncate),
	"cvt.rn.f32.s32":     of("w=w", toSingle[int32]),
	"cvt.rn.f32.u32":     of("w=w", toSingle[uint32]),
	"cvt.rn.bf16x2.f32":  of("w=ww", toBfloatPair),
	"cvt.rn.bf16.f32":    of("w=w", toBfloat),
	"cvt.f32.bf16":       of("w=w", fromBfloat),
	"cvt.f32.f16":        of("w=w", fromHalf),
	"cvt.f64.f32":        of("l=w", toDouble),
	"cvt.rn.f32.f64":     of("w=l", fromDouble),
	"cvta.to.global.u64": of("l=l", copyLong),
	"cvta.global.u64":    of("l=l", copyLong),
	"cvta.shared.u64":    each("l=l", func(a, _, _ uint64) uint64 { return a + sharedWindow }),
	"cvta.to.shared.u64": each("l=l", func(a, _, _ uint64) uint64 { return a - sharedWindow }),
	"cvta.local.u64":     each("l=l", func(a, _, _ uint64) uint64 { return a + localWindow }),
	"cvta.to.local.u64":  each("l=l", func(a, _, _ uint64) uint64 { return a - localWindow }),
	"cvta.const.u64":     each("l=l", func(a, _, _ uint64) uint64 { return a + constantWindow }),
	"cvta.to.const.u64":  each("l=l", func(a, _, _ uint64) uint64 { return a - constantWindow }),
	"cvta.param.u64":     each("l=l", func(a, _, _ uint64) uint64 { return a + paramWindow }),
	"cvta.to.param.u64":  each("l=l", func(a, _, _ uint64) uint64 { return a - paramWindow }),
}

// numeric is a type of cvt.
type numeric struct {
	bytes  int
	float  bool
	signed bool
	format format // of floats but float64
}

func numericOf(t string) (n numeric, ok bool) {
	n.bytes = typeBytes(t)
	switch t {
	case "f16":
		n.float, n.format = true, half
	case "bf16":
		n.float, n.format = true, bfloat
	case "tf32":
		n.float, n.format = true, tfloat32
	case "f32":
		n.float, n.format = true, single
	case "f64":
		n.float = true
	default:
		n.signed = strings.HasPrefix(t, "s")
		return n, n.bytes > 0 && (n.signed || strings.HasPrefix(t, "u"))
	}
	return n, true
}

// conversion is a cvt's types and modifiers.
type conversion struct {
	to, from       numeric
	mode           rounding
	whole          bool // round to an integer
	ftz, sat, relu bool
}

func decodeConvert(d *decoder) error {
	var c conversion
	var types []string
	for _, m := range d.st.mods {
		if mode, ok := roundings[m]; ok {
			c.mode = mode
			continue
		}
		switch m {
		case "rni", "rzi", "rmi", "rpi":
			c.mode, c.whole = roundings[m[:2]], true
		case "ftz":
			c.ftz = true
		case "sat":
			c.sat = true
		case "relu":
			c.relu = true
		default:
			types = append(types, m)
		}
	}
	if len(types) != 2 {
		return d.fail("not known to this interpreter")
	}
	to, packed := strings.CutSuffix(types[0], "x2")
	var ok, ok2 bool
	c.to, ok = numericOf(to)
	c.from, ok2 = numericOf(types[1])
	if !ok || !ok2 || packed && types[1] != "f32" {
		return d.fail("not known to this interpreter")
	}
	if packed {
		return d.plain(each("w=ww", func(a, b, _ uint64) uint64 { return c.apply(a)<<16 | c.apply(b) }))
	}
	if len(d.st.args) != 2 {
		return d.fail("%d operands, not 2", len(d.st.args))
	}
	// Registers may be wider than the types: what is read is the low bits, what is written is extended.
	o := d.st.args[0]
	dst, err := d.register(o.name)
	if err != nil {
		return err
	}
	b := words
	if c.from.bytes == 8 {
		b = longs
	}
	src, err := d.anyValue(d.st.args[1], b, types[1])
	if err != nil {
		return err
	}
	in := inst{class: wordClass, lanes: scalarWords, d: dst.index, a: src.index}
	if dst.bank == longs {
		in.class, in.lanes = longClass, scalarLongs
	}
	width := uint64(math.MaxUint32)
	if decl, _ := d.st.scope.register(o.name); dst.bank == longs {
		width = math.MaxUint64
	} else if typeBytes(decl.kind) < 4 {
		width = math.MaxUint16
	}
	in.scalar = &scalar{f: func(a, _, _ uint64) uint64 { return c.apply(a) & width }}
	in.scalar.sources[0] = src.bank
	if dst.bank == predicates || src.bank == predicates {
		return d.fail("a predicate cannot be converted")
	}
	return d.emit(in)
}

// apply converts the bits of one value.
func (c *conversion) apply(a uint64) uint64 {
	if c.from.bytes < 8 {
		a &= 1<<(8*c.from.bytes) - 1
	}
	switch {
	case c.from.float:
		x := math.Float64frombits(a)
		if c.from.bytes < 8 {
			x = c.from.format.value(a)
			if c.ftz {
				x = flush(x)
			}
		}
		if c.whole {
			x = whole(x, c.mode)
		}
		if c.to.float {
			return c.float(x)
		}
		return c.integer(x)
	case c.to.float:
		if c.from.signed {
			v := s(a, uint(8*c.from.bytes))
			x := sumOdd(math.Ldexp(float64(v>>32), 32), float64(v&math.MaxUint32))
			return c.float(c.exactly(x, float64(v)))
		}
		return c.float(c.exactly(sumOdd(math.Ldexp(float64(a>>32), 32), float64(a&math.MaxUint32)), float64(a)))
	}
	v := int64(a)
	if c.from.signed {
		v = s(a, uint(8*c.from.bytes))
	}
	bits := uint(8 * c.to.bytes)
	if c.sat {
		v = c.clamp(v)
	}
	if c.to.signed {
		return uint64(s(uint64(v), bits))
	}
	return uint64(v) << (64 - bits) >> (64 - bits)
}

// exactly picks the number that is rounded to odd for formats below float64, and the nearest for that itself.
func (c *conversion) exactly(odd, nearest float64) float64 {
	if c.to.bytes == 8 {
		return nearest
	}
	return odd
}

// float rounds x to the type of the result.
func (c *conversion) float(x float64) uint64 {
	if c.sat {
		x = clamp01(x)
	}
	if c.relu {
		x = positive(x)
	}
	if c.to.bytes == 8 {
		return math.Float64bits(x)
	}
	bits := c.to.format.round(x, c.mode)
	if c.ftz && c.to.format == single {
		bits = f32bits(float32(flush(single.value(bits))))
	}
	return bits
}

// integer rounds x to the type of the result: too large and too small numbers become the nearest. NaN becomes 0, or the
// highest bit alone where one of the types has 64 bits.
func (c *conversion) integer(x float64) uint64 {
	bits := 8 * c.to.bytes
	low, high := 0.0, math.Ldexp(1, bits)
	if c.to.signed {
		low, high = -math.Ldexp(1, bits-1), math.Ldexp(1, bits-1)
	}
	switch {
	case x != x && (bits == 64 || c.from.bytes == 8):
		return 1 << (bits - 1)
	case x != x:
		return 0
	case x >= high && c.to.signed:
		return 1<<(bits-1) - 1
	case x >= high:
		return math.MaxUint64 >> (64 - bits)
	case x <= low:
		return uint64(int64(low))
	case c.to.signed:
		return uint64(int64(x))
	}
	return uint64(x)
}

// clamp is .sat between integers.
func (c *conversion) clamp(v int64) int64 {
	bits := 8 * c.to.bytes
	if !c.from.signed && v < 0 { // a large unsigned number
		if !c.to.signed && bits == 64 {
			return v
		}
		v = math.MaxInt64
	}
	switch {
	case !c.to.signed && bits == 64:
		return max(v, 0)
	case !c.to.signed:
		return max(0, min(v, 1<<bits-1))
	case bits == 64:
		return v
	}
	return max(-1<<(bits-1), min(v, 1<<(bits-1)-1))
}

func whole(x float64, mode rounding) float64 {
	switch mode {
	case towardZero:
		return math.Trunc(x)
	case downward:
		return math.Floor(x)
	case upward:
		return math.Ceil(x)
	}
	return math.RoundToEven(x)
}

func widen[T int32 | uint32](w *warp, in *inst, d int32) {
	z, x := reg[int64](w, d), reg[T](w, in.a)
	for l := range z {
		z[l] = int64(x[l])
	}
}

func truncate(w *warp, in *inst, d int32) {
	z, x := &w.words[d], &w.longs[in.a]
	for l := range z {
		z[l] = uint32(x[l])
	}
}

func toSingle[T int32 | uint32](w *warp, in *inst, d int32) {
	z, x := reg[float32](w, d), reg[T](w, in.a)
	for l := range z {
		z[l] = float32(float64(x[l]))
	}
}

func toDouble(w *warp, in *inst, d int32) {
	z, x := reg[float64](w, d), reg[float32](w, in.a)
	for l := range z {
		z[l] = float64(x[l])
	}
}

func fromDouble(w *warp, in *inst, d int32) {
	z, x := reg[float32](w, d), reg[float64](w, in.a)
	for l := range z {
		z[l] = float32(x[l])
	}
}

// bfloat16 rounds a float32's bits to the nearest bfloat16.
func bfloat16(u uint32) uint32 {
	if u&0x7fffffff > 0x7f800000 {
		return uint32(bfloat.nan)
	}
	return (u + 0x7fff + u>>16&1) >> 16
}

func toBfloat(w *warp, in *inst, d int32) {
	z, x := &w.words[d], &w.words[in.a]
	for l := range z {
		z[l] = bfloat16(x[l])
	}
}

func toBfloatPair(w *warp, in *inst, d int32) {
	z, x, y := &w.words[d], &w.words[in.a], &w.words[in.b]
	for l := range z {
		z[l] = bfloat16(x[l])<<16 | bfloat16(y[l])
	}
}

func fromBfloat(w *warp, in *inst, d int32) {
	z, x := &w.words[d], &w.words[in.a]
	for l := range z {
		z[l] = x[l] << 16
	}
}

func fromHalf(w *warp, in *inst, d int32) {
	z, x := reg[float32](w, d), &w.words[in.a]
	for l := range z {
		z[l] = halfValue(uint16(x[l]))
	}
}
