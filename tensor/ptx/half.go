package ptx

import "math"

// halfForms is arithmetic on f16 and bf16, alone and in pairs, computed in float64 and rounded once.
var halfForms = func() map[string]formOf {
	t := map[string]formOf{}
	for name, f := range map[string]format{"f16": half, "bf16": bfloat} {
		put := func(opcode, banks string, op func(a, b, c float64) float64) {
			one := func(a, b, c uint64) uint64 { return f.round(op(f.value(a), f.value(b), f.value(c)), nearestEven) }
			t[opcode+"."+name] = each(banks, one)
			t[opcode+"."+name+"x2"] = each(banks, pairs(one))
		}
		product := func(a, b, c float64) float64 { return sumOdd(float64(a*b), c) }
		put("fma.rn", "w=www", product)
		put("fma.rn.relu", "w=www", func(a, b, c float64) float64 { return positive(product(a, b, c)) })
		if name == "f16" { // sums, products and functions of bf16 are instructions of sm_90
			for _, rn := range []string{"", ".rn"} {
				put("add"+rn, "w=ww", func(a, b, _ float64) float64 { return sumOdd(a, b) })
				put("sub"+rn, "w=ww", func(a, b, _ float64) float64 { return sumOdd(a, -b) })
				put("mul"+rn, "w=ww", func(a, b, _ float64) float64 { return a * b })
			}
			put("fma.rn.sat", "w=www", func(a, b, c float64) float64 { return clamp01(product(a, b, c)) })
			put("ex2.approx", "w=w", func(a, _, _ float64) float64 { return math.Exp2(a) })
			put("tanh.approx", "w=w", func(a, _, _ float64) float64 { return math.Tanh(a) })
		}
		put("min", "w=ww", func(a, b, _ float64) float64 { return minimum(a, b) })
		put("max", "w=ww", func(a, b, _ float64) float64 { return maximum(a, b) })
		put("min.NaN", "w=ww", func(a, b, _ float64) float64 { return nanMinimum(a, b) })
		put("max.NaN", "w=ww", func(a, b, _ float64) float64 { return nanMaximum(a, b) })
		t["neg."+name] = each("w=w", func(a, _, _ uint64) uint64 { return a ^ 0x8000 })
		t["abs."+name] = each("w=w", func(a, _, _ uint64) uint64 { return a &^ 0x8000 })
		t["neg."+name+"x2"] = each("w=w", func(a, _, _ uint64) uint64 { return a ^ 0x80008000 })
		t["abs."+name+"x2"] = each("w=w", func(a, _, _ uint64) uint64 { return a &^ 0x80008000 })
	}
	return t
}()

// positive is .relu: x, or 0 where x is negative. NaN stays.
func positive(x float64) float64 {
	if x > 0 || x != x {
		return x
	}
	return 0
}

// pairs applies f to both halves of words.
func pairs(f func(a, b, c uint64) uint64) func(a, b, c uint64) uint64 {
	return func(a, b, c uint64) uint64 {
		return f(a&0xffff, b&0xffff, c&0xffff) | f(a>>16, b>>16, c>>16)<<16
	}
}
