package ptx

import "math"

var floatForms = func() map[string]formOf {
	t := map[string]formOf{}
	for _, op := range []string{"add", "add.rn"} {
		t[op+".f32"], t[op+".f64"] = of("w=ww", add[float32]), of("l=ll", add[float64])
	}
	for _, op := range []string{"sub", "sub.rn"} {
		t[op+".f32"], t[op+".f64"] = of("w=ww", sub[float32]), of("l=ll", sub[float64])
	}
	for _, op := range []string{"mul", "mul.rn"} {
		t[op+".f32"], t[op+".f64"] = of("w=ww", mul[float32]), of("l=ll", mul[float64])
	}
	for _, op := range []string{"fma.rn", "mad.rn"} {
		t[op+".f32"] = of("w=www", fmaSingle)
		t[op+".f64"] = each("l=lll", func(a, b, c uint64) uint64 {
			return math.Float64bits(math.FMA(math.Float64frombits(a), math.Float64frombits(b), math.Float64frombits(c)))
		})
	}
	t["neg.f32"], t["abs.f32"] = of("w=w", negSingle), of("w=w", absSingle)
	t["neg.f64"] = each("l=l", func(a, _, _ uint64) uint64 { return a ^ 1<<63 })
	t["abs.f64"] = each("l=l", func(a, _, _ uint64) uint64 { return a &^ (1 << 63) })
	t["copysign.f32"] = each("w=ww", func(a, b, _ uint64) uint64 { return a&(1<<31) | b&^(1<<31) })
	t["copysign.f64"] = each("l=ll", func(a, b, _ uint64) uint64 { return a&(1<<63) | b&^(1<<63) })
	t["min.f32"], t["max.f32"] = of("w=ww", minSingle), of("w=ww", maxSingle)
	t["div.rn.f32"] = of("w=ww", divSingle)

	roundedForms(t)
	approximateForms(t)
	doubleForms(t)
	return t
}()

// flush makes a subnormal float32 zero, as .ftz asks.
func flush(x float64) float64 {
	if x < 0x1p-126 && x > -0x1p-126 {
		return math.Copysign(0, x)
	}
	return x
}

func clamp01(x float64) float64 {
	if !(x > 0) { // NaN, too
		return 0
	}
	return min(x, 1)
}

// exactly are operations on float32 with their result in float64, rounded to odd where float64 cannot hold it.
var exactly = []struct {
	op, banks string
	plain     bool // without a mode of rounding it means .rn
	saturates bool // there is a .sat of it
	f         func(a, b, c float64) float64
}{
	{"add", "w=ww", true, true, func(a, b, _ float64) float64 { return sumOdd(a, b) }},
	{"sub", "w=ww", true, true, func(a, b, _ float64) float64 { return sumOdd(a, -b) }},
	{"mul", "w=ww", true, true, func(a, b, _ float64) float64 { return a * b }},
	{"fma", "w=www", false, true, func(a, b, c float64) float64 { return sumOdd(float64(a*b), c) }},
	{"div", "w=ww", false, false, func(a, b, _ float64) float64 { return quotientOdd(a, b) }},
	{"rcp", "w=w", false, false, func(a, _, _ float64) float64 { return quotientOdd(1, a) }},
	{"sqrt", "w=w", false, false, func(a, _, _ float64) float64 { return rootOdd(a) }},
}

// roundedForms are the float32 operations in every mode of rounding, with .ftz and .sat.
func roundedForms(t map[string]formOf) {
	modes := map[string]rounding{"": nearestEven, ".rn": nearestEven, ".rz": towardZero, ".rm": downward, ".rp": upward}
	for _, x := range exactly {
		for name, mode := range modes {
			if name == "" && !x.plain {
				continue
			}
			for _, ftz := range []bool{false, true} {
				for _, sat := range []bool{false, true} {
					if sat && !x.saturates {
						continue
					}
					opcode, f := x.op+name, x.f
					if ftz {
						opcode += ".ftz"
					}
					if sat {
						opcode += ".sat"
					}
					opcode += ".f32"
					if _, fast := t[opcode]; fast {
						continue
					}
					t[opcode] = each(x.banks, func(a, b, c uint64) uint64 {
						u, v, w := single.value(a), single.value(b), single.value(c)
						if ftz {
							u, v, w = flush(u), flush(v), flush(w)
						}
						r := f(u, v, w)
						if sat {
							r = clamp01(r)
						}
						bits := single.round(r, mode)
						if ftz {
							bits = f32bits(float32(flush(single.value(bits))))
						}
						return bits
					})
				}
			}
		}
	}
}

