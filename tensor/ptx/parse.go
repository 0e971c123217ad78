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
		limits, clusters := p.is(".maxntid") || p.is(".reqntid"), p.is(".reqnctapercluster")
		if clusters {
			f.cluster = [3]int{1, 1, 1}
		}
		if err := p.advance(); err != nil {
			return err
		}
		product := uint64(1)
		for i := 0; p.t.kind == integer || p.t.kind == quoted || p.is(","); {
			if p.t.kind == integer {
				product *= min(p.t.bits, 1<<16)
				if clusters && i < 3 {
					f.cluster[i] = int(min(p.t.bits, 1<<16))
				}
				i++
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
