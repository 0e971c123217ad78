package roofline

// multiplyAddGeneric replaces each v of the first 12 values of acc by v·x + y, steps times (at least once). They stay in
// registers, and no product is like another, which a compiler would then do once.
func multiplyAddGeneric(acc *[192]float32, x, y float32, steps int) {
	a, b, c, d, e, f := acc[0], acc[1], acc[2], acc[3], acc[4], acc[5]
	g, h, i, j, k, l := acc[6], acc[7], acc[8], acc[9], acc[10], acc[11]
	for range steps {
		a = a*x + y
		b = b*x + y
		c = c*x + y
		d = d*x + y
		e = e*x + y
		f = f*x + y
		g = g*x + y
		h = h*x + y
		i = i*x + y
		j = j*x + y
		k = k*x + y
		l = l*x + y
	}
	acc[0], acc[1], acc[2], acc[3], acc[4], acc[5] = a, b, c, d, e, f
	acc[6], acc[7], acc[8], acc[9], acc[10], acc[11] = g, h, i, j, k, l
}

// sumGeneric adds up src, whose length is a multiple of 128 and not 0.
func sumGeneric(src []float32) float32 {
	var a, b, c, d, e, f, g, h float32
	for ; len(src) >= 8; src = src[8:] {
		a += src[0]
		b += src[1]
		c += src[2]
		d += src[3]
		e += src[4]
		f += src[5]
		g += src[6]
		h += src[7]
	}
	return (a + b) + (c + d) + (e + f) + (g + h)
}
