package planes

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"netfusion/nn/disk"
	"netfusion/nn/safetensors"
)

func gaussian(n int) []float32 {
	rng := rand.New(rand.NewPCG(3, 4))
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(rng.NormFloat64() * 0.04)
	}
	return v
}

func container(t testing.TB, ts ...safetensors.Tensor) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := safetensors.Write(&b, map[string]string{"arch": "test"}, ts); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// mixed has every element size, odd lengths, an empty tensor, and one longer than a chunk.
func mixed(t testing.TB) []byte {
	v := gaussian(1_200_000)
	q, scale := safetensors.NewI8Rows("q", []int{7, 11}, v[:77])
	return container(t,
		safetensors.NewF32("long", []int{1200, 1000}, v),
		safetensors.NewBF16("odd", []int{33}, v[:33]), q, scale,
		safetensors.NewF32("none", []int{0}, nil),
		safetensors.NewF16("half", []int{5, 5}, v[:25]),
		safetensors.NewBF16("brain", []int{3}, v[:3]),
		safetensors.Tensor{Name: "vocab", DType: safetensors.U8, Shape: []int{5}, Data: []byte("words")})
}

func compressed(t testing.TB, file []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Compress(&b, file); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	small := container(t, safetensors.NewF32("w", []int{1}, []float32{1}))
	plain := binary.LittleEndian.AppendUint64(nil, 2)
	for name, file := range map[string][]byte{"mixed": mixed(t), "small": small, "nothing": container(t), "foreign": append(plain, "{}"...)} {
		packed := compressed(t, file)
		var raw bytes.Buffer
		if err := Decompress(t.Context(), &raw, packed); err != nil {
			t.Fatal(name, err)
		}
		if !bytes.Equal(raw.Bytes(), file) {
			t.Errorf("%s: came back changed", name)
		}
		if _, size, err := Sum(packed); err != nil || size != int64(len(file)) {
			t.Errorf("%s: size %d, %v", name, size, err)
		}
	}
}

func TestSameBytesForAnyNumberOfWorkers(t *testing.T) {
	file := mixed(t)
	want := compressed(t, file)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, workers := range []int{1, 7} {
		runtime.GOMAXPROCS(workers)
		if !bytes.Equal(compressed(t, file), want) {
			t.Errorf("%d workers: other bytes", workers)
		}
	}
}

func TestShuffle(t *testing.T) {
	src := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
	for element, want := range map[int][]byte{
		2: {1, 3, 5, 7, 9, 2, 4, 6, 8, 10, 11},
		4: {1, 5, 2, 6, 3, 7, 4, 8, 9, 10, 11},
	} {
		dst, back := make([]byte, len(src)), make([]byte, len(src))
		shuffle(dst, src, element)
		unshuffle(back, dst, element)
		if !bytes.Equal(dst, want) || !bytes.Equal(back, src) {
			t.Errorf("%d: %v, back %v", element, dst, back)
		}
	}
}

func TestGaussianWeightsShrink(t *testing.T) {
	v := gaussian(1 << 20)
	q, scale := safetensors.NewI8Rows("w", []int{1 << 10, 1 << 10}, v)
	for _, c := range []struct {
		name    string
		tensors []safetensors.Tensor
		limit   float64
	}{
		{"bf16", []safetensors.Tensor{safetensors.NewBF16("w", []int{1 << 20}, v)}, 0.75},
		{"f32", []safetensors.Tensor{safetensors.NewF32("w", []int{1 << 20}, v)}, 0.88},
		{"int8", []safetensors.Tensor{q, scale}, 0.93},
	} {
		file := container(t, c.tensors...)
		ratio := float64(len(compressed(t, file))) / float64(len(file))
		t.Logf("%s: %.4f", c.name, ratio)
		if ratio > c.limit {
			t.Errorf("%s: %.4f of the size, wanted at most %.2f", c.name, ratio, c.limit)
		}
	}
}

