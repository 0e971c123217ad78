package bench

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The table of registers is that of the PTX which is committed, and any driver since CUDA 12.4 loads that.
func TestPTXIsThatOfTheTable(t *testing.T) {
	table, err := os.ReadFile("ptx/entries.md")
	if err != nil {
		t.Fatal(err)
	}
	sources, err := filepath.Glob("../kernels/*/*.cu")
	if err != nil || len(sources) < 10 {
		t.Fatalf("found only %d kernel sources: %v", len(sources), err)
	}
	entry := regexp.MustCompile(`\.entry (\w+)\(`)
	for _, source := range sources {
		folder, name, target := filepath.Dir(source), "sm80.ptx", "sm_80"
		if filepath.Base(source) == "hopper.cu" {
			name, target = "sm90a.ptx", "sm_90a"
		}
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Error(err)
			continue
		}
		family := filepath.Base(folder)
		if line := fmt.Sprintf("`%s/%s` sha256 %x\n", family, name, sha256.Sum256(text)); !strings.Contains(string(table), line) {
			t.Errorf("ptx/entries.md is not of %s's PTX: ./build.sh ptx writes both", family)
		}
		for _, line := range []string{"\n.version 8.4\n", "\n.target " + target + "\n"} {
			if !strings.Contains(string(text), line) {
				t.Errorf("%s: no line %q", family, line)
			}
		}
		for _, e := range entry.FindAllSubmatch(text, -1) {
			if name := string(e[1]); !strings.HasPrefix(name, family+"_") || !strings.Contains(string(table), "\n| "+name+" |") {
				t.Errorf("%s: entry %s has another family's name, or is not in the table", family, name)
			}
		}
	}
}
