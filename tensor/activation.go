package tensor

import "netfusion/kernels/activation"

type preluJob struct {
	x     []float32
	slope float32
}

const preluTile = 1 << 14 // values

// PReLU replaces every value of x by itself where it is positive and by slope times itself elsewhere, 0 <= slope <= 1.
func (d *Device) PReLU(x Tensor, slope float32) {
	j := &d.prelu
	*j = preluJob{x.Data, slope}
	d.pool.Run(j, (len(x.Data)+preluTile-1)/preluTile)
	*j = preluJob{}
}

func (j *preluJob) Tile(i int) {
	x := j.x[i*preluTile : min((i+1)*preluTile, len(j.x))]
	activation.PReLU(x, x, j.slope)
}