// Any zstd reader skips the index and gives the filtered stream, whose unfiltered frames are plain.
func TestOrdinaryZstdReadsTheFrames(t *testing.T) {
	file := container(t, safetensors.Tensor{Name: "v", DType: safetensors.U8, Shape: []int{5}, Data: []byte("words")})
	r, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if raw, err := r.DecodeAll(compressed(t, file), nil); err != nil || !bytes.Equal(raw, file) {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
}

func TestCompressRefusesOtherFiles(t *testing.T) {
	var b bytes.Buffer
	if err := Compress(&b, []byte("no container")); err == nil || b.Len() > 0 {
		t.Errorf("%v, %d bytes written", err, b.Len())
	}
	// 512 MiB of zeros shrink so far that nobody would believe them; the reader's rule holds for the writer too.
	if err := believable(512<<20, 1<<20); err == nil {
		t.Error("a bomb is believed")
	}
	if err := believable(512<<20, 300<<20); err != nil {
		t.Error(err)
	}
}

func TestDamageIsFound(t *testing.T) {
	file := container(t, safetensors.NewBF16("w", []int{50}, gaussian(50)))
	good := compressed(t, file)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		var raw bytes.Buffer
		if err := Decompress(t.Context(), &raw, bad); err == nil && !bytes.Equal(raw.Bytes(), file) {
			t.Errorf("byte %d of %d: damage went unseen", i, len(good))
		}
	}
	for n := range good {
		if err := Decompress(t.Context(), &bytes.Buffer{}, good[:n]); err == nil {
			t.Errorf("%d of %d bytes were accepted", n, len(good))
		}
	}
}

