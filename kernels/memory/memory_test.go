package memory

import "testing"

func TestMakeIsZeroedAndWritable(t *testing.T) {
	for _, n := range []int{0, 1, 1000, 1 << 20, 3<<20 + 5} {
		s := Make[float32](n)
		if len(s) != n {
			t.Fatalf("%d values, want %d", len(s), n)
		}
		for i := range s {
			if s[i] != 0 {
				t.Fatalf("value %d of %d is %v", i, n, s[i])
			}
			s[i] = 1
		}
	}
}
