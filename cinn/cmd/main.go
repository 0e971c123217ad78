// Command cinn draws pictures from words.
//
//	cinn red heart        draws a red heart, eight times, into red-heart.png
//	cinn                  asks for prompts, in a terminal
//	cinn help             lists what else it can do
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// Exit codes.
const (
	exitOK    = 0
	exitError = 1 // something failed; standard error says what
	exitUsage = 2 // the command line makes no sense
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second Ctrl-C ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// command is one thing that cinn can do. A command's file declares it; commands lists them all.
type command struct {
	name  string
	args  string // what follows the name, for the usage line
	brief string // one line
	about string // more lines, with examples
	// setup declares the flags and returns what runs when they are parsed.
	setup func(f *flag.FlagSet) action
}

// action runs a command on the words that are left when the flags are taken out.
type action func(ctx context.Context, s stdio, words []string) error

func commands() []command {
	return []command{
		generateCommand(),
		editCommand(),
		exemplarCommand(),
		interpolateCommand(),
		scoreCommand(),
		rankCommand(),
		invertCommand(),
		embedCommand(),
		pairsCommand(),
		trainCommand(),
		evalCommand(),
		presetCommand(),
		fuseCommand(),
		convertCommand(),
		packCommand(),
		inspectCommand(),
		versionCommand(),
		helpCommand(),
	}
}

func find(name string) (command, bool) {
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return c.name == name })
	if i < 0 {
		return command{}, false
	}
	return all[i], true
}

// run is the whole program: it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	s := stdio{in: stdin, out: &output{w: stdout}, err: stderr}
	name, args := choose(args)
	c, _ := find(name)
	err := c.run(ctx, s, args)
	if err == nil {
		err = s.out.err
	}
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		c.explain(stderr, string(usage), args)
		return exitUsage
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "cinn: interrupted")
		return exitError
	default:
		fmt.Fprintf(stderr, "cinn: %s\n", strings.TrimPrefix(err.Error(), "cinn: "))
		return exitError
	}
}

// choose tells which command the arguments mean. Only the first one can name it; anything else is a prompt to draw.
func choose(args []string) (name string, rest []string) {
	if len(args) == 0 {
		return "generate", nil
	}
	switch args[0] {
	case "-h", "-help", "--help":
		return "help", args[1:]
	case "-version", "--version":
		return "version", args[1:]
	}
	if _, ok := find(args[0]); ok {
		return args[0], args[1:]
	}
	return "generate", args
}

func (c command) run(ctx context.Context, s stdio, args []string) error {
	flags, act := c.flags()
	words, err := parse(flags, args)
	if errors.Is(err, flag.ErrHelp) {
		c.help(s.out)
		return nil
	}
	if err != nil {
		return usageError(err.Error())
	}
	return act(ctx, s, words)
}

func (c command) flags() (*flag.FlagSet, action) {
	f := flag.NewFlagSet(c.name, flag.ContinueOnError)
	f.SetOutput(io.Discard) // run reports errors
	return f, c.setup(f)
}

// parse takes the flags out of args, wherever they stand, and returns the other words. After "--" all are words.
func parse(f *flag.FlagSet, args []string) (words []string, err error) {
	for {
		if err := f.Parse(args); err != nil {
			return nil, err
		}
		rest := f.Args()
		if len(rest) == 0 {
			return words, nil
		}
		if taken := len(args) - len(rest); taken > 0 && args[taken-1] == "--" {
			return append(words, rest...), nil
		}
		words = append(words, rest[0])
		args = rest[1:]
	}
}

// usageError says what is wrong with a command line.
type usageError string

func (e usageError) Error() string { return string(e) }

func usagef(format string, args ...any) error {
	return usageError(fmt.Sprintf(format, args...))
}

// stdio is what a command reads and writes.
type stdio struct {
	in  io.Reader
	out *output   // results
	err io.Writer // remarks
}

// output keeps the first failure to write, so that commands print freely and run reports it once.
type output struct {
	w   io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.w.Write(p)
	if err != nil {
		o.err = fmt.Errorf("standard output: %w", err)
	}
	return n, o.err
}
