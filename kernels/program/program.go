// Package program runs a network's forward pass for few rows as one kernel of the GPU: a Program is a list of instructions, which
// Encode deals out to blocks that stay resident and wait for each other's results, value by value. There is no CPU form.
//
// What a launch of many kernels loses between them is won: a layer costs the time in which a value goes from one multiprocessor to
// another, and the weights of later layers are read meanwhile. program.cu says how. After Hazy Research 2025, "Look Ma, No Bubbles!", and
// Mirage (Wu et al. 2025), whose programs are for text decoders.
//
// Matrices are of five kinds. Values go from instruction to instruction through words, memory of the Program's own in which each
// value carries the number of the launch that wrote it, or through local memory, of which every block has its own copy that
// it brings up to date alike. Plain matrices are what launches before have written, and what launches after may read.
package program

import (
	"errors"
	"fmt"

	"netfusion/kernels/matmul"
)

// Kind is how a Matrix is stored.
type Kind uint32

const (
	None   Kind = iota
	Plain       // float32, at an address of the device
	Local       // float32, in every block's local memory
	Single      // words of one float32 each
	Pair        // words of two bfloat16 each
)

// Matrix is rows of values. Rows of words begin at multiples of two words.
type Matrix struct {
	Kind Kind
	At   uint64 // address; in local memory an offset in values; in that of words in bytes
	Ld   int    // row stride, in values or in words
}

// Row views m from row i on.
func (m Matrix) Row(i int) Matrix {
	m.At += uint64(i * m.Ld * m.Kind.step())
	return m
}

// Column views m from column j on, a multiple of 4 where m is of words.
func (m Matrix) Column(j int) Matrix {
	if m.Kind == Pair {
		j /= 2
	}
	m.At += uint64(j * m.Kind.step())
	return m
}

// step is how much At grows with a value or a word.
func (k Kind) step() int { return [...]int{None: 0, Plain: 4, Local: 1, Single: 8, Pair: 8}[k] }

// words is how many words a row of n values is.
func (k Kind) words(n int) int {
	if k == Pair {
		return (n + 1) / 2
	}
	return n
}

// Format is that of a Program's weights.
type Format uint8

const (
	BF16 Format = iota // rows are rounded to bfloat16, sums are float32
	Int8               // rows are quantised to uint8, each by its own range: the products are those of matmul.I8
)

// size is that of a weight in bytes.
func (f Format) size() int { return [...]int{BF16: 2, Int8: 1}[f] }

// Entry is the kernel for weights of f.
func (f Format) Entry() string { return [...]string{BF16: "program_bf16", Int8: "program_int8"}[f] }

// Instruction is a part of a Program, one of the types below.
type Instruction interface{ encode(e *encoder) error }

// Program is instructions, in an order in which each finds what it reads.
type Program struct {
	Format       Format
	Instructions []Instruction
	words, local int
}

// Singles, Pairs and Locals reserve memory for a matrix [m][n].
func (p *Program) Singles(m, n int) Matrix { return p.reserve(Single, m, n) }
func (p *Program) Pairs(m, n int) Matrix   { return p.reserve(Pair, m, n) }
func (p *Program) Locals(m, n int) Matrix {
	p.local += m * n
	return Matrix{Local, uint64(p.local - m*n), n}
}

// Hidden reserves memory for what products alone will read, in the kind that suits the Format.
func (p *Program) Hidden(m, n int) Matrix {
	if p.Format == BF16 {
		return p.Pairs(m, n)
	}
	return p.Singles(m, n)
}

func (p *Program) reserve(k Kind, m, n int) Matrix {
	ld := (k.words(n) + 1) &^ 1
	at := p.words
	p.words += m * ld
	return Matrix{k, uint64(8 * at), ld}
}

// Add appends instructions.
func (p *Program) Add(i ...Instruction) { p.Instructions = append(p.Instructions, i...) }

// Width is how many blocks have something to do at a time, at most: twice as many as the largest instruction is dealt to, since two
// networks are run at once.
func (p *Program) Width() int {
	tiles := 1
	for _, in := range p.Instructions {
		switch x := in.(type) {
		case *MatMul:
			tiles = max(tiles, (x.N+columns-1)/columns*((x.M+7)/8))
		case *Attend:
			tiles = max(tiles, x.Heads*((x.Tokens+7)/8))
		case *Embed:
			tiles = max(tiles, x.M)
		}
	}
	return 2 * tiles
}

// Weights is W [N][K] on the device, in the Program's Format: rows begin Stride bytes apart, a multiple of 16, and are zero behind K up to such a
// multiple. Scale [N] multiplies a sum; it may be 0 for BF16. Sum [N], for Int8, is that of each row.
type Weights struct {
	At         uint64
	Stride     int
	Scale, Sum uint64
}