func TestHostileIndexes(t *testing.T) {
	frame := func(raw []byte) []byte {
		e, _ := zstd.NewWriter(nil)
		defer e.Close()
		return e.EncodeAll(raw, nil)
	}
	build := func(x index, frames ...[]byte) []byte { return append(bytes.Join(frames, nil), x.encode()...) }
	ten := frame(make([]byte, 10))
	one := func(c chunk, raw int64) index { return index{chunks: []chunk{c}, rawSize: raw} }
	counted := build(index{})
	binary.LittleEndian.PutUint32(counted[len(counted)-12:], 1<<31)
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":          {nil, "not a plane file"},
		"no magic":       {make([]byte, 100), "not a plane file"},
		"too many":       {counted, "index of 2147483648 frames does not fit"},
		"negative":       {build(one(chunk{size: len(ten), rawSize: 10, element: 1}, -1), ten), "file of 18446744073709551615 bytes"},
		"bomb":           {build(one(chunk{size: len(ten), rawSize: 10, element: 1}, 1<<40), ten), "more than weights do"},
		"long frame":     {build(one(chunk{size: len(ten), rawSize: 1 << 30, element: 1}, 1<<24), ten), "frame 0: "},
		"element size":   {build(one(chunk{size: len(ten), rawSize: 10, element: 3}, 10), ten), "elements of 3 bytes"},
		"hole":           {build(one(chunk{size: len(ten), rawSize: 10, element: 1}, 10), ten, ten), "frames take"},
		"sum of sizes":   {build(one(chunk{size: len(ten), rawSize: 10, element: 1}, 11), ten), "frames take"},
		"frame too long": {build(one(chunk{size: len(ten), rawSize: 9, element: 1}, 9), ten), "frame 0: "},
		"frame short":    {build(one(chunk{size: len(ten), rawSize: 11, element: 1}, 11), ten), "frame 0: unpacks to 10 bytes, wanted 11"},
		"no zstd":        {build(one(chunk{size: 4, rawSize: 4, element: 1}, 4), []byte("text")), "frame 0: "},
		"other checksum": {build(one(chunk{size: len(ten), rawSize: 10, element: 1}, 10), ten), "unpacked file has sha256"},
	} {
		if err := Decompress(t.Context(), &bytes.Buffer{}, c.data); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, wanted %q", name, err, c.want)
		}
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestDecompressStops(t *testing.T) {
	packed := compressed(t, mixed(t))
	full := errors.New("disk full")
	if err := Decompress(t.Context(), failing{full}, packed); !errors.Is(err, full) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Decompress(ctx, &bytes.Buffer{}, packed); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestUnpack(t *testing.T) {
	file := mixed(t)
	packed := compressed(t, file)
	dir := filepath.Join(t.TempDir(), "cache", "netfusion")
	check := func(what string) string {
		t.Helper()
		path, err := Unpack(packed, dir)
		if err != nil {
			t.Fatal(what, err)
		}
		if err := verify(path, packed); err != nil {
			t.Error(what, err)
		}
		if left, _ := os.ReadDir(dir); len(left) != 1 {
			t.Errorf("%s: the folder holds %v", what, left)
		}
		return path
	}
	path := check("first")
	sum, _, _ := Sum(packed)
	if filepath.Base(path) != sum[:16]+".safetensors" || len(sum) != hex.EncodedLen(32) {
		t.Errorf("unpacked to %s, sum %s", path, sum)
	}

	before, _ := os.Stat(path)
	check("second")
	if after, _ := os.Stat(path); !os.SameFile(before, after) {
		t.Error("a good file was replaced")
	}

	for what, damage := range map[string]func([]byte) []byte{
		"cut":    func(b []byte) []byte { return b[:len(b)-1] },
		"header": func(b []byte) []byte { b[100] ^= 1; return b },
		"empty":  func([]byte) []byte { return nil },
	} {
		if err := os.WriteFile(path, damage(bytes.Clone(file)), 0o644); err != nil {
			t.Fatal(err)
		}
		check(what)
	}

	// Damage in the data is left to whoever reads all of it.
	bad := bytes.Clone(file)
	bad[len(bad)-2] ^= 1
	if err := os.WriteFile(path, bad, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := verify(path, packed); err == nil || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
}

func TestUnpackAtTheSameTime(t *testing.T) {
	packed := compressed(t, container(t, safetensors.NewBF16("w", []int{100_000}, gaussian(100_000))))
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			path, err := Unpack(packed, dir)
			if err == nil {
				err = verify(path, packed)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("the folder holds %v", left)
	}
}

func TestUnpackLeavesNothingHalfWritten(t *testing.T) {
	packed := compressed(t, mixed(t))
	packed[len(packed)/3] ^= 1
	dir := t.TempDir()
	if path, err := Unpack(packed, dir); err == nil || path != "" || !strings.Contains(err.Error(), dir) {
		t.Errorf("%q, %v", path, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Unpack(packed, file); err == nil {
		t.Error("unpacked into a file")
	}
}

func FuzzDecompress(f *testing.F) {
	f.Add(compressed(f, container(f, safetensors.NewBF16("w", []int{3}, []float32{1, 2, 3}))))
	f.Add((&index{}).encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		var raw bytes.Buffer
		if err := Decompress(t.Context(), &raw, data); err != nil {
			return
		}
		if _, size, err := Sum(data); err != nil || size != int64(raw.Len()) {
			t.Fatalf("unpacked to %d bytes, the index says %d, %v", raw.Len(), size, err)
		}
	})
}

func BenchmarkPlanes(b *testing.B) {
	v := gaussian(8 << 20)
	q, scale := safetensors.NewI8Rows("w", []int{8 << 10, 1 << 10}, v)
	for name, tensors := range map[string][]safetensors.Tensor{
		"bf16": {safetensors.NewBF16("w", []int{8 << 20}, v)}, "f32": {safetensors.NewF32("w", []int{8 << 20}, v)}, "int8": {q, scale},
	} {
		file := container(b, tensors...)
		packed := compressed(b, file)
		b.Run("Decompress/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(file)))
			for b.Loop() {
				var w bytes.Buffer
				w.Grow(len(file))
				if err := Decompress(b.Context(), &w, packed); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("Compress/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(file)))
			for b.Loop() {
				if err := Compress(&bytes.Buffer{}, file); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(packed))/float64(len(file)), "ratio")
		})
	}
}

// verify checks that the file at path is, byte for byte, what data unpacks to, and a valid safetensors file.
func verify(path string, data []byte) error {
	x, err := parseIndex(data)
	if err != nil {
		return err
	}
	raw, unmap, err := disk.Map(path)
	if err != nil {
		return err
	}
	defer unmap()
	if sum := sha256.Sum256(raw); sum != x.sum {
		return fmt.Errorf("%s: sha256 is %x, wanted %x", path, sum, x.sum)
	}
	_, err = safetensors.Parse(path, raw)
	return err
}
