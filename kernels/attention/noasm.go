//go:build !amd64 || purego

package attention

func multiply(p *product) { multiplyGeneric(p) }

func packPanel(dst, x []float32, ld, m, d int) { packPanelGeneric(dst, x, ld, m, d) }
