package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	dir := t.TempDir()
	sum := strings.Repeat("5d", 32)
	hopper := "# GPU kernels on NVIDIA H100\n\nCompute capability 9.0, x\n\n`matmul/sm90a.ptx` sha256 " + sum + "\n\n## Tests\n\n| matmul | - | passed | 1.0 |\n"
	for name, text := range map[string]string{"b.md": hopper, "a.md": "# CPU kernels\n", "c.md": hopper} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.md"))
	got, err := table(files)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(got), "var proven = map[string]string{\n\t\""+sum+"\": \"b.md\",\n}\n") {
		t.Errorf("%s", got)
	}
	if got, err = table(nil); err != nil || !strings.Contains(string(got), "var proven = map[string]string{}\n") {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := table([]string{filepath.Join(dir, "none.md")}); err == nil {
		t.Error("a file that is not there")
	}
}
