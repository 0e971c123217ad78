// Package program makes an expert of any program of the user's: it reads questions from its standard input and writes answers
// to its standard output, one JSON object a line, each question answered by one line, in order. What it writes to standard error
// goes to the user. It ends when its input does.
//
//	question                              answer
//	{"text": "red heart"}                 {"vector": [0.5, -1.25, …]}                    a text encoder
//	{"image": "iVBORw0KGgo…"}             {"vector": …}                                  an image encoder; the image is a PNG in base64
//	{"image": "iVBORw0KGgo…"}             {"text": "a red heart"}                        a captioner
//	{"vector": …}                         {"image": "iVBORw0KGgo…"}                      a generator
//	{"pair": 17}                          {"condition": …, "latent": …, "std": …, "class": 3}   a source of pairs; std and class
//	                                      {"end": true}                                  where there are some; end behind the last pair
//	any                                   {"error": "why not"}
//
// A vector is an array of numbers or, for speed and to keep every bit, their float32 in little-endian order as base64: in Python
// base64.b64encode(numpy.float32(v).tobytes()).decode(). Questions have the second form; both are read. Unknown fields are ignored.
// A line has at most 64 MiB.
//
// The answers of a source of pairs can also be kept in a file, a pair a line, which is what cinn pairs -lines reads.
package program

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

const (
	maxLine = 64 << 20
	grace   = 5 * time.Second // to end by itself, once its input has ended
)

// Program is a running expert. It serves one goroutine.
type Program struct {
	name   string
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *Lines
	buffer bytes.Buffer
	encode *json.Encoder
	err    error // why it no longer answers
}

// Start starts the program argv[0] with the other arguments. It is killed when ctx ends. stderr, which may be nil, gets what the
// program writes to its standard error.
func Start(ctx context.Context, argv []string, stderr io.Writer) (*Program, error) {
	if len(argv) == 0 {
		return nil, errors.New("no program")
	}
	p := &Program{name: argv[0], cmd: exec.CommandContext(ctx, argv[0], argv[1:]...)}
	p.cmd.Stderr = stderr
	p.cmd.WaitDelay = grace
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.in, p.out = in, NewLines(out)
	p.encode = json.NewEncoder(&p.buffer)
	p.encode.SetEscapeHTML(false)
	return p, nil
}

// Ask sends a question and waits for its answer. An answer with Error is returned as an error, after which the program may be
// asked again; after any other error it is gone, as it is when ctx ends before the answer is there.
func (p *Program) Ask(ctx context.Context, m Message) (Message, error) {
	if p.err != nil {
		return Message{}, p.err
	}
	if err := ctx.Err(); err != nil {
		return Message{}, err
	}
	stop := context.AfterFunc(ctx, func() { p.cmd.Process.Kill() })
	defer stop()
	p.buffer.Reset()
	if err := p.encode.Encode(m); err != nil {
		return Message{}, fmt.Errorf("%s: %w", p.name, err)
	}
	var answer Message
	_, err := p.in.Write(p.buffer.Bytes())
	if err != nil {
		err = io.EOF // it no longer listens
	} else {
		answer, err = p.out.Next()
	}
	if err != nil {
		return Message{}, p.lost(ctx, err)
	}
	if answer.Error != "" {
		return Message{}, fmt.Errorf("%s: %s", p.name, answer.Error)
	}
	return answer, nil
}

// lost ends the program and tells why it gave no answer.
func (p *Program) lost(ctx context.Context, err error) error {
	p.in.Close()
	if !errors.Is(err, io.EOF) {
		p.cmd.Process.Kill() // what it says makes no sense, and what follows would answer the wrong question
	}
	exit := p.wait()
	switch {
	case ctx.Err() != nil:
		p.err = fmt.Errorf("%s: %w", p.name, ctx.Err())
	case errors.Is(err, io.EOF) && exit != nil:
		p.err = fmt.Errorf("%s ended without an answer: %w", p.name, exit)
	case errors.Is(err, io.EOF):
		p.err = fmt.Errorf("%s ended without an answer", p.name)
	default:
		p.err = fmt.Errorf("%s: %w", p.name, err)
	}
	return p.err
}

// Close ends the program's input and waits until it ends, or kills it after a while.
func (p *Program) Close() error {
	if p.err != nil {
		return nil
	}
	p.err = fmt.Errorf("%s: closed", p.name)
	p.in.Close()
	if err := p.wait(); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return nil
}

// wait waits for the end of a program whose input has ended.
func (p *Program) wait() error {
	late := time.AfterFunc(grace, func() { p.cmd.Process.Kill() })
	defer late.Stop()
	return p.cmd.Wait()
}

// Lines reads messages from a file or a pipe.
type Lines struct {
	scanner *bufio.Scanner
	line    int
}

// NewLines returns a reader of the lines of r.
func NewLines(r io.Reader) *Lines {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	return &Lines{scanner: s}
}

// Next returns the next line that is not empty; io.EOF behind the last.
func (l *Lines) Next() (Message, error) {
	for l.scanner.Scan() {
		l.line++
		line := bytes.TrimSpace(l.scanner.Bytes())
		if len(line) == 0 {
			continue
		}
		m, err := Parse(line)
		if err != nil {
			return m, fmt.Errorf("line %d: %w", l.line, err)
		}
		return m, nil
	}
	if err := l.scanner.Err(); err != nil {
		return Message{}, fmt.Errorf("line %d: %w", l.line+1, err)
	}
	return Message{}, io.EOF
}

// Skip passes over n lines that are not empty, without reading what they say, and returns how many there were.
func (l *Lines) Skip(n int) (int, error) {
	for i := 0; i < n; {
		if !l.scanner.Scan() {
			return i, l.scanner.Err()
		}
		l.line++
		if len(bytes.TrimSpace(l.scanner.Bytes())) > 0 {
			i++
		}
	}
	return n, nil
}

// Split cuts a command line into arguments at spaces, except between quotes of either kind.
func Split(command string) (argv []string, err error) {
	var word strings.Builder
	var quote rune
	begun := false
	for _, r := range command {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, begun = r, true
		case quote == 0 && (r == ' ' || r == '\t'):
			if begun {
				argv = append(argv, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("%q: the quote %c does not end", command, quote)
	}
	if begun {
		argv = append(argv, word.String())
	}
	return argv, nil
}
