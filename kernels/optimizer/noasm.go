//go:build !amd64 || purego

package optimizer

func (c *constants) adam(p, g, m, v []float32)          { c.adamGeneric(p, g, m, v) }
func (c *constants) amsgrad(p, g, m, v, peak []float32) { c.amsgradGeneric(p, g, m, v, peak) }
func average(ema, p []float32, c float32)               { averageGeneric(ema, p, c) }
func sumSquares(sums *[32]float64, g []float32)         { sumSquaresGeneric(sums, g) }
