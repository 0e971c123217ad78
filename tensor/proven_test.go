package tensor

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"testing"
)

// A shelf is a driver that notes what it is asked to load.
type shelf struct {
	Driver
	capability int
	texts      []string
}

var errShelf = errors.New("a shelf has no streams")

func (s *shelf) Attributes() Attributes                 { return Attributes{Capability: s.capability} }
func (s *shelf) OpenStream(int) (Stream, []byte, error) { return 0, nil, errShelf }
func (s *shelf) Close() error                           { return nil }
func (s *shelf) Load(_, text string, entries []Entry) ([]Function, error) {
	s.texts = append(s.texts, text)
	return make([]Function, len(entries)), nil
}

// What is for compute capability 9.0 alone runs there, and only if a results file names it, or if the caller wants it anyway.
func TestHopperIsForProvenTextsAlone(t *testing.T) {
	for _, f := range Families() {
		if !f.Hopper {
			continue
		}
		sum := sha256.Sum256([]byte(f.Text))
		key := hex.EncodeToString(sum[:])
		file, before := proven[key]
		for _, c := range []struct {
			capability             int
			proven, unproven, want bool
		}{
			{90, false, false, false}, {90, true, false, true}, {90, false, true, true},
			{80, true, true, false}, {89, true, true, false}, {100, true, true, false},
		} {
			if delete(proven, key); c.proven {
				proven[key] = "h100.md"
			}
			s := &shelf{capability: c.capability}
			if _, err := OpenGPU(s, GPUOptions{Unproven: c.unproven}); !errors.Is(err, errShelf) {
				t.Fatal(err)
			}
			if got := slices.Contains(s.texts, f.Text); got != c.want {
				t.Errorf("%s: %+v: loaded: %v", f.Name, c, got)
			}
			if len(s.texts) < 13 {
				t.Errorf("%+v: %d texts", c, len(s.texts))
			}
		}
		if delete(proven, key); before {
			proven[key] = file
		}
	}
}