// approximateForms are exact here: a device is off by some ulp, which a test of a kernel has to allow.
func approximateForms(t map[string]formOf) {
	unary := map[string]func(x float64) float64{
		"ex2": math.Exp2, "lg2": math.Log2, "sin": math.Sin, "cos": math.Cos, "tanh": math.Tanh,
		"rcp": func(x float64) float64 { return 1 / x }, "sqrt": math.Sqrt,
		"rsqrt": func(x float64) float64 { return 1 / math.Sqrt(x) },
	}
	for op, f := range unary {
		t[op+".approx.f32"] = each("w=w", func(a, _, _ uint64) uint64 { return f32bits(float32(f(single.value(a)))) })
		if op == "tanh" {
			continue // has no .ftz
		}
		t[op+".approx.ftz.f32"] = each("w=w", func(a, _, _ uint64) uint64 {
			return f32bits(float32(flush(f(flush(single.value(a))))))
		})
	}
	t["div.full.f32"] = of("w=ww", divSingle)
	t["div.full.ftz.f32"] = each("w=ww", func(a, b, _ uint64) uint64 {
		return f32bits(float32(flush(flush(single.value(a)) / flush(single.value(b)))))
	})
	// a·(1/b), whose reciprocal is 0 for a large b.
	t["div.approx.f32"] = each("w=ww", func(a, b, _ uint64) uint64 {
		if math.Abs(single.value(b)) > 0x1p126 {
			b = b&(1<<31) | 0x7f800000
		}
		return f32bits(float32(single.value(a) / single.value(b)))
	})
	t["div.approx.ftz.f32"] = each("w=ww", func(a, b, _ uint64) uint64 {
		if math.Abs(single.value(b)) > 0x1p126 {
			b = b&(1<<31) | 0x7f800000
		}
		return f32bits(float32(flush(flush(single.value(a)) / flush(single.value(b)))))
	})
	for _, x := range []struct {
		name string
		f    func(a, b float64) float64
	}{{"min.f32", minimum}, {"max.f32", maximum}, {"min.NaN.f32", nanMinimum}, {"max.NaN.f32", nanMaximum}} {
		if _, fast := t[x.name]; !fast {
			t[x.name] = each("w=ww", func(a, b, _ uint64) uint64 {
				return single.round(x.f(single.value(a), single.value(b)), nearestEven)
			})
		}
		t[x.name[:3]+".ftz"+x.name[3:]] = each("w=ww", func(a, b, _ uint64) uint64 {
			return single.round(x.f(flush(single.value(a)), flush(single.value(b))), nearestEven)
		})
	}
	t["neg.ftz.f32"] = each("w=w", func(a, _, _ uint64) uint64 { return f32bits(float32(-flush(single.value(a)))) })
	t["abs.ftz.f32"] = each("w=w", func(a, _, _ uint64) uint64 { return f32bits(float32(math.Abs(flush(single.value(a))))) })
}

func doubleForms(t map[string]formOf) {
	double := func(banks string, f func(a, b float64) float64) formOf {
		return each(banks, func(a, b, _ uint64) uint64 {
			return math.Float64bits(f(math.Float64frombits(a), math.Float64frombits(b)))
		})
	}
	t["div.rn.f64"] = double("l=ll", func(a, b float64) float64 { return a / b })
	t["rcp.rn.f64"] = double("l=l", func(a, _ float64) float64 { return 1 / a })
	t["rcp.approx.ftz.f64"] = t["rcp.rn.f64"]
	t["sqrt.rn.f64"] = double("l=l", func(a, _ float64) float64 { return math.Sqrt(a) })
	t["rsqrt.approx.f64"] = double("l=l", func(a, _ float64) float64 { return 1 / math.Sqrt(a) })
	t["rsqrt.approx.ftz.f64"] = t["rsqrt.approx.f64"]
	t["min.f64"], t["max.f64"] = double("l=ll", minimum), double("l=ll", maximum)
}

// minimum is the smaller number, the other one where one is NaN; -0 is smaller than 0.
func minimum(a, b float64) float64 {
	if a != a {
		return b
	} else if b != b {
		return a
	}
	return min(a, b)
}

func maximum(a, b float64) float64 {
	if a != a {
		return b
	} else if b != b {
		return a
	}
	return max(a, b)
}

func nanMinimum(a, b float64) float64 { return min(a, b) }
func nanMaximum(a, b float64) float64 { return max(a, b) }

func fmaSingle(w *warp, in *inst, d int32) {
	z, x, y, c := reg[float32](w, d), reg[float32](w, in.a), reg[float32](w, in.b), reg[float32](w, in.c)
	for l := range z {
		z[l] = fma32(x[l], y[l], c[l])
	}
}

func divSingle(w *warp, in *inst, d int32) {
	z, x, y := reg[float32](w, d), reg[float32](w, in.a), reg[float32](w, in.b)
	for l := range z {
		z[l] = x[l] / y[l]
	}
}

func negSingle(w *warp, in *inst, d int32) {
	z, x := &w.words[d], &w.words[in.a]
	for l := range z {
		z[l] = x[l] ^ 1<<31
	}
}

func absSingle(w *warp, in *inst, d int32) {
	z, x := &w.words[d], &w.words[in.a]
	for l := range z {
		z[l] = x[l] &^ (1 << 31)
	}
}

func minSingle(w *warp, in *inst, d int32) {
	z, x, y := reg[float32](w, d), reg[float32](w, in.a), reg[float32](w, in.b)
	for l := range z {
		a, b := x[l], y[l]
		if a != a {
			a = b
		} else if b != b {
			b = a
		}
		z[l] = min(a, b)
	}
}

func maxSingle(w *warp, in *inst, d int32) {
	z, x, y := reg[float32](w, d), reg[float32](w, in.a), reg[float32](w, in.b)
	for l := range z {
		a, b := x[l], y[l]
		if a != a {
			a = b
		} else if b != b {
			b = a
		}
		z[l] = max(a, b)
	}
}
