package program

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"netfusion/kernels/matmul"
)

// step is program.cu's Step, before its addresses and numbers are laid out.
type step struct {
	x, y, z, out, copy                             Matrix
	weights, bias, scale, index, gamma, beta, more uint64
	stride, bytes, height, chunks                  int
	op                                             op
	m, n, k                                        int
	begin, depth, across                           int
	number                                         float32
	act, normAct                                   matmul.Act
	flags                                          flag
}

type op uint32

const (
	multiplyOp op = iota
	coupleOp
	moveOp
	attendOp
	poolOp
	embedOp
)

type flag uint32

const (
	firstPage flag = 1 << iota
	lastPage
	unitLength
	fixedMoments
)

const (
	stepBytes = 208
	columns   = 16 // of a tile
	mostRows  = 32
	pageWidth = 128 // chunks of 16 bytes of a row of a page, at most: 1024 values of bfloat16
	mostPages = 8
)

// append lays s out as the kernel's struct.
func (s *step) append(b []byte) []byte {
	for _, m := range []Matrix{s.x, s.y, s.z, s.out, s.copy} {
		b = binary.LittleEndian.AppendUint64(b, m.At)
		b = binary.LittleEndian.AppendUint32(b, uint32(m.Ld))
		b = binary.LittleEndian.AppendUint32(b, uint32(m.Kind))
	}
	for _, v := range []uint64{s.weights, s.bias, s.scale, s.index, s.gamma, s.beta, s.more} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	for _, v := range []int{s.stride, s.bytes, s.height, s.chunks, int(s.op), s.m, s.n, s.k, s.begin, s.depth, s.across} {
		b = binary.LittleEndian.AppendUint32(b, uint32(v))
	}
	b = binary.LittleEndian.AppendUint32(b, math.Float32bits(s.number))
	for _, v := range []uint32{uint32(s.act), uint32(s.normAct), uint32(s.flags)} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return append(b, make([]byte, roundUp(len(b), 16)-len(b))...)
}

// encoder deals instructions out.
type encoder struct {
	program *Program
	machine Machine
	blocks  [][]step
	next    int    // block that gets the next tile
	written []bool // words, by the instructions so far

	page, work, parts int // the most bytes that a step takes of each
}

// deal gives a tile's steps to the next block.
func (e *encoder) deal(steps ...step) {
	b := &e.blocks[e.next]
	*b = append(*b, steps...)
	e.next = (e.next + 1) % len(e.blocks)
}

// all gives every block a step.
func (e *encoder) all(s step) {
	for i := range e.blocks {
		e.blocks[i] = append(e.blocks[i], s)
	}
}

var (
	errKind    = errors.New("a matrix of a kind that does not go there")
	errShape   = errors.New("sizes that do not fit")
	errUnread  = errors.New("words are read before they are written")
	errWritten = errors.New("words are written twice")
	errOutside = errors.New("a matrix outside the Program's memory")
)

// reads checks that the values of m [rows][n] are there, and that m is of one of the kinds.
func (e *encoder) reads(m Matrix, rows, n int, kinds ...Kind) error {
	return e.touch(m, rows, n, kinds, func(written *bool) error {
		if !*written {
			return errUnread
		}
		return nil
	})
}

// writes notes that m [rows][n] is written.
func (e *encoder) writes(m Matrix, rows, n int, kinds ...Kind) error {
	return e.touch(m, rows, n, kinds, func(written *bool) error {
		if *written {
			return errWritten
		}
		*written = true
		return nil
	})
}

