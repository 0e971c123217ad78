package ptx

// module is a parsed text: names are not resolved yet, but for where they were declared.
type module struct {
	file      string
	version   int  // 84 for .version 8.4
	target    int  // 80 for .target sm_80
	exact     bool // .target sm_90a: for that target only
	functions map[string]*function
	globals   *scope
	variables []*variable // of .global and .const, in order
	bytes     int         // of them
	sources   map[uint64]string
}

// function is an .entry or a .func.
type function struct {
	name    string
	entry   bool
	defined bool
	results []*variable
	params  []*variable
	body    []statement
	scope   *scope
	line    int
	threads int    // .maxntid or .reqntid: the most that a block may have; 0: no limit
	cluster [3]int // .reqnctapercluster: blocks of a cluster; zeros: none
}

// statement is one instruction.
type statement struct {
	line   int
	source int // line of the .cu file, where .loc told it
	file   uint64
	guard  string
	not    bool
	op     string // "ld"
	mods   []string
	args   []operand
	scope  *scope
}

// operand is an argument as written.
type operand struct {
	form   form
	name   string // register, symbol or the base of an address
	second string // the q of p|q
	not    bool   // !p
	bits   uint64
	single bool // bits are of a float32
	offset int64
	list   []operand // of a list, and the coordinates of an address in a tensor
}

type form uint8

const (
	nameForm form = iota
	intForm
	floatForm
	addressForm // [name+offset], or [offset] where name is empty
	listForm    // {a, b} and (a, b)
)

// variable is memory with a name.
type variable struct {
	name     string
	space    string
	align    int
	size     int
	dynamic  bool // .extern .shared x[]
	data     []byte
	symbols  map[int]string // addresses in data, by offset
	address  uint64
	assigned bool
}

// registers is one declaration: .reg .b32 %r<10> or .reg .pred p.
type registers struct {
	kind  string
	count int // 0: the name alone
}

type scope struct {
	up     *scope
	regs   map[string]*registers
	vars   map[string]*variable
	labels map[string]int
}

func newScope(up *scope) *scope {
	return &scope{up, map[string]*registers{}, map[string]*variable{}, map[string]int{}}
}

// register finds the declaration that a name belongs to; n is its number in a counted declaration.
func (s *scope) register(name string) (r *registers, n int) {
	cut := len(name)
	for cut > 0 && digit(name[cut-1]) {
		cut--
	}
	for ; s != nil; s = s.up {
		if r := s.regs[name]; r != nil && r.count == 0 {
			return r, 0
		}
		if digits := len(name) - cut; digits > 0 && digits < 8 {
			n = 0
			for _, c := range name[cut:] {
				n = 10*n + int(c-'0')
			}
			if r := s.regs[name[:cut]]; r != nil && n < r.count {
				return r, n
			}
		}
	}
	return nil, 0
}

func (s *scope) variable(name string) *variable {
	for ; s != nil; s = s.up {
		if v := s.vars[name]; v != nil {
			return v
		}
	}
	return nil
}

func (s *scope) label(name string) (int, bool) {
	for ; s != nil; s = s.up {
		if at, ok := s.labels[name]; ok {
			return at, true
		}
	}
	return 0, false
}
