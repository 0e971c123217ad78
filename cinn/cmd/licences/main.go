// Command licences gathers the licence texts of all that is linked into cinn, on any platform, beside this file:
// this project's, Go's, and those of the modules. "go generate ./cinn/cmd" runs it.
package main

import (
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const folder = "licences"

func main() {
	log.SetFlags(0)
	sources := map[string]string{
		"netfusion":        "../../LICENSE",
		"netfusion_NOTICE": "../../NOTICE",
		"go":               filepath.Join(strings.TrimSpace(run("GOFLAGS=", "env", "GOROOT")), "LICENSE"),
	}
	for _, system := range []string{"linux", "darwin", "windows"} {
		modules := run("GOOS="+system, "list", "-deps", "-f", "{{with .Module}}{{.Path}} {{.Dir}}{{end}}", ".")
		for line := range strings.Lines(modules) {
			if path, dir, ok := strings.Cut(strings.TrimSpace(line), " "); ok && path != "netfusion" {
				sources[strings.ReplaceAll(path, "/", "_")] = filepath.Join(dir, "LICENSE")
			}
		}
	}
	old, err := filepath.Glob(filepath.Join(folder, "*.txt"))
	check(err)
	for _, path := range old {
		name := strings.TrimSuffix(filepath.Base(path), ".txt")
		if _, ok := sources[name]; !ok {
			check(os.Remove(path))
		}
	}
	for name, source := range sources {
		text, err := os.ReadFile(source)
		check(err)
		check(os.WriteFile(filepath.Join(folder, name+".txt"), text, 0o644))
	}
}

// run returns what the go command prints, with one more environment variable.
func run(variable string, args ...string) string {
	command := exec.Command("go", args...)
	command.Env = append(os.Environ(), variable)
	command.Stderr = os.Stderr
	text, err := command.Output()
	check(err)
	return string(text)
}

func check(err error) {
	if err != nil {
		log.Fatal("licences: ", err)
	}
}
