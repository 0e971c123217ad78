//go:build !amd64 || purego

package attention

func multiply(p *product) { multiplyGeneric(p) }

func packPanel(dst, k []float32, ld, keys, d int) { packPanelGeneric(dst, k, ld, keys, d) }
