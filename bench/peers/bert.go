package main

import (
	"context"
	"os"
	"strings"

	"netfusion/experts/bert"
)

// bertCase embeds the lines of a file at once: model=FOLDER texts=FILE tokens=N precision=P threads=N, where N is how many tokens
// each line has.
func bertCase(a arguments) (func() ([]float32, error), error) {
	p, err := a.precision()
	if err != nil {
		return nil, err
	}
	dev, err := a.device()
	if err != nil {
		return nil, err
	}
	n, err := a.numbers("tokens")
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(a["texts"])
	if err != nil {
		return nil, err
	}
	texts := strings.Split(strings.TrimSpace(string(data)), "\n")
	m, err := bert.Open(a["model"], p)
	if err != nil {
		return nil, err
	}
	mean := bert.Representation{Layer: m.Config.Layers, Pooling: bert.Mean}
	s, err := m.NewSession(dev, bert.SessionOptions{Tokens: n[0] * len(texts), Texts: len(texts), Representation: &mean})
	if err != nil {
		return nil, err
	}
	dst := make([]float32, len(texts)*m.Width())
	return func() ([]float32, error) { return dst, s.EmbedAll(context.Background(), dst, texts) }, nil
}
