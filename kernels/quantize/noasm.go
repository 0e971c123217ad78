//go:build !amd64 || purego

package quantize

func narrowBF16(dst []uint16, src []float32)       { narrowBF16Generic(dst, src) }
func widenBF16(dst []float32, src []uint16)        { widenBF16Generic(dst, src) }
func span(src []float32) (low, high, peak float32) { return spanGeneric(src) }
func roundU8(q []uint8, src []float32, inverse float32, zero int32) {
	roundU8Generic(q, src, inverse, zero)
}
func peak(src []float32) float32                     { return peakGeneric(src) }
func roundI8(q []int8, src []float32, scale float32) { roundI8Generic(q, src, scale) }
func widenI8(dst []float32, q []int8, scale float32) { widenI8Generic(dst, q, scale) }
