package flow

import (
	"slices"

	"netfusion/tensor"
)

// gpuSlab is how a Flow's parameters lie on a GPU while it is trained: each matrix with its rows at multiples of gpuUnit values and zeros
// in the gaps, as products want them, and what is to decay apart from what is not. Gradients, moments and averages lie alike. Gaps
// stay as they are: their gradients are zero.
type gpuSlab struct {
	pieces  []*gpuPiece
	size    int
	regions [3]int // where the matrices end that decay, the class head's, and the rest, which does not
	scales  [2]int // the scales of all ActNorms
}

// gpuPiece is a parameter of the slab.
type gpuPiece struct {
	param       *Param
	kind        gpuKind
	rows, width int   // of a matrix; a vector has one row
	columns     []int // where the values of a row are, or nil if they come first
	gap         float32
	begin       int // in the slab
}

type gpuKind uint8

// The kinds of parameters, in the order of the slab.
const (
	matrixKind gpuKind = iota
	headKind
	scaleKind
	vectorKind
)

// place gives the pieces their places.
func (s *gpuSlab) place() {
	slices.SortStableFunc(s.pieces, func(a, b *gpuPiece) int { return int(a.kind) - int(b.kind) })
	ends := [4]int{}
	for _, p := range s.pieces {
		p.begin = s.size
		s.size += up(p.rows * p.width)
		for k := p.kind; int(k) < len(ends); k++ {
			ends[k] = s.size
		}
	}
	s.regions = [3]int{ends[matrixKind], ends[headKind], ends[vectorKind]}
	s.scales = [2]int{ends[headKind], ends[scaleKind]}
}

// matrix views a piece of a slab.
func (p *gpuPiece) matrix(slab tensor.Array[float32]) tensor.Buffer {
	return tensor.Matrix(p.vector(slab), p.rows, p.width)
}

func (p *gpuPiece) vector(slab tensor.Array[float32]) tensor.Array[float32] {
	return slab.Slice(p.begin, p.begin+p.rows*p.width)
}

// gpuView is so many pieces of one shape, one right behind the other.
type gpuView struct {
	*gpuPiece
	count int
}

func (v gpuView) matrix(slab tensor.Array[float32]) tensor.Buffer {
	return tensor.Matrix(v.vector(slab), v.count*v.rows, v.width)
}

func (v gpuView) vector(slab tensor.Array[float32]) tensor.Array[float32] {
	return slab.Slice(v.begin, v.begin+v.count*v.rows*v.width)
}

// at is where value i of a row is.
func (p *gpuPiece) at(i int) int {
	if p.columns == nil {
		return i
	}
	return p.columns[i]
}

// each calls do with each value's place among the parameters and in the piece.
func (p *gpuPiece) each(do func(host, device int)) {
	shape := p.param.Shape
	n := shape[len(shape)-1]
	for i := range p.param.Len {
		do(i, i/n*p.width+p.at(i%n))
	}
}

// upload copies values, laid out as Flow.Values, to a slab; of parameters, whose gaps are not all zero.
func (s *gpuSlab) upload(q *tensor.Queue, to tensor.Array[float32], values []float32, parameters bool) error {
	for _, p := range s.pieces {
		from, piece := values[p.param.Begin:][:p.param.Len], make([]float32, p.rows*p.width)
		if parameters && p.gap != 0 {
			piece = constant(len(piece), p.gap)
		}
		p.each(func(host, device int) { piece[device] = from[host] })
		if err := tensor.Set(q, p.vector(to), piece); err != nil {
			return err
		}
	}
	return nil
}

// download is upload the other way.
func (s *gpuSlab) download(q *tensor.Queue, values []float32, from tensor.Array[float32]) error {
	for _, p := range s.pieces {
		to, piece := values[p.param.Begin:][:p.param.Len], make([]float32, p.rows*p.width)
		if err := tensor.Get(q, piece, p.vector(from)); err != nil {
			return err
		}
		p.each(func(host, device int) { to[host] = piece[device] })
	}
	return nil
}

// slabBuilder collects the pieces of a Flow.
type slabBuilder struct {
	gpuSlab
	params map[int]*Param // by where they begin
}

func (f *Flow) slabBuilder() *slabBuilder {
	b := &slabBuilder{params: map[int]*Param{}}
	for i := range f.params {
		b.params[f.params[i].Begin] = &f.params[i]
	}
	return b
}

// add takes up the parameter that begins at begin.
func (b *slabBuilder) add(begin int, kind gpuKind, rows, width int, columns []int) *gpuPiece {
	p := &gpuPiece{param: b.params[begin], kind: kind, rows: rows, width: width, columns: columns}
	b.pieces = append(b.pieces, p)
	return p
}
