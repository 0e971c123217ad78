//go:build !amd64 || purego

package conv

func (s Scheme) input(dst []float32, ld int, win *window, run int, _ *room) {
	s.inputGeneric(dst, ld, win, run)
}

func (s Scheme) output(dst *patch, m []float32, ld, ldm, run int, _ *room) {
	s.outputGeneric(dst, m, ld, ldm, run)
}

func maxPool(dst, x []float32, right, down int) { maxPoolGeneric(dst, x, right, down) }
