//go:build linux

package main

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// freeMemory is how many bytes a program can still take: what the system has, or what its control group leaves. 0 is not known.
func freeMemory() int {
	free := 0
	if f, err := os.Open("/proc/meminfo"); err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if rest, ok := strings.CutPrefix(lines.Text(), "MemAvailable:"); ok {
				kB, _ := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
				free = kB << 10
			}
		}
	}
	for _, group := range [][2]string{
		{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
		{"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"},
	} {
		most, ok1 := number(group[0])
		used, ok2 := number(group[1])
		if left := most - used; ok1 && ok2 && left > 0 && (free == 0 || left < free) {
			free = left
		}
	}
	return free
}

func number(path string) (int, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(b)))
	return v, err == nil
}
