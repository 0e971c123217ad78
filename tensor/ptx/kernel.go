package ptx

// Lanes of a warp, and the mask of all of them.
const (
	warpSize = 32
	allLanes = 1<<warpSize - 1
)

// Registers live in three banks: words hold what has at most 32 bits (narrower values zero-extended), longs 64 bits,
// and a predicate is one bit per lane. Literals and special registers are registers, too, so that every operand of an
// instruction is read the same way.
type bank uint8

const (
	noBank bank = iota
	words
	longs
	predicates
)

// The first two predicates hold in all lanes, and in none.
const (
	truePredicate  = 0
	falsePredicate = 1
)

// slot is a register.
type slot struct {
	bank   bank
	index  int32
	narrow bool // 16 bits in a word
}

// class says how an instruction is run.
type class uint8

const (
	wordClass    class = iota // lanes computes the word register d
	longClass                 // lanes computes the long register d
	maskedClass               // masked does all by itself
	yieldClass                // the same, and other warps should get a turn
	branchClass               // to target, where the lanes that do not go meet again at join
	tableClass                // branch to one of targets by the word register a
	exitClass                 // the thread ends
	barrierClass              // the warp may have to wait
	waitClass                 // waits tells whether the warp has to; the instruction runs again when there is news
)

// inst is an instruction of a kernel, decoded once.
type inst struct {
	class  class
	guard  int32 // predicate; truePredicate where there is none
	invert uint32
	// lanes computes all lanes of register d; lanes that are not to be changed are put back by the caller.
	lanes func(w *warp, in *inst, d int32)
	// masked runs the lanes of m.
	masked func(w *warp, in *inst, m uint32)
	waits  func(w *warp, in *inst, m uint32) bool

	d, a, b, c int32 // registers, of the banks that the function expects
	e          int32
	imm        int64 // offset of an address, or a constant of the instruction
	target     int32
	join       int32 // first instruction that all paths from here pass

	access  *access
	scalar  *scalar
	barrier *barrierInfo
	targets []int32
	sums    []int32 // registers it names that belong to a wgmma of the kernel
	at      *statement
}

// noJoin is the join of paths that meet nowhere before they end.
const noJoin = 1<<31 - 1

// access is the memory operand of an instruction.
type access struct {
	space  space
	base   bank // of register inst.a; noBank: the address is inst.imm
	bytes  int  // of an element
	signed bool
	regs   []slot // registers of the elements
	order  order
	atomic func(old, x, y uint64) uint64
}

type space uint8

const (
	generic space = iota
	global
	shared
	local
	constant
	param
)

// order is what an access means to other threads.
type order uint8

const (
	weak     order = iota
	readOnly       // .nc
	strong         // volatile, relaxed and atomics
	acquire
	release
	acqrel
)

// scalar is an operation on one lane, for what is too rare to have a loop of its own.
type scalar struct {
	f       func(a, b, c uint64) uint64
	sources [3]bank
}

// kernel is an entry made ready to run.
type kernel struct {
	m    *module
	name string
	code []inst

	words, longs, predicates int
	wordLiterals             map[uint32]int32
	longLiterals             map[uint64]int32
	specials                 map[string]int32 // word registers
	scratchWord, scratchLong int32

	args    int    // bytes of arguments
	static  int    // bytes of static shared memory
	local   int    // bytes of local memory of a thread
	allowed int    // bytes of dynamic shared memory that launches may ask for
	threads int    // the most that a block may have
	waits   bool   // for the launches before it, before anything else
	cluster int    // blocks that run together, 1 without clusters
	size    [3]int // of a cluster

	copies bool           // bulk ones: blocks need an engine
	sums   map[int32]bool // registers that a wgmma writes to
}
