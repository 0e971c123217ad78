package main

import (
	"context"
	"embed"
	"flag"
	"fmt"
	"io/fs"
	"runtime"
	"runtime/debug"
	"strings"

	"netfusion/kernels/cpu"
)

// licences holds the licence of everything that is linked into the program, and this project's own with its notices.
//
//go:generate go run ./licences
//go:embed licences/*.txt
var licences embed.FS

func versionCommand() command {
	return command{
		name:  "version",
		args:  "[-licences]",
		brief: "print versions, and the licences of all that is in the program",
		about: "  cinn version -licences | less\n",
		setup: func(f *flag.FlagSet) action {
			texts := f.Bool("licences", false, "print the licence texts, too")
			return func(_ context.Context, s stdio, words []string) error {
				if len(words) > 0 {
					return usagef("no arguments wanted, got %q", strings.Join(words, " "))
				}
				printVersion(s)
				if *texts {
					return printLicences(s)
				}
				return nil
			}
		},
	}
}

// version is the module's version, or the commit that it was built from.
func version() string {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := build.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range build.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(12, len(s.Value))]
		}
	}
	return "devel"
}

func printVersion(s stdio) {
	fmt.Fprintf(s.out, "cinn %s, %s %s/%s, %d processors, vector forms: %s\n",
		version(), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), vectorForms())
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, d := range build.Deps {
			fmt.Fprintf(s.out, "  %s %s\n", d.Path, d.Version)
		}
	}
}

func vectorForms() string {
	switch {
	case cpu.AVX512:
		return "AVX-512, AVX2"
	case cpu.AVX2:
		return "AVX2"
	}
	return "none, plain Go"
}

func printLicences(s stdio) error {
	texts, err := fs.Glob(licences, "licences/*.txt")
	if err != nil {
		return err
	}
	for _, name := range texts {
		text, err := licences.ReadFile(name)
		if err != nil {
			return err
		}
		title := strings.TrimSuffix(strings.TrimPrefix(name, "licences/"), ".txt")
		fmt.Fprintf(s.out, "\n===== %s =====\n\n%s\n", strings.ReplaceAll(title, "_", "/"), strings.TrimSpace(string(text)))
	}
	return nil
}
