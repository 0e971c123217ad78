package ptx

import (
	"math"
	"strings"
)

// Bounds on what a text may ask for, so that a bad one ends in an error and not in exhausted memory.
const (
	maxText     = 64 << 20
	maxNesting  = 64
	maxVariable = 64 << 20
	maxRegister = 1 << 20
)

// module is a parsed text: names are not resolved yet, but for where they were declared.
type module struct {
	file      string
	version   int // 84 for .version 8.4
	target    int // 80 for .target sm_80
	exact     bool
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
	threads int // .maxntid or .reqntid: the most that a block may have; 0: no limit
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
	list   []operand
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

// parser reads a module by recursive descent; t is the token ahead.
type parser struct {
	lexer
	t   token
	m   *module
	loc struct {
		file uint64
		line int
	}
}

func parse(file, src string) (*module, error) {
	m := &module{file: file, functions: map[string]*function{}, globals: newScope(nil), sources: map[uint64]string{}}
	p := &parser{lexer: lexer{file: file, src: src, line: 1}, m: m}
	if len(src) > maxText {
		return nil, p.fail(1, "%d bytes of PTX, more than %d", len(src), maxText)
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	for p.t.kind != end {
		if err := p.directive(); err != nil {
			return nil, err
		}
	}
	if m.version == 0 || m.target == 0 {
		return nil, p.fail(p.line, "no .version or no .target")
	}
	return m, nil
}

func (p *parser) advance() (err error) {
	p.t, err = p.next()
	return err
}

func (p *parser) is(text string) bool {
	return (p.t.kind == punct || p.t.kind == word) && p.t.text == text
}

// take skips text if it is ahead.
func (p *parser) take(text string) (bool, error) {
	if !p.is(text) {
		return false, nil
	}
	return true, p.advance()
}

func (p *parser) expect(text string) error {
	if !p.is(text) {
		return p.fail(p.t.line, "%q where %q was expected", p.t.text, text)
	}
	return p.advance()
}

func (p *parser) name() (string, error) {
	if p.t.kind != word {
		return "", p.fail(p.t.line, "%q where a name was expected", p.t.text)
	}
	s := p.t.text
	return s, p.advance()
}

func (p *parser) number() (uint64, error) {
	if p.t.kind != integer {
		return 0, p.fail(p.t.line, "%q where a number was expected", p.t.text)
	}
	v := p.t.bits
	return v, p.advance()
}

// skipTo drops tokens up to text and including it.
func (p *parser) skipTo(text string) error {
	for !p.is(text) {
		if p.t.kind == end {
			return p.fail(p.t.line, "no %q before the end", text)
		}
		if err := p.advance(); err != nil {
			return err
		}
	}
	return p.advance()
}

// directive reads one statement of the module.
func (p *parser) directive() error {
	switch line := p.t.line; p.t.text {
	case ".version":
		return p.version()
	case ".target":
		return p.target()
	case ".address_size":
		if err := p.advance(); err != nil {
			return err
		}
		if n, err := p.number(); err != nil || n != 64 {
			return p.fail(line, ".address_size is not 64")
		}
		return nil
	case ".file":
		return p.sourceFile()
	case ".section": // debug information
		if err := p.skipTo("{"); err != nil {
			return err
		}
		return p.skipTo("}")
	case ".visible", ".weak", ".common":
		return p.advance()
	case ".extern":
		if err := p.advance(); err != nil {
			return err
		}
		if p.is(".func") || p.is(".entry") {
			return p.function(false)
		}
		return p.variables(p.m.globals, nil, true)
	case ".func", ".entry":
		return p.function(true)
	case ".global", ".const", ".shared":
		return p.variables(p.m.globals, nil, false)
	case ".alias", ".pragma":
		return p.skipTo(";")
	}
	return p.fail(p.t.line, "%q is no directive of a module", p.t.text)
}

func (p *parser) version() error {
	line := p.t.line
	if err := p.advance(); err != nil {
		return err
	}
	v := math.Round(math.Float64frombits(p.t.bits) * 10)
	if p.t.kind != float || p.t.text[1] == 'f' || !(v >= 10 && v <= 200) {
		return p.fail(line, "bad .version %s", p.t.text)
	}
	p.m.version = int(v)
	return p.advance()
}

func (p *parser) target() error {
	line := p.t.line
	if err := p.advance(); err != nil {
		return err
	}
	s, err := p.name()
	if err != nil {
		return err
	}
	digits, ok := strings.CutPrefix(s, "sm_")
	digits, p.m.exact = strings.CutSuffix(digits, "a")
	for _, c := range digits {
		if c < '0' || c > '9' || p.m.target > 1000 {
			ok = false
			break
		}
		p.m.target = 10*p.m.target + int(c-'0')
	}
	if !ok || p.m.target == 0 {
		return p.fail(line, "bad .target %s", s)
	}
	for p.is(",") { // .target sm_80, debug
		if err := p.advance(); err != nil {
			return err
		}
		if _, err := p.name(); err != nil {
			return err
		}
	}
	return nil
}

// sourceFile reads .file 1 "matmul.cu".
func (p *parser) sourceFile() error {
	if err := p.advance(); err != nil {
		return err
	}
	n, err := p.number()
	if err != nil {
		return err
	}
	if p.t.kind != quoted {
		return p.fail(p.t.line, ".file without a name")
	}
	p.m.sources[n] = p.t.text[strings.LastIndexAny(p.t.text, `/\`)+1:]
	if err := p.advance(); err != nil {
		return err
	}
	for p.is(",") { // time and size
		if err := p.advance(); err != nil {
			return err
		}
		if _, err := p.number(); err != nil {
			return err
		}
	}
	return nil
}

// location reads .loc 1 20 5, function_name $L, inlined_at 1 2 3.
func (p *parser) location() error {
	if err := p.advance(); err != nil {
		return err
	}
	var v [3]uint64
	for i := range v {
		var err error
		if v[i], err = p.number(); err != nil {
			return err
		}
	}
	p.loc.file, p.loc.line = v[0], int(v[1]&math.MaxInt32)
	for p.is(",") {
		for p.is(",") || p.is("function_name") || p.is("inlined_at") || p.is("+") || p.t.kind == integer || p.t.kind == word && strings.HasPrefix(p.t.text, "$") {
			if err := p.advance(); err != nil {
				return err
			}
		}
	}
	return nil
}

// function reads .entry name (params) directives { body }, or a .func with results before its name.
func (p *parser) function(defined bool) error {
	f := &function{entry: p.is(".entry"), line: p.t.line, scope: newScope(p.m.globals)}
	if err := p.advance(); err != nil {
		return err
	}
	var err error
	if p.is("(") {
		if f.results, err = p.params(f.scope); err != nil {
			return err
		}
	}
	if f.name, err = p.name(); err != nil {
		return err
	}
	if p.is("(") {
		if f.params, err = p.params(f.scope); err != nil {
			return err
		}
	}
	for !p.is("{") && !p.is(";") { // .maxntid 256, 1, 1
		if !strings.HasPrefix(p.t.text, ".") {
			return p.fail(p.t.line, "%q before the body of %s", p.t.text, f.name)
		}
		limits := p.is(".maxntid") || p.is(".reqntid")
		if err := p.advance(); err != nil {
			return err
		}
		product := uint64(1)
		for p.t.kind == integer || p.t.kind == quoted || p.is(",") {
			if p.t.kind == integer {
				product *= min(p.t.bits, 1<<16)
			}
			if err := p.advance(); err != nil {
				return err
			}
		}
		if limits {
			f.threads = int(min(product, 1<<16))
		}
	}
	if old := p.m.functions[f.name]; old != nil && old.defined && p.is("{") {
		return p.fail(f.line, "%s is defined twice", f.name)
	} else if old == nil || !old.defined {
		p.m.functions[f.name] = f
	}
	if p.is(";") {
		return p.advance()
	}
	if !defined {
		return p.fail(p.t.line, "an .extern %s with a body", f.name)
	}
	f.defined = true
	return p.body(f, f.scope, 0)
}

func (p *parser) params(s *scope) (vs []*variable, err error) {
	if err := p.advance(); err != nil {
		return nil, err
	}
	for !p.is(")") {
		if len(vs) > 0 {
			if err := p.expect(","); err != nil {
				return nil, err
			}
		}
		v, err := p.variable(false)
		if err != nil {
			return nil, err
		}
		if v.space != ".param" {
			return nil, p.fail(p.t.line, "%s in a list of parameters", v.space)
		}
		if err := p.declare(s, v); err != nil {
			return nil, err
		}
		vs = append(vs, v)
	}
	return vs, p.advance()
}

func (p *parser) declare(s *scope, v *variable) error {
	if old := s.vars[v.name]; old != nil {
		return p.fail(p.t.line, "%s is declared twice", v.name)
	}
	s.vars[v.name] = v
	return nil
}

// body reads { statements } in a scope of its own.
func (p *parser) body(f *function, s *scope, depth int) error {
	if depth > maxNesting {
		return p.fail(p.t.line, "blocks nested deeper than %d", maxNesting)
	}
	if err := p.expect("{"); err != nil {
		return err
	}
	for !p.is("}") {
		var err error
		switch t := p.t.text; {
		case p.t.kind == end:
			return p.fail(p.t.line, "%s has no end", f.name)
		case p.is("{"):
			err = p.body(f, newScope(s), depth+1)
		case p.is(";"):
			err = p.advance()
		case t == ".reg":
			err = p.declareRegisters(s)
		case t == ".loc":
			err = p.location()
		case t == ".pragma":
			err = p.skipTo(";")
		case t == ".shared", t == ".local", t == ".param", t == ".global", t == ".const":
			err = p.variables(s, f, false)
		case t == ".extern":
			if err = p.advance(); err == nil {
				err = p.variables(s, f, true)
			}
		case p.is("@") || p.t.kind == word && t[0] != '.':
			err = p.statement(f, s)
		default:
			return p.fail(p.t.line, "%q begins no statement", t)
		}
		if err != nil {
			return err
		}
	}
	return p.advance()
}

// declareRegisters reads .reg .b32 %r<10>, a, b;
func (p *parser) declareRegisters(s *scope) error {
	if err := p.advance(); err != nil {
		return err
	}
	kind, err := p.name()
	if err != nil {
		return err
	}
	if kind != ".pred" && typeBytes(kind[1:]) == 0 {
		return p.fail(p.t.line, "registers of the type %s", kind)
	}
	for {
		r := &registers{kind: kind[1:]}
		name, err := p.name()
		if err != nil {
			return err
		}
		if p.is("<") {
			if err := p.advance(); err != nil {
				return err
			}
			n, err := p.number()
			if err != nil {
				return err
			}
			if n == 0 || n > maxRegister {
				return p.fail(p.t.line, "%d registers %s", n, name)
			}
			r.count = int(n)
			if err := p.expect(">"); err != nil {
				return err
			}
		}
		if s.regs[name] != nil {
			return p.fail(p.t.line, "%s is declared twice", name)
		}
		s.regs[name] = r
		if more, err := p.take(","); err != nil {
			return err
		} else if !more {
			return p.expect(";")
		}
	}
}

// typeBytes is the size of a fundamental type, 0 for what is none.
func typeBytes(t string) int {
	switch t {
	case "b8", "u8", "s8":
		return 1
	case "b16", "u16", "s16", "f16", "bf16":
		return 2
	case "b32", "u32", "s32", "f32", "f16x2", "bf16x2", "tf32":
		return 4
	case "b64", "u64", "s64", "f64":
		return 8
	}
	return 0
}

// statement reads [label:] or [@guard] opcode operands ;
func (p *parser) statement(f *function, s *scope) error {
	st := statement{line: p.t.line, source: p.loc.line, file: p.loc.file, scope: s}
	if p.is("@") {
		if err := p.advance(); err != nil {
			return err
		}
		var err error
		if st.not, err = p.take("!"); err != nil {
			return err
		}
		if st.guard, err = p.name(); err != nil {
			return err
		}
	}
	first, err := p.name()
	if err != nil {
		return err
	}
	if p.is(":") {
		if _, twice := s.labels[first]; twice || st.guard != "" {
			return p.fail(st.line, "bad label %s", first)
		}
		s.labels[first] = len(f.body)
		if err := p.advance(); err != nil {
			return err
		}
		if p.is(".branchtargets") { // the table of a brx.idx
			return p.branchTargets(f, s, first)
		}
		return nil
	}
	parts := strings.Split(first, ".")
	st.op, st.mods = parts[0], parts[1:]
	for !p.is(";") {
		if len(st.args) > 0 {
			if err := p.expect(","); err != nil {
				return err
			}
		}
		a, err := p.operand(0)
		if err != nil {
			return err
		}
		st.args = append(st.args, a)
	}
	f.body = append(f.body, st)
	return p.advance()
}

// branchTargets keeps the table as a statement without effect, which the brx.idx that names the label reads.
func (p *parser) branchTargets(f *function, s *scope, label string) error {
	st := statement{line: p.t.line, op: ".branchtargets", scope: s}
	if err := p.advance(); err != nil {
		return err
	}
	for {
		name, err := p.name()
		if err != nil {
			return err
		}
		st.args = append(st.args, operand{name: name})
		if more, err := p.take(","); err != nil {
			return err
		} else if !more {
			break
		}
	}
	f.body = append(f.body, st)
	return p.expect(";")
}

func (p *parser) operand(depth int) (o operand, err error) {
	if depth > 4 {
		return o, p.fail(p.t.line, "lists nested deeper than 4")
	}
	switch {
	case p.is("{"), p.is("("):
		return p.list(depth)
	case p.is("["):
		return p.address()
	case p.is("!"):
		if err := p.advance(); err != nil {
			return o, err
		}
		o.not = true
		o.name, err = p.name()
		return o, err
	case p.t.kind == word:
		if o.name, err = p.name(); err != nil {
			return o, err
		}
		if p.is("|") {
			if err := p.advance(); err != nil {
				return o, err
			}
			o.second, err = p.name()
			return o, err
		}
		o.offset, err = p.offset()
		return o, err
	}
	return p.literal()
}

// literal reads a number with its sign.
func (p *parser) literal() (o operand, err error) {
	minus, err := p.take("-")
	if err != nil {
		return o, err
	}
	switch p.t.kind {
	case integer:
		o = operand{form: intForm, bits: p.t.bits}
		if minus {
			o.bits = -o.bits
		}
	case float:
		o = operand{form: floatForm, bits: p.t.bits, single: strings.HasPrefix(p.t.text, "0f")}
		if minus && o.single {
			o.bits ^= 1 << 31
		} else if minus {
			o.bits ^= 1 << 63
		}
	default:
		return o, p.fail(p.t.line, "%q where an operand was expected", p.t.text)
	}
	return o, p.advance()
}

func (p *parser) list(depth int) (operand, error) {
	o, last := operand{form: listForm}, "}"
	if p.is("(") {
		last = ")"
	}
	if err := p.advance(); err != nil {
		return o, err
	}
	for !p.is(last) {
		if len(o.list) > 0 {
			if err := p.expect(","); err != nil {
				return o, err
			}
		}
		e, err := p.operand(depth + 1)
		if err != nil {
			return o, err
		}
		o.list = append(o.list, e)
	}
	return o, p.advance()
}

// address reads [name+4], [name+-4], [name] and [16].
func (p *parser) address() (o operand, err error) {
	o.form = addressForm
	if err := p.advance(); err != nil {
		return o, err
	}
	if p.t.kind == word {
		if o.name, err = p.name(); err != nil {
			return o, err
		}
		if o.offset, err = p.offset(); err != nil {
			return o, err
		}
	} else {
		n, err := p.number()
		if err != nil {
			return o, err
		}
		o.offset = int64(n)
	}
	return o, p.expect("]")
}

// offset reads what may follow a name: nothing, +4, -4 or +-4.
func (p *parser) offset() (int64, error) {
	plus, err := p.take("+")
	if err != nil {
		return 0, err
	}
	minus, err := p.take("-")
	if err != nil || !plus && !minus {
		return 0, err
	}
	n, err := p.number()
	if minus {
		n = -n
	}
	return int64(n), err
}