// Norm is layer normalisation with an activation, of the rows that an instruction reads. If the moments are Fixed they are in Gamma and
// Beta already: x becomes Act(x·Gamma + Beta).
type Norm struct {
	Gamma, Beta uint64 // addresses of float32
	Epsilon     float32
	Fixed       bool
	Act         matmul.Act
	Copy        Matrix // where the normalised rows go, if it is not None: words for later instructions
}

// MatMul computes Out [M][N] = Act(Scale·(X·Wᵀ) + Bias) + Residual for X [M][K]. X is no Pairs where it is normalised, or where the
// Format is Int8.
type MatMul struct {
	M, N, K  int
	X        Matrix
	Norm     *Norm // of X before the product, or nil
	Weights  Weights
	Bias     uint64 // address of [N], or 0
	Act      matmul.Act
	Residual Matrix // Single or Plain, or None
	Out      Matrix
}

// Uncouple undoes an affine coupling in State [M][N], which is local: State = (State - Shift)·exp(-s), s = Alpha·tanh(Raw/Alpha). Raw and
// Shift [M][N] are Singles.
type Uncouple struct {
	M, N       int
	Raw, Shift Matrix
	State      Matrix
	Alpha      float32
}

// Move computes Out[i][j] = (v + Before[j])·Scale[j] + After[j] for v = X[i][From[j]], or 0 where From[j] is negative. Without From v is
// X[i][j], or with Base Base[i][j] + Factor·(X[i][j] - Base[i][j]). With From X is Plain or Local, and not Out. Addresses of what
// is left out are 0; Factor is that of one float32.
type Move struct {
	M, N                 int
	X, Base              Matrix // of any kind but Pair
	Factor               uint64
	From                 uint64 // [N] of int32
	Before, Scale, After uint64 // [N]
	Out                  Matrix
}

// Attend computes Out = softmax(Q·Kᵀ)·V for each of Heads heads, of Depth columns side by side, an even number: all of Tokens rows, Singles or
// Pairs. Of the keys and values only so many count as lies at the address Count, if there is one.
type Attend struct {
	Tokens, Heads, Depth int
	Count                uint64 // of int32
	Q, K, V, Out         Matrix
}

// Pool computes Out [N], which is Plain, as the mean of the rows of X [M][N], Singles, that are normalised before, or of the first Count of
// them. Unit divides it by its Euclidean norm.
type Pool struct {
	M, N  int
	Count uint64 // address of int32, or 0
	X     Matrix
	Norm  Norm
	Unit  bool
	Out   Matrix
}

// Embed computes Out[i] = Table[IDs[i]] + Places[i] + Types[Kinds[i]], of N values. Table is rows of Stride bytes, of float32, or of int8 with a
// Scale each. IDs and Kinds are addresses of M int32.
type Embed struct {
	M, N          int
	IDs, Kinds    uint64
	Table         uint64
	Stride        int
	Scale         uint64
	Places, Types Matrix // Plain
	Out           Matrix
}

// Machine is what a Program is encoded for.
type Machine struct {
	Blocks int // all resident, so at most one for each multiprocessor
	Shared int // bytes of dynamic shared memory that a block may have
}

// Threads of a block, and StaticShared, which it has besides the dynamic shared memory.
const (
	Threads      = 256
	StaticShared = 1 << 10
)

// Code is a Program for a Machine.
type Code struct {
	Blocks int
	Shared int     // bytes of dynamic shared memory
	Steps  []byte  // of all blocks
	Starts []int32 // [Blocks+1] where each block's begin, in steps
	Words  int     // bytes of the words' memory, zeros before the first launch
	Layout [6]int  // the kernel's Layout
}

// ControlBytes is the size of the memory in which the kernel counts launches, zeros before the first.
const ControlBytes = 8

// ErrRoom is that a Machine's shared memory is too small for a Program.
var ErrRoom = errors.New("program: not enough shared memory")

// Encode deals p out to the blocks of m.
func (p *Program) Encode(m Machine) (*Code, error) {
	e := &encoder{program: p, machine: m, blocks: make([][]step, m.Blocks), written: make([]bool, p.words)}
	if m.Blocks < 1 {
		return nil, fmt.Errorf("program: %d blocks", m.Blocks)
	}
	for i, in := range p.Instructions {
		if err := in.encode(e); err != nil {
			return nil, fmt.Errorf("instruction %d, %T: %w", i, in, err)
		}
	}
	return e.code()
}
