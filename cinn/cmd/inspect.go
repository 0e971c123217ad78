package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"netfusion/cinn"
	"netfusion/cinn/pairs"
)

func inspectCommand() command {
	return command{
		name:  "inspect",
		args:  "[-json] FILE",
		brief: "list what a safetensors file, a pack or a store holds, and verify its checksums",
		about: `  cinn inspect fusion.safetensors        a pack, an expert, or anybody's safetensors file
  cinn inspect -json minilm.safetensors
  cinn inspect my.store                  pairs that cinn pairs made

Files that cinn wrote carry a SHA-256 for every tensor; inspect reads all of the file and compares them.
`,
		setup: func(f *flag.FlagSet) action {
			asJSON := f.Bool("json", false, "print one JSON object")
			return func(ctx context.Context, s stdio, words []string) error {
				if len(words) != 1 {
					return usagef("want one file")
				}
				if is, err := pairs.IsStore(words[0]); err == nil && is {
					return inspectStore(ctx, s, words[0], *asJSON)
				}
				return inspect(s, words[0], *asJSON)
			}
		},
	}
}

// inspection is what inspect -json prints.
type inspection struct {
	File     string            `json:"file"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Tensors  []tensorLine      `json:"tensors"`
	Bytes    int               `json:"bytes"` // of all tensors
	Values   int               `json:"values"`
	Verified bool              `json:"verified"` // every checksum is there and right
	Problem  string            `json:"problem,omitempty"`
}

type tensorLine struct {
	Name  string `json:"name"`
	DType string `json:"dtype"`
	Shape []int  `json:"shape"`
	Bytes int    `json:"bytes"`
}

// checksums is the metadata key that would fill pages; Verify reads it.
const checksums = "sha256"

func inspect(s stdio, path string, asJSON bool) error {
	file, err := cinn.OpenContainer(path)
	if err != nil {
		return err
	}
	defer file.Close()
	in := inspection{File: path, Metadata: maps.Clone(file.Metadata())}
	_, summed := in.Metadata[checksums]
	delete(in.Metadata, checksums)
	for _, t := range file.Tensors() {
		in.Tensors = append(in.Tensors, tensorLine{t.Name, t.DType.String(), t.Shape, len(t.Data)})
		in.Bytes += len(t.Data)
		in.Values += t.Elements()
	}
	err = file.Verify()
	in.Verified = err == nil
	if err != nil {
		in.Problem = err.Error()
	}
	if asJSON {
		if e := json.NewEncoder(s.out).Encode(in); e != nil {
			return e
		}
	} else {
		in.print(s.out)
	}
	if summed {
		return err // foreign files have no checksums, which is no error
	}
	return nil
}

func (in *inspection) print(w io.Writer) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, t := range in.Tensors {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d bytes\n", t.Name, t.DType, shape(t.Shape), t.Bytes)
	}
	table.Flush()
	for _, key := range slices.Sorted(maps.Keys(in.Metadata)) {
		fmt.Fprintf(w, "%s: %s\n", key, indent(in.Metadata[key]))
	}
	fmt.Fprintf(w, "%s: %d tensors, %d values, %.1f MiB\n", in.File, len(in.Tensors), in.Values, float64(in.Bytes)/(1<<20))
	if in.Verified {
		fmt.Fprintln(w, "checksums: all right")
	} else {
		fmt.Fprintln(w, "checksums:", in.Problem)
	}
}

func shape(dims []int) string { return strings.ReplaceAll(fmt.Sprint(dims), " ", "×") }

// maxMetadata is the most characters of one entry that are shown; -json shows all.
const maxMetadata = 2000

// indent lays out metadata: JSON objects one field a line, and long text cut.
func indent(text string) string {
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &fields) == nil {
		var b strings.Builder
		for _, key := range slices.Sorted(maps.Keys(fields)) {
			fmt.Fprintf(&b, "\n  %s: %s", key, short(fields[key]))
		}
		return b.String()
	}
	return cut(text)
}

// short is a JSON value for people: strings without quotes.
func short(value json.RawMessage) string {
	var text string
	if json.Unmarshal(value, &text) == nil {
		return cut(strings.ReplaceAll(text, "\n", "\n    "))
	}
	return cut(string(value))
}

func cut(text string) string {
	if runes := []rune(text); len(runes) > maxMetadata {
		return string(runes[:maxMetadata]) + " …"
	}
	return text
}
