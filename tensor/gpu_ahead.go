package tensor

// Ahead hands out the weights of a network, in the order in which they are multiplied, to launches that bring them into the
// second-level cache: weights depend on no activation, so they need not wait for one.
type Ahead struct {
	weights []GPUWeight
	next    int // to be handed out
	current int // to be multiplied
	waiting int // bytes handed out and not multiplied yet
	room    int
}

// NewAhead prepares for weights in that order.
func (g *GPU) NewAhead(weights []GPUWeight) Ahead {
	return Ahead{weights: weights, room: g.attributes.L2 / 4}
}

// Next is what a launch that multiplies none of the weights may bring in: the first that is not on its way yet, or none if as much is
// waiting as suits the cache.
func (a *Ahead) Next() GPUWeight {
	if a.next == len(a.weights) {
		return GPUWeight{}
	}
	w := a.weights[a.next]
	if a.waiting > 0 && a.waiting+w.bytes() > a.room {
		return GPUWeight{}
	}
	a.next++
	a.waiting += w.bytes()
	return w
}

// Multiply is Next for the launch that multiplies the first of the weights that was not yet.
func (a *Ahead) Multiply() GPUWeight {
	if a.current < a.next {
		a.waiting -= a.weights[a.current].bytes()
	} else {
		a.next++
	}
	a.current++
	return a.Next()
}
