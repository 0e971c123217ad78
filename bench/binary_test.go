package bench

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The kernels' texts are some megabytes: a program that was built without CUDA does not carry them. That of testdata/kernels, which
// does, shows that they would be found.
func TestOnlyProgramsForGPUsCarryKernels(t *testing.T) {
	for folder, carries := range map[string]bool{"../cinn/cmd": false, "./testdata/kernels": true} {
		program := filepath.Join(t.TempDir(), "program")
		c := exec.Command("go", "build", "-o", program, folder)
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("go build %s: %v\n%s", folder, err, out)
		}
		data, err := os.ReadFile(program)
		if err != nil {
			t.Fatal(err)
		}
		if found := bytes.Contains(data, []byte(".visible .entry ")); found != carries {
			t.Errorf("%s: kernels %v, want %v", folder, found, carries)
		}
	}
}
