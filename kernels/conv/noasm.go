//go:build !amd64 || purego

package conv

func (s Scheme) input(dst []float32, ld int, win *window, _ *room) { s.inputGeneric(dst, ld, win) }

func (s Scheme) output(dst *patch, m []float32, ld int, _ *room) { s.outputGeneric(dst, m, ld) }

func maxPool(dst, x []float32, right, down int) { maxPoolGeneric(dst, x, right, down) }
