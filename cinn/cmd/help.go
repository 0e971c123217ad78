package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

func helpCommand() command {
	return command{
		name:  "help",
		args:  "[COMMAND]",
		brief: "explain a command",
		about: "  cinn help train\n",
		setup: func(*flag.FlagSet) action { return help },
	}
}

func help(_ context.Context, s stdio, words []string) error {
	if len(words) == 0 {
		overview(s.out)
		return nil
	}
	c, ok := find(words[0])
	if !ok || len(words) > 1 {
		return usagef("no command is called %q", strings.Join(words, " "))
	}
	c.help(s.out)
	return nil
}

func overview(w io.Writer) {
	fmt.Fprint(w, `cinn draws pictures from words.

  cinn red heart              draw it, eight times, into red-heart.png
  cinn -n 1 -seed 7 a cat     one cat, from other noise
  cinn                        in a terminal: ask for prompts
  cinn generate train         draw a train; "cinn train" would train

`)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range commands() {
		fmt.Fprintf(table, "  %s\t%s\n", c.name, c.brief)
	}
	table.Flush()
	fmt.Fprint(w, "\n\"cinn help COMMAND\" shows its flags, and examples.\n")
}

// help prints all there is to know about c.
func (c command) help(w io.Writer) {
	fmt.Fprintf(w, "%s\n%s: %s\n\n%s", c.usage(), c.name, c.brief, c.about)
	flags, _ := c.flags()
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	first := true
	flags.VisitAll(func(f *flag.Flag) {
		if first {
			fmt.Fprintln(table, "\nflags:")
			first = false
		}
		value, text := flag.UnquoteUsage(f)
		fmt.Fprintf(table, "  %s\t%s\n", strings.TrimSpace("-"+f.Name+" "+value), text)
	})
	table.Flush()
}

// explain prints what is wrong with a command line, what would be right, and how to draw these words if they were meant
// as a prompt.
func (c command) explain(w io.Writer, wrong string, args []string) {
	fmt.Fprintf(w, "cinn %s: %s\n%s\n", c.name, wrong, c.usage())
	if c.name != "generate" {
		fmt.Fprintf(w, "to draw one: cinn generate %s\n", strings.Join(append([]string{c.name}, drawable(args)...), " "))
	}
	fmt.Fprintf(w, "more: cinn help %s\n", c.name)
}

// drawable returns args if they could be words of a prompt.
func drawable(args []string) []string {
	for _, a := range args {
		if strings.HasPrefix(a, "-") || strings.ContainsFunc(a, func(r rune) bool { return r < ' ' || strings.ContainsRune(`'"\$*?`, r) }) {
			return nil
		}
	}
	return args
}

func (c command) usage() string {
	return strings.TrimSpace("usage: cinn " + c.name + " " + c.args)
}
