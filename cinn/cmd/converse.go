package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// converse asks for prompts and draws them, until Ctrl-C or Ctrl-D.
func (g *generator) converse(ctx context.Context, in *os.File, out *screen) error {
	a, err := g.open()
	if err != nil {
		return err
	}
	defer a.Close()
	fmt.Fprintln(out, "Type what to draw. Enter draws it again, r other pictures of it, s saves them, ↑ earlier prompts; Ctrl-D leaves.")
	keys := keyboard{chunks: read(in)}
	var lines editor
	var shown *drawing
	for {
		prompt, err := ask(ctx, in, out, &keys, &lines)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case prompt == "" && shown == nil:
			continue
		case prompt == "":
			prompt = shown.prompt
		case prompt == "r" && shown != nil:
			g.seed++
			prompt = shown.prompt
		case prompt == "s" && shown != nil:
			g.keep(out, shown)
			continue
		default:
			lines.remember(prompt)
		}
		d, err := g.draw(ctx, a, prompt)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			fmt.Fprintln(out, err)
			continue
		}
		shown = d
		out.show(d.pictures)
		fmt.Fprintln(out, d.summary())
	}
}

// keep saves what is shown, and tells where or why not.
func (g *generator) keep(out io.Writer, d *drawing) {
	sheet, err := g.enlarged(layout(d.pictures))
	if err != nil {
		fmt.Fprintln(out, err)
		return
	}
	file, err := g.saveSheet(stdio{}, sheet, d)
	if err != nil {
		fmt.Fprintln(out, err)
		return
	}
	fmt.Fprintln(out, file)
}

const (
	promptSign  = "› "
	promptCells = 2
)

// ask reads one line. The terminal is raw only meanwhile: while a picture is drawn, Ctrl-C is a signal as ever.
// The error is io.EOF when the person leaves or the input ends.
func ask(ctx context.Context, in *os.File, out *screen, keys *keyboard, e *editor) (string, error) {
	restore, err := rawMode(in)
	if err != nil {
		return "", err
	}
	defer restore()
	defer fmt.Fprintln(out)
	for {
		e.display(out)
		if err := keys.wait(ctx); err != nil {
			return "", err
		}
		for len(keys.typed) > 0 {
			switch e.feed(keys.next()) {
			case keyEnter:
				e.display(out)
				return e.take(), nil
			case keyLeave:
				return "", io.EOF
			}
		}
	}
}

// display writes the line over what stands in the terminal's.
func (e *editor) display(out *screen) {
	before, after := e.view(out.columns() - promptCells)
	fmt.Fprintf(out, "\r%s%s\x1b7%s\x1b[K\x1b8", promptSign, before, after) // \x1b7, \x1b8: keep the cursor's place
}

// keyboard is typed bytes that nobody has taken yet.
type keyboard struct {
	chunks <-chan []byte
	typed  []byte
}

// wait returns when something was typed, or io.EOF, or the error of ctx.
func (k *keyboard) wait(ctx context.Context) error {
	if len(k.typed) > 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case typed, ok := <-k.chunks:
		if !ok {
			return io.EOF
		}
		k.typed = typed
		return nil
	}
}

func (k *keyboard) next() byte {
	b := k.typed[0]
	k.typed = k.typed[1:]
	return b
}

// read reads in the background for as long as the program runs, so that waiting for a key can be cancelled.
// The channel is closed when there is nothing more to read.
func read(in io.Reader) <-chan []byte {
	chunks := make(chan []byte)
	go func() {
		defer close(chunks)
		for {
			b := make([]byte, 256)
			n, err := in.Read(b)
			if n > 0 {
				chunks <- b[:n]
			}
			if err != nil {
				return
			}
		}
	}()
	return chunks
}
