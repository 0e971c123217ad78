package tensor

// Work is what a recording takes of a device, at the least: the roofs of its time.
type Work struct {
	FLOPs    float64 // of products, convolutions and attention: two for each multiply-add
	Weights  int     // bytes of what is multiplied by, and of what an optimizer reads and writes, which may be in no cache
	Maps     int     // bytes that these read and write besides, most of them in the second-level cache
	Launches int
}

// Work is that of the last Run or Capture.
func (q *Queue) Work() Work { return q.work }

// worked adds a product: so many multiply-adds, bytes of weights, and what it reads and writes.
func (q *Queue) worked(madds float64, weights int, maps ...Buffer) {
	if q.mode != counting {
		return
	}
	w := &q.work
	w.FLOPs += 2 * madds
	w.Weights += weights
	for _, b := range maps {
		if !b.None() {
			w.Maps += b.Rows * b.Cols * b.Precision.bytes()
		}
	}
}

func (w *Work) add(more Work) {
	w.FLOPs += more.FLOPs
	w.Weights += more.Weights
	w.Maps += more.Maps
	w.Launches += more.Launches
}