func (e *encoder) touch(m Matrix, rows, n int, kinds []Kind, word func(written *bool) error) error {
	known := false
	for _, k := range kinds {
		known = known || m.Kind == k
	}
	words := m.Kind.words(n)
	switch {
	case !known:
		return errKind
	case m.Kind == None:
		return nil
	case rows < 1 || n < 1 || m.Ld < words && rows > 1:
		return errShape
	case m.Kind == Plain:
		return nil
	case m.Kind == Local:
		if rows > 1<<16 || m.At+uint64((rows-1)*m.Ld+n) > uint64(e.program.local) {
			return errOutside
		}
		return nil
	case m.At%16 != 0 || m.Ld%2 != 0:
		return errShape
	}
	for i := range rows {
		at := int(m.At)/8 + i*m.Ld
		if at+words > len(e.written) {
			return errOutside
		}
		for j := range words {
			if err := word(&e.written[at+j]); err != nil {
				return err
			}
		}
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// across is the logarithm of how many threads share a row, of m rows of units.
func across(m, units int) int {
	room := bits.Len(uint(Threads/m)) - 1
	if m > Threads {
		room = 0
	}
	return min(room, bits.Len(uint(max(units, 1)-1)))
}

func roundUp(n, unit int) int { return (n + unit - 1) / unit * unit }

// pitch is the kernel's.
func pitch(chunks int) int { return 16*chunks | 64 }

// rows is how many rows a tile of x has: few tiles leave blocks idle, low ones read the weights more often, high ones more of x.
func (x *MatMul) rows(e *encoder) int {
	if x.M <= 8 {
		return x.M
	}
	// In bytes that a block reads in the time: what a step takes besides, and the normalisation of a value.
	const step, norm = 40 << 10, 6
	best, least := 8, math.Inf(1)
	perRow := 8 * x.K
	if x.X.Kind == Pair {
		perRow = 4 * x.K
	}
	if x.Norm != nil {
		perRow += norm * x.K
	}
	for rows := 8; rows <= mostRows; rows *= 2 {
		tiles := (x.N + columns - 1) / columns * ((x.M + rows - 1) / rows)
		rounds := (tiles + len(e.blocks) - 1) / len(e.blocks)
		cost := float64(rounds * (step + columns*x.K*e.program.Format.size() + rows*perRow))
		if cost < least && (rows == 8 || x.work(e, rows) <= e.machine.Shared/3) {
			best, least = rows, cost
		}
	}
	return best
}

// depth is how many chunks of 16 bytes a row of x is as an operand.
func (x *MatMul) depth(f Format) int { return roundUp((x.K*f.size()+15)/16, 4) }

// work is how many bytes of work memory so many rows take.
func (x *MatMul) work(e *encoder, rows int) int {
	f := e.program.Format
	bytes := rows * pitch(x.depth(f))
	if x.Norm != nil || f == Int8 {
		bytes += rows * roundUp(x.K, 4) * 4
	}
	return bytes
}

func (x *MatMul) check(e *encoder) error {
	w, f := x.Weights, e.program.Format
	if x.M < 1 || x.N < 1 || x.K < 1 || w.At%16 != 0 || w.Stride%16 != 0 || w.Stride < x.K*f.size() || f == Int8 && (w.Scale == 0 || w.Sum == 0) {
		return errShape
	}
	kinds := []Kind{Plain, Local, Single, Pair}
	if x.Norm != nil || f == Int8 {
		kinds = kinds[:3] // they become float32 first, of which nothing is to be lost
	}
	err := firstError(e.reads(x.X, x.M, x.K, kinds...), e.reads(x.Residual, x.M, x.N, None, Plain, Single))
	if err == nil && x.Norm != nil && x.Norm.Copy.Kind != None {
		err = e.writes(x.Norm.Copy, x.M, x.K, Single, Pair)
	}
	if err != nil {
		return err
	}
	return e.writes(x.Out, x.M, x.N, Plain, Single, Pair)
}

func (x *MatMul) encode(e *encoder) error {
	if err := x.check(e); err != nil {
		return err
	}
	f, w := e.program.Format, x.Weights
	height, depth, row := x.rows(e), x.depth(f), roundUp(x.K*f.size(), 16)
	const usual = 3 // pages, which half of the memory should have room for
	width := max(4, min(pageWidth, e.machine.Shared/2/usual/columns/16&^3))
	pages := (depth + width - 1) / width
	chunks := roundUp((depth+pages-1)/pages, 4)
	e.page = max(e.page, columns*pitch(chunks)+3*columns*4)
	if x.Norm != nil {
		e.page = max(e.page, columns*pitch(chunks)+3*columns*4+2*4*x.K)
	}
	e.work = max(e.work, x.work(e, height))
	e.parts = max(e.parts, Threads/32*roundUp(height, 8)*(columns+4)*4)
	for j := 0; j < x.N; j += columns {
		for i := 0; i < x.M; i += height {
			rows := min(height, x.M-i)
			s := step{op: multiplyOp, m: rows, n: min(columns, x.N-j), k: x.K, x: x.X.Row(i), depth: depth,
				out: x.Out.Row(i).Column(j), act: x.Act, stride: w.Stride, height: min(columns, x.N-j),
				across: across(rows, (x.X.Kind.words(x.K)+1)/2), bias: offset(x.Bias, j), scale: offset(w.Scale, j), index: offset(w.Sum, j)}
			if x.Residual.Kind != None {
				s.z = x.Residual.Row(i).Column(j)
			}
			if n := x.Norm; n != nil {
				s.norm(n)
				if j == 0 {
					s.copy = n.Copy.Row(i)
				}
			}
			tile := make([]step, 0, pages)
			for at := 0; at < depth; at += chunks {
				page := s
				page.begin, page.chunks = at, min(chunks, depth-at)
				page.weights, page.bytes = w.At+uint64(j*w.Stride+16*at), min(row-16*at, 16*page.chunks)
				tile = append(tile, page)
			}
			tile[0].flags |= firstPage
			tile[len(tile)-1].flags |= lastPage
			e.deal(tile...)
		}
	}
	return nil
}

// norm notes n.
func (s *step) norm(n *Norm) {
	s.gamma, s.beta, s.number, s.normAct = n.Gamma, n.Beta, n.Epsilon, n.Act
	if n.Fixed {
		s.flags |= fixedMoments
	}
}

// offset is the address of value j of an array of 32 bits each, which may be missing.
func offset(at uint64, j int) uint64 {
	if at == 0 {
		return 0
	}
	return at + uint64(4*j)
}

func (x *Uncouple) encode(e *encoder) error {
	err := firstError(e.reads(x.Raw, x.M, x.N, Single), e.reads(x.Shift, x.M, x.N, Single), e.reads(x.State, x.M, x.N, Local))
	if err != nil {
		return err
	}
	e.all(step{op: coupleOp, m: x.M, n: x.N, x: x.Raw, y: x.Shift, out: x.State, number: x.Alpha, across: across(x.M, (x.N+1)/2)})
	return nil
}

func (x *Move) encode(e *encoder) error {
	kinds := []Kind{Plain, Local, Single}
	if x.From != 0 {
		kinds = kinds[:2]
		if x.Base.Kind != None || x.X.Kind == Local && x.Out.Kind == Local && x.X.At == x.Out.At {
			return errShape
		}
	}
	base := []Kind{None}
	if x.Factor != 0 {
		base = []Kind{Plain, Single}
	}
	n, arrays := x.N, 0
	if x.From != 0 {
		n = 1 // what From names is known to the device alone
	}
	err := firstError(e.reads(x.X, x.M, n, kinds...), e.reads(x.Base, x.M, x.N, base...))
	if err == nil {
		err = e.writes(x.Out, x.M, x.N, Plain, Local, Single, Pair)
	}
	if err != nil {
		return err
	}
	for _, array := range []uint64{x.From, x.Before, x.Scale, x.After} {
		if array != 0 {
			arrays++
		}
	}
	e.page = max(e.page, 4*arrays*x.N)
	s := step{op: moveOp, m: x.M, n: x.N, x: x.X, y: x.Base, out: x.Out, index: x.From, beta: x.Before, scale: x.Scale, bias: x.After,
		gamma: x.Factor, across: across(x.M, (x.N+1)/2)}
	if x.Out.Kind == Local {
		e.all(s)
	} else {
		e.deal(s)
	}
	return nil
}

func (x *Attend) encode(e *encoder) error {
	const height = 8
	if x.Depth < 2 || x.Depth%2 != 0 || x.Depth%4 != 0 && x.Q.Kind == Pair && x.Heads > 1 {
		return errShape
	}
	n := x.Heads * x.Depth
	err := firstError(e.reads(x.Q, x.Tokens, n, Single, Pair), e.reads(x.K, x.Tokens, n, Single, Pair), e.reads(x.V, x.Tokens, n, Single, Pair))
	if err == nil {
		err = e.writes(x.Out, x.Tokens, n, Single, Pair)
	}
	if err != nil {
		return err
	}
	e.work = max(e.work, 4*((min(height, x.Tokens)+2*x.Tokens)*(x.Depth+1)+min(height, x.Tokens)*(x.Tokens+1)))
	for h := range x.Heads {
		for i := 0; i < x.Tokens; i += height {
			rows, j := min(height, x.Tokens-i), h*x.Depth
			e.deal(step{op: attendOp, more: x.Count, m: rows, n: x.Tokens, k: x.Depth, x: x.Q.Row(i).Column(j), y: x.K.Column(j), z: x.V.Column(j),
				out: x.Out.Row(i).Column(j), across: across(min(x.Tokens, mostRows), (x.Q.Kind.words(x.Depth)+1)/2)})
		}
	}
	return nil
}

func (x *Pool) encode(e *encoder) error {
	if err := firstError(e.reads(x.X, x.M, x.N, Single), e.writes(x.Out, 1, x.N, Plain)); err != nil {
		return err
	}
	const room = 64 << 10 // enough to hide the latency of what is waited for
	height := max(1, min(x.M, mostRows, room/(4*roundUp(x.N, 4))))
	e.work = max(e.work, (height+1)*roundUp(x.N, 4)*4)
	s := step{op: poolOp, more: x.Count, m: x.M, k: x.N, height: height, x: x.X, out: x.Out, across: across(height, (x.N+1)/2)}
	s.norm(&x.Norm)
	if x.Unit {
		s.flags |= unitLength
	}
	e.deal(s)
	return nil
}

func (x *Embed) encode(e *encoder) error {
	err := firstError(e.reads(x.Places, x.M, x.N, Plain), e.reads(x.Types, 1, x.N, Plain), e.writes(x.Out, x.M, x.N, Single))
	if err != nil {
		return err
	}
	height := (x.M + len(e.blocks) - 1) / len(e.blocks)
	for i := 0; i < x.M; i += height {
		rows := min(height, x.M-i)
		e.deal(step{op: embedOp, m: rows, k: x.N, index: offset(x.IDs, i), more: offset(x.Kinds, i), weights: x.Table, stride: x.Stride, scale: x.Scale,
			y: x.Places.Row(i), z: x.Types, out: x.Out.Row(i), across: across(rows, (x.N+1)/2)})
	}
	return nil
}

// code lays everything out.
func (e *encoder) code() (*Code, error) {
	c := &Code{Blocks: len(e.blocks), Words: 8 * e.program.words, Starts: []int32{0}}
	e.page, e.work, e.parts = roundUp(max(e.page, 16), 128), roundUp(e.work, 16), roundUp(e.parts, 16)
	fixed := e.work + e.parts + roundUp(4*e.program.local, 16)
	pages := min((e.machine.Shared-fixed-128)/(e.page+2*stepBytes), mostPages)
	if pages < 2 {
		return nil, fmt.Errorf("%w: %d bytes for two pages of %d and %d", ErrRoom, e.machine.Shared, e.page, fixed)
	}
	ring := roundUp(2*pages*stepBytes, 128)
	work := ring + pages*e.page
	c.Layout = [6]int{pages, e.page, ring, work, work + e.work, work + e.work + e.parts}
	c.Shared = work + fixed
	for _, steps := range e.blocks {
		for i := range steps {
			c.Steps = steps[i].append(c.Steps)
		}
		c.Starts = append(c.Starts, int32(len(c.Steps)/stepBytes))
	}
	return c, nil
}
