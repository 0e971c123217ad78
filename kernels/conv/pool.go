package conv

// MaxPool writes the largest of each 2×2 pixels of x, an image [h][w] of c channels with ldx values between pixels:
// dst is [h/2][w/2][c]. h and w must be even.
func MaxPool(dst, x []float32, ldx, h, w, c int) {
	if h <= 0 || w <= 0 || h%2 != 0 || w%2 != 0 || c <= 0 || ldx < c {
		panic("conv: bad size")
	}
	if len(dst) < h/2*w/2*c {
		panic("conv: dst too short")
	}
	if len(x) < (h*w-1)*ldx+c {
		panic("conv: x too short")
	}
	for y := 0; y < h; y += 2 {
		for i := 0; i < w; i += 2 {
			maxPool(dst[(y/2*w/2+i/2)*c:][:c], x[(y*w+i)*ldx:], ldx, w*ldx)
		}
	}
}
