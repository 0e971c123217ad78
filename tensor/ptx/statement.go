package ptx

import (
	"strings"
)

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

// address reads [name+4], [name+-4], [name], [16], and with coordinates of a tensor [name, {x, y}].
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
	if p.is(",") {
		if err := p.advance(); err != nil {
			return o, err
		}
		at, err := p.list(0)
		if err != nil {
			return o, err
		}
		o.list = at.list
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
