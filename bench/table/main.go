// Command table writes the README's figures between the marks <!-- figures --> and <!-- end of figures --> from the committed
// results: bench/results/peers-*.jsonl, which ./build.sh peers makes, and the last run in bench/results/prove-*.txt. Run it in the
// repository's folder:
//
//	go run ./bench/table          writes README.md
//	go run ./bench/table -check   fails if README.md is not what it would write
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	check := flag.Bool("check", false, "change nothing; fail if README.md is not up to date")
	flag.Parse()
	if err := run(".", *check); err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
}

func run(dir string, check bool) error {
	figures, err := render(filepath.Join(dir, "bench", "results"))
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "README.md")
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, err := splice(string(old), figures)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", path, err)
	case text == string(old):
		return nil
	case check:
		return errors.New("README.md is not what bench/results says: go run ./bench/table")
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

const begin, end = "<!-- figures -->\n", "<!-- end of figures -->\n"

// splice puts figures between the marks of text.
func splice(text, figures string) (string, error) {
	before, rest, ok := strings.Cut(text, begin)
	_, after, okEnd := strings.Cut(rest, end)
	if !ok || !okEnd {
		return "", fmt.Errorf("no lines %q and %q", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return before + begin + "\n" + figures + "\n" + end + after, nil
}

// render makes the figures of all results in a folder.
func render(dir string) (string, error) {
	var b strings.Builder
	peers, err := filepath.Glob(filepath.Join(dir, "peers-*.jsonl"))
	if err != nil {
		return "", err
	}
	for _, path := range peers {
		r, err := readPeers(path)
		if err != nil {
			return "", err
		}
		b.WriteString(r.models())
		b.WriteString(r.products())
		b.WriteString(r.convolutions())
		b.WriteString(r.source(filepath.Base(path)))
	}
	proofs, err := filepath.Glob(filepath.Join(dir, "prove-*.txt"))
	if err != nil {
		return "", err
	}
	for _, path := range proofs {
		p, err := readProof(path)
		if err != nil {
			return "", err
		}
		b.WriteString(p.fusion())
	}
	return strings.TrimSpace(b.String()) + "\n", nil
}
