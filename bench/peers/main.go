// Command peers runs one of our own cases beside other engines on the same weights and inputs. README.md says what its arguments
// are and how it is spoken to; driver.py speaks to it.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"netfusion/tensor"
)

// families makes the cases: a call runs one once and returns its result, which the next call may overwrite.
var families = map[string]func(a arguments) (call func() ([]float32, error), err error){
	"bert":    bertCase,
	"biggan":  bigganCase,
	"control": controlCase,
	"conv":    convCase,
	"flow":    flowCase,
	"matmul":  matmulCase,
	"train":   trainCase,
}

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(words []string, in io.Reader, out io.Writer) error {
	a := parse(words)
	family, ok := families[a["family"]]
	if !ok {
		return fmt.Errorf("no family is called %q", a["family"])
	}
	call, err := family(a)
	if err != nil {
		return err
	}
	return serve(call, in, out)
}

// arguments are the words key=value of a command line; the word without = is the family.
type arguments map[string]string

func parse(words []string) arguments {
	a := arguments{}
	for _, w := range words {
		if key, value, ok := strings.Cut(w, "="); ok {
			a[key] = value
		} else {
			a["family"] = w
		}
	}
	return a
}

// numbers returns the integers of some keys.
func (a arguments) numbers(keys ...string) ([]int, error) {
	var all []int
	var errs []error
	for _, key := range keys {
		n, err := strconv.Atoi(a[key])
		if err != nil {
			errs = append(errs, fmt.Errorf("%s=%s is no number", key, a[key]))
		}
		all = append(all, n)
	}
	return all, errors.Join(errs...)
}

// device returns a Device with the case's threads.
func (a arguments) device() (*tensor.Device, error) {
	n, err := a.numbers("threads")
	return tensor.CPU(n[0]), err
}

func (a arguments) precision() (tensor.Precision, error) {
	return tensor.ParsePrecision(a["precision"])
}
