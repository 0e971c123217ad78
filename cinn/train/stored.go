package train

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"

	"netfusion/cinn/flow"
	"netfusion/cinn/pairs"
	"netfusion/kernels/random"
)

// Stored is pairs in a file: one split of a Store, or an even choice of it. Training takes all of them once, in an order of its own,
// before it takes one again. Nothing is in memory but the list of the split's pairs.
type Stored struct {
	// Blind hides the conditions: they read as zeros.
	Blind bool

	store *pairs.Store
	rows  []uint32
	sum   string
}

// Splits verifies a Store, which must stay open, and returns the pairs to train on and at most judge pairs, 0 for all, to be judged
// by. report, which may be nil, hears how many pairs are verified.
func Splits(ctx context.Context, s *pairs.Store, judge int, report func(done, total int)) (train, validate *Stored, err error) {
	sum, err := s.Verify(ctx, report)
	if err != nil {
		return nil, nil, err
	}
	train = &Stored{store: s, rows: s.Select(pairs.Train), sum: sum + " train"}
	held := s.Select(pairs.Validation)
	if n := len(held); judge > 0 && n > judge {
		for i := range judge {
			held[i] = held[i*n/judge]
		}
		held = held[:judge]
	}
	validate = &Stored{store: s, rows: held, sum: fmt.Sprint(sum, " validation ", len(held))}
	return train, validate, nil
}

// Len is how many pairs there are.
func (d *Stored) Len() int { return len(d.rows) }

// Bytes is what the list of pairs takes in memory.
func (d *Stored) Bytes() int { return 4 * len(d.rows) }

// Pick takes the pairs in an order that each pass over them shuffles anew.
func (d *Stored) Pick(seed, at uint64, _ float64) int {
	n := uint64(len(d.rows))
	return int(shuffled(seed, at/n, at%n, n))
}

// Read copies pair i.
func (d *Stored) Read(i int, r *Row) {
	p := pairs.Pair{Condition: r.Cond, Latent: r.Mean, Std: r.Std}
	d.store.Read(int(d.rows[i]), &p)
	if !d.store.Std {
		clear(r.Std)
	}
	if d.Blind {
		clear(r.Cond)
	}
	r.Class, r.Group, r.Weight = p.Class, p.Group, 1
}

func (d *Stored) check(c flow.Config) error {
	h := &d.store.Header
	switch {
	case len(d.rows) == 0:
		return errors.New("no pairs")
	case h.Cond != c.Cond || h.Latent != c.Latent:
		return fmt.Errorf("conditions of %d dimensions and latents of %d, the flow wants %d and %d", h.Cond, h.Latent, c.Cond, c.Latent)
	case c.Classes > 0 && (h.Classes != c.Classes || h.ClassDim != c.Class):
		return fmt.Errorf("%d classes of %d dimensions, the flow has %d of %d", h.Classes, h.ClassDim, c.Classes, c.Class)
	}
	return nil
}

func (d *Stored) fingerprint() string {
	sum := sha256.Sum256(fmt.Append(nil, d.sum, d.Blind))
	return hex.EncodeToString(sum[:])
}

// shuffleStream is a stream of the noise generator, beside those of the sampler: sample number pass, dimension round and half.
const shuffleStream = 10

// shuffled returns element i of a permutation of 0 to n-1, which seed and pass choose, without making the others: a Feistel network
// permutes the next power of 4, and what falls outside is permuted again.
func shuffled(seed, pass, i, n uint64) uint64 {
	half := max(1, (bits.Len64(n-1)+1)/2)
	mask := uint64(1)<<half - 1
	for {
		low, high := i&mask, i>>half
		for round := range uint32(4) {
			w := random.Philox([4]uint32{uint32(low), round, uint32(pass), shuffleStream}, [2]uint32{uint32(seed), uint32(seed >> 32)})
			low, high = high^uint64(w[0])&mask, low
		}
		if i = high<<half | low; i < n {
			return i
		}
	}
}
