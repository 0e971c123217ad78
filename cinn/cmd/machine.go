package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"netfusion/cinn/train"
)

// memory is a flag for a number of bytes: 3000000000, 800M, 3.5GiB.
type memory int

var units = []struct {
	suffix string
	bytes  float64
}{{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"tib", 1 << 40}, {"k", 1 << 10}, {"m", 1 << 20}, {"g", 1 << 30}, {"t", 1 << 40}, {"b", 1}, {"", 1}}

func (m *memory) Set(text string) error {
	lower := strings.ToLower(strings.TrimSpace(text))
	for _, u := range units {
		digits, ok := strings.CutSuffix(lower, u.suffix)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
		if err != nil || !(v > 0 && v*u.bytes < math.MaxInt64) {
			break
		}
		*m = memory(v * u.bytes)
		return nil
	}
	return fmt.Errorf("want a number of bytes as 800M or 3.5GiB")
}

func (m *memory) String() string {
	if *m == 0 {
		return ""
	}
	return train.Bytes(int(*m))
}
