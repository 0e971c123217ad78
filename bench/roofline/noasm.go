//go:build !amd64 || purego

package roofline

func multiplyAdd(acc *[192]float32, x, y float32, steps int) { multiplyAddGeneric(acc, x, y, steps) }

func sum(src []float32) float32 { return sumGeneric(src) }
