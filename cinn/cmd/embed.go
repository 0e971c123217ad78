package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
)

func embedCommand() command {
	return command{
		name:  "embed",
		args:  "[flags] TEXT…",
		brief: "print the vectors that texts are to the flow",
		about: `  cinn embed "red heart" "blue heart"    two lines of JSON, each {"text": …, "vector": […]}
  cinn embed - <captions.txt             one for every line of standard input
`,
		setup: func(f *flag.FlagSet) action {
			e := new(embedder)
			e.modelFlags.declare(f)
			return e.run
		},
	}
}

// embedder prints text embeddings.
type embedder struct{ modelFlags }

func (e *embedder) run(ctx context.Context, s stdio, words []string) error {
	if err := e.check(); err != nil {
		return err
	}
	if len(words) == 0 {
		return usagef("no text")
	}
	a, err := e.open()
	if err != nil {
		return err
	}
	defer a.Close()
	vector := make([]float32, a.model.Info().Condition)
	out := bufio.NewWriter(s.out)
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	embed := func(text string) error {
		if err := checkPrompt(text); err != nil {
			return err
		}
		if err := a.Embed(ctx, vector, text); err != nil {
			return err
		}
		return lines.Encode(struct {
			Text   string    `json:"text"`
			Vector []float32 `json:"vector"`
		}{text, vector})
	}
	if len(words) == 1 && words[0] == "-" {
		texts := bufio.NewScanner(s.in)
		texts.Buffer(nil, 1<<20)
		for texts.Scan() {
			if err := embed(texts.Text()); err != nil {
				return err
			}
		}
		if err := texts.Err(); err != nil {
			return named("standard input", err)
		}
		return out.Flush()
	}
	for _, text := range words {
		if err := embed(text); err != nil {
			return err
		}
	}
	return out.Flush()
}
