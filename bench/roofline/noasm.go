//go:build !amd64 || purego

package roofline

func multiplyAdd(acc *[192]float32, x, y float32, steps int) { multiplyAddGeneric(acc, x, y, steps) }

func sum(src []float32) float32 { return sumGeneric(src) }

// No form has instructions for narrow values.
func dotBF16(acc *[256]float32, x, y uint32, steps int) int { return 0 }
func dotI8(acc *[256]int32, x, y uint32, steps int) int     { return 0 }
