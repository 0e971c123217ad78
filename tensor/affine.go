package tensor

type affineJob struct {
	dst, x Tensor
	a      Affine
	pixels int // per image
	rows   int // of a tile
}

// ReLUAffine computes dst = max(0, scale·x + offset) with one row of a per image: x and dst are [N·pixels][C]; dst may
// be x.
func (d *Device) ReLUAffine(dst, x Tensor, a Affine) {
	images := a.Scale.Rows
	if dst.Rows != x.Rows || dst.Cols != x.Cols || images == 0 || x.Rows%images != 0 || !a.fits(images, x.Cols) {
		panic("tensor: ReLUAffine shapes differ")
	}
	const values = 1 << 14 // of a tile
	j := &d.affine
	*j = affineJob{dst: dst, x: x, a: a, pixels: x.Rows / images, rows: max(1, values/x.Cols)}
	d.pool.Run(j, (x.Rows+j.rows-1)/j.rows)
	*j = affineJob{}
}

func (j *affineJob) Tile(i int) {
	p, c := i*j.rows, j.x.Cols
	m := min(j.rows, j.x.Rows-p)
	j.a.apply(j.dst.Data[p*c:], c, j.x.Data[p*c:], c, m, p, j.pixels, 0, c)
}
