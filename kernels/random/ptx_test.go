package random_test

import (
	"fmt"
	"slices"
	"sort"
	"testing"

	"netfusion/kernels/random"
	. "netfusion/tensor/kerneltest"
)

func TestMain(m *testing.M) { Main(m, random.PTX) }

// draws are rows, values and first dimensions, with tails on either side of a block of four.
var draws = []struct{ rows, n, ld, dim0 int }{{1, 1, 1, 0}, {3, 5, 7, 2}, {2, 3, 3, 4}, {2, 1030, 1031, 1}, {1, 512, 512, 4096}, {1, 20000, 20000, 0}}

const (
	seed   = 0x9e3779b97f4a7c15
	sample = 1<<32 - 1 // the second row's high word differs
	stream = 7
)

func TestPTXBitsAreTheCPUs(t *testing.T) {
	for _, d := range draws {
		t.Run(fmt.Sprint(d), func(t *testing.T) {
			grid := Size{d.rows, Up((d.dim0+d.n+3)/4-d.dim0/4, 128)}
			run := func(entry string, dst any) {
				Load(t, random.PTX, entry).Run(grid, Size{128}, dst, d.ld, d.n, []uint64{seed, sample}, uint32(stream), d.dim0)
			}
			words, uniform, normal := make([]uint32, d.rows*d.ld), Poison(d.rows*d.ld), Poison(d.rows*d.ld)
			wantWords, wantUniform, wantNormal := make([]uint32, d.rows*d.ld), Poison(d.rows*d.ld), Poison(d.rows*d.ld)
			for i := range d.rows {
				random.Words(wantWords[i*d.ld:][:d.n], seed, stream, sample+uint64(i), d.dim0)
				random.Uniform(wantUniform[i*d.ld:][:d.n], seed, stream, sample+uint64(i), d.dim0)
				random.Normal(wantNormal[i*d.ld:][:d.n], seed, stream, sample+uint64(i), d.dim0)
			}
			run("random_words", words)
			run("random_uniform", uniform)
			run("random_normal", normal)
			if !slices.Equal(words, wantWords) {
				t.Errorf("words %v, want %v", words, wantWords)
			}
			Equal(t, uniform, wantUniform)
			Equal(t, normal, wantNormal)
		})
	}
}

func TestPTXDropoutTakesTheSameBytesHoweverTheBatchLies(t *testing.T) {
	k := Load(t, random.PTX, "random_dropout")
	const cut, keep = 77, 1.5
	for _, s := range []struct{ rows, n, ld int }{{1, 1, 1}, {16, 128, 128}, {37, 130, 131}} {
		x, want := Normals(1, s.rows*s.ld, 1), Normals(1, s.rows*s.ld, 1)
		words := make([]uint32, Up(s.rows, 4))
		for j := range s.n {
			random.Words(words, seed, stream, sample+uint64(j), 0)
			for i := range s.rows {
				if words[i/4]>>(i%4*8)&255 < cut {
					want[i*s.ld+j] = 0
				} else {
					want[i*s.ld+j] *= keep
				}
			}
		}
		k.Run(Size{Up(s.rows, 16), Up(s.n, 128)}, Size{128}, x, s.ld, s.rows, s.n, []uint64{seed, sample}, uint32(stream), uint32(cut), float32(keep))
		Equal(t, x, want)
	}
}

func TestPTXPairsArePickedByWeight(t *testing.T) {
	k := Load(t, random.PTX, "random_pairs")
	const columns, drop, null = 3, 0.25, 1000
	for _, s := range []struct{ rows, count int }{{1, 1}, {200, 2}, {300, 37}} {
		sums, members, total := make([]float64, s.count), make([]int32, columns*s.count), 0.0
		for i := range sums {
			total += float64(1 + i%5)
			sums[i] = total
			for c := range columns {
				members[i*columns+c] = int32(10*i + c)
			}
		}
		ids, want, dropped := make([]int32, columns*s.rows), make([]int32, columns*s.rows), 0
		for i := range s.rows {
			at := uint64(sample + i)
			w := random.Philox([4]uint32{0, uint32(at), uint32(at >> 32), stream}, [2]uint32{seed & (1<<32 - 1), seed >> 32})
			p := min(sort.SearchFloat64s(sums, (float64(w[0])+0.5)*0x1p-32*total), s.count-1)
			for c := range columns {
				want[c*s.rows+i] = members[p*columns+c]
			}
			if (float32(w[1]>>8)+0.5)*0x1p-24 < drop {
				want[i] = null
				dropped++
			}
		}
		if s.rows > 100 && (dropped == 0 || dropped == s.rows) {
			t.Fatalf("%d of %d dropped", dropped, s.rows)
		}
		k.Run(Size{Up(s.rows, 128)}, Size{128}, ids, s.rows, members, columns, sums, s.count, []uint64{seed, sample}, uint32(stream), float32(drop), null)
		if !slices.Equal(ids, want) {
			t.Errorf("%v, want %v", ids, want)
		}
	}
}
