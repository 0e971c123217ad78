//go:build !linux && !darwin && !freebsd && !netbsd && !openbsd && !dragonfly && !windows

package main

import (
	"errors"
	"os"
)

// Elsewhere nothing counts as a terminal: pictures go into files.

func isTerminal(*os.File) bool { return false }

func width(*os.File) int { return 0 }

func enableColour(*os.File) bool { return false }

func rawMode(*os.File) (restore func(), err error) { return nil, errors.ErrUnsupported }
