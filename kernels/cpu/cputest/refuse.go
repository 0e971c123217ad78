package cputest

import "testing"

// Refuses runs calls that must panic, each as a subtest and with a dst of n values, before they write any of it.
func Refuses(t *testing.T, n int, calls map[string]func(dst []float32)) {
	t.Helper()
	const untouched = 10
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			dst := make([]float32, n)
			for i := range dst {
				dst[i] = untouched
			}
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
				for i, v := range dst {
					if v != untouched {
						t.Fatalf("dst[%d] was written", i)
					}
				}
			}()
			call(dst)
		})
	}
}
