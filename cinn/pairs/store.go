package pairs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"

	"netfusion/kernels/quantize"
	"netfusion/nn/disk"
)

// A Store is a file of pairs as training reads them: no captions and no pictures, but vectors. It is written once, from front to
// back, by programs that may be killed at any moment, and read in any order, however large it is.
//
//	bytes 0-7      "nfpairs" and the version, 1
//	bytes 8-15     length of the header and its CRC-32C, two u32; all numbers are little-endian
//	from byte 16   the header, JSON; zeros up to a multiple of 4096
//	then           records of one size, the last perhaps torn
//
// A record is condition [Cond], latent [Latent] and, with Std, its standard deviation [Latent], in the header's type; zeros up to a
// multiple of 4; with Classes the class, u32; 4·group + split, u32; and the CRC-32C, u32, of the record's number as u64 and of all
// of the record before.
const (
	storeMagic   = "nfpairs\x01"
	storePrefix  = len(storeMagic) + 8
	storePage    = 4096
	maxHeader    = 16 << 20
	maxDimension = 1 << 16
	maxClasses   = 1 << 16
	maxGroup     = 1<<30 - 1

	// syncEvery is how many bytes are written between two syncs: a crash of the whole machine can spoil as many at the end.
	syncEvery = 64 << 20
)

// Header says what the pairs of a Store are.
type Header struct {
	Source string `json:"source"` // what they were made from, for people
	Cond   int    `json:"cond"`   // dimensions of a condition
	Latent int    `json:"latent"` // dimensions of a latent
	Std    bool   `json:"std,omitempty"`
	Type   string `json:"type"` // of the numbers: f32, f16 or bf16

	Classes  int      `json:"classes,omitempty"` // of the target expert; 0 is pairs without class
	ClassDim int      `json:"class_dim,omitempty"`
	Table    []byte   `json:"table,omitempty"` // their embeddings, float32 [Classes][ClassDim], little-endian
	Names    []string `json:"names,omitempty"` // of the classes, if they have some

	Fingerprints map[string]string `json:"fingerprints,omitempty"` // of what the pairs were made by, by its part in it
	Licences     map[string]string `json:"licences,omitempty"`     // the same
	Recipe       map[string]string `json:"recipe,omitempty"`       // the settings, which decide what the next pairs are
}

// Pair is one record. Std is used if the header says so, Class if it has classes.
type Pair struct {
	Condition, Latent, Std []float32
	Class                  int
	Group                  int // pairs that belong together, as those of one caption
	Split                  Split
}

// NewPair returns a Pair with room for what h says.
func (h *Header) NewPair() Pair {
	p := Pair{Condition: make([]float32, h.Cond), Latent: make([]float32, h.Latent)}
	if h.Std {
		p.Std = make([]float32, h.Latent)
	}
	return p
}

// SetTable stores class embeddings, [Classes][ClassDim].
func (h *Header) SetTable(table []float32) {
	h.Table = make([]byte, 0, 4*len(table))
	for _, v := range table {
		h.Table = binary.LittleEndian.AppendUint32(h.Table, math.Float32bits(v))
	}
}

// ClassTable returns the class embeddings, [Classes][ClassDim].
func (h *Header) ClassTable() []float32 {
	table := make([]float32, len(h.Table)/4)
	read32(table, h.Table)
	return table
}

func (h *Header) check() error {
	switch {
	case h.Cond < 1 || h.Cond > maxDimension || h.Latent < 1 || h.Latent > maxDimension:
		return fmt.Errorf("conditions of %d dimensions and latents of %d, want 1 to %d", h.Cond, h.Latent, maxDimension)
	case h.Type != "f32" && h.Type != "f16" && h.Type != "bf16":
		return fmt.Errorf("numbers of type %q, want f32, f16 or bf16", h.Type)
	case h.Classes < 0 || h.Classes > maxClasses || h.ClassDim < 0 || h.ClassDim > maxDimension || (h.Classes > 0) != (h.ClassDim > 0):
		return fmt.Errorf("%d classes of %d dimensions", h.Classes, h.ClassDim)
	case len(h.Table) != 4*h.Classes*h.ClassDim:
		return fmt.Errorf("a class table of %d bytes, want [%d][%d] float32", len(h.Table), h.Classes, h.ClassDim)
	case len(h.Names) > 0 && len(h.Names) != h.Classes:
		return fmt.Errorf("%d names of %d classes", len(h.Names), h.Classes)
	}
	for i, v := range h.ClassTable() {
		if v-v != 0 {
			return fmt.Errorf("the class table holds %v at %d", v, i)
		}
	}
	return nil
}

// width is the bytes of a number.
func (h *Header) width() int {
	if h.Type == "f32" {
		return 4
	}
	return 2
}

// numbers is how many a record has.
func (h *Header) numbers() int {
	if h.Std {
		return h.Cond + 2*h.Latent
	}
	return h.Cond + h.Latent
}

// vectors is the bytes of a record's numbers, a multiple of 4.
func (h *Header) vectors() int { return (h.numbers()*h.width() + 3) &^ 3 }

// record is the bytes of a record.
func (h *Header) record() int {
	n := h.vectors() + 8
	if h.Classes > 0 {
		n += 4
	}
	return n
}

// encode returns all that comes before the records.
func (h *Header) encode() ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	about, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if len(about) > maxHeader {
		return nil, fmt.Errorf("a header of %d bytes, want at most %d", len(about), maxHeader)
	}
	out := append(make([]byte, 0, storePage), storeMagic...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(about)))
	out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(about, castagnoli))
	out = append(out, about...)
	return append(out, make([]byte, -len(out)&(storePage-1))...), nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errNoStore says that a file is something else.
var errNoStore = errors.New("not a store of pairs")

// decodeHeader reads the header and returns where the records begin.
func decodeHeader(data []byte) (h Header, begin int, err error) {
	if len(data) < storePrefix || !bytes.HasPrefix(data, []byte(storeMagic)) {
		return h, 0, errNoStore
	}
	n := binary.LittleEndian.Uint32(data[len(storeMagic):])
	begin = (storePrefix + int(n) + storePage - 1) &^ (storePage - 1)
	if n > maxHeader || begin > len(data) {
		return h, 0, fmt.Errorf("the header should be of %d bytes, the file has %d", n, len(data))
	}
	about := data[storePrefix:][:n]
	if crc32.Checksum(about, castagnoli) != binary.LittleEndian.Uint32(data[len(storeMagic)+4:]) {
		return h, 0, errors.New("the header is damaged")
	}
	if err := json.Unmarshal(about, &h); err != nil {
		return h, 0, fmt.Errorf("header: %w", err)
	}
	if err := h.check(); err != nil {
		return h, 0, fmt.Errorf("header: %w", err)
	}
	return h, begin, nil
}

// encodeRecord writes p as record number i to dst [record].
func (h *Header) encodeRecord(dst []byte, i int, p *Pair) error {
	parts := [3][]float32{p.Condition, p.Latent, p.Std}
	want := [3]int{h.Cond, h.Latent, 0}
	if h.Std {
		want[2] = h.Latent
	}
	at := 0
	for k, v := range parts {
		if len(v) != want[k] {
			return fmt.Errorf("the %s has %d dimensions, want %d", vectorNames[k], len(v), want[k])
		}
		h.put(dst[at:], v)
		at += len(v) * h.width()
	}
	clear(dst[at:h.vectors()])
	at = h.vectors()
	if h.Classes > 0 {
		if !within(p.Class, h.Classes) {
			return fmt.Errorf("class %d of %d", p.Class, h.Classes)
		}
		binary.LittleEndian.PutUint32(dst[at:], uint32(p.Class))
		at += 4
	}
	if p.Group < 0 || p.Group > maxGroup || p.Split > Test {
		return fmt.Errorf("group %d in split %d, want 0 to %d in 0 to %d", p.Group, p.Split, maxGroup, Test)
	}
	binary.LittleEndian.PutUint32(dst[at:], uint32(p.Group)<<2|uint32(p.Split))
	binary.LittleEndian.PutUint32(dst[at+4:], h.sum(dst, i))
	return h.checkRecord(dst, i)
}

var vectorNames = [3]string{"condition", "latent", "latent's standard deviation"}

// sum is the checksum of record i.
func (h *Header) sum(record []byte, i int) uint32 {
	var number [8]byte
	binary.LittleEndian.PutUint64(number[:], uint64(i))
	return crc32.Update(crc32.Checksum(number[:], castagnoli), castagnoli, record[:h.record()-4])
}

// whole tells whether record i is as it was written.
func (h *Header) whole(record []byte, i int) bool {
	return binary.LittleEndian.Uint32(record[h.record()-4:]) == h.sum(record, i)
}

// checkRecord tells what is wrong with what record i says, whoever wrote it.
func (h *Header) checkRecord(record []byte, i int) error {
	if !h.whole(record, i) {
		return errors.New("is damaged")
	}
	if !h.plain(record) {
		if err := h.checkNumbers(record); err != nil {
			return err
		}
	}
	at := h.vectors()
	if h.Classes > 0 {
		if k := binary.LittleEndian.Uint32(record[at:]); k >= uint32(h.Classes) {
			return fmt.Errorf("class %d of %d", k, h.Classes)
		}
		at += 4
	}
	if s := Split(binary.LittleEndian.Uint32(record[at:]) & 3); s > Test {
		return fmt.Errorf("split %d", s)
	}
	return nil
}

// plain tells that all numbers of a record are finite and that no deviation has a sign, by their bits.
func (h *Header) plain(record []byte) bool {
	free, signed := record[:h.numbers()*h.width()], []byte(nil)
	if h.Std {
		at := (h.Cond + h.Latent) * h.width()
		free, signed = free[:at], free[at:]
	}
	if h.Type == "f32" {
		const exponent, sign = 0x7f800000, 1 << 31
		for ; len(free) >= 4; free = free[4:] {
			if binary.LittleEndian.Uint32(free)&exponent == exponent {
				return false
			}
		}
		for ; len(signed) >= 4; signed = signed[4:] {
			if v := binary.LittleEndian.Uint32(signed); v&exponent == exponent || v&sign != 0 {
				return false
			}
		}
		return true
	}
	exponent := uint16(0x7c00)
	if h.Type == "bf16" {
		exponent = 0x7f80
	}
	for ; len(free) >= 2; free = free[2:] {
		if binary.LittleEndian.Uint16(free)&exponent == exponent {
			return false
		}
	}
	for ; len(signed) >= 2; signed = signed[2:] {
		if v := binary.LittleEndian.Uint16(signed); v&exponent == exponent || v&(1<<15) != 0 {
			return false
		}
	}
	return true
}

// checkNumbers names the first number that is not finite, or the first deviation below 0.
func (h *Header) checkNumbers(record []byte) error {
	p := h.NewPair()
	at := 0
	for which, v := range [3][]float32{p.Condition, p.Latent, p.Std} {
		h.get(v, record[at*h.width():])
		at += len(v)
		for j, x := range v {
			if x-x != 0 || which == 2 && x < 0 {
				return fmt.Errorf("%s: dimension %d is %v as %s", vectorNames[which], j, x, h.Type)
			}
		}
	}
	return nil
}

// decodeRecord reads a record into p, whose slices have the lengths of NewPair.
func (h *Header) decodeRecord(p *Pair, record []byte) {
	w := h.width()
	h.get(p.Condition[:h.Cond], record)
	h.get(p.Latent[:h.Latent], record[h.Cond*w:])
	if h.Std {
		h.get(p.Std[:h.Latent], record[(h.Cond+h.Latent)*w:])
	}
	at := h.vectors()
	if h.Classes > 0 {
		p.Class = int(binary.LittleEndian.Uint32(record[at:]))
		at += 4
	}
	word := binary.LittleEndian.Uint32(record[at:])
	p.Group, p.Split = int(word>>2), Split(word&3)
}

// put writes v in the header's type.
func (h *Header) put(dst []byte, v []float32) {
	if h.Type == "f32" {
		for i, x := range v {
			binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(x))
		}
		return
	}
	var half [256]uint16
	for len(v) > 0 {
		n := min(len(v), len(half))
		if h.Type == "f16" {
			quantize.F32ToF16(half[:n], v[:n])
		} else {
			quantize.F32ToBF16(half[:n], v[:n])
		}
		for i, x := range half[:n] {
			binary.LittleEndian.PutUint16(dst[2*i:], x)
		}
		dst, v = dst[2*n:], v[n:]
	}
}

// get reads v in the header's type.
func (h *Header) get(v []float32, src []byte) {
	if h.Type == "f32" {
		read32(v, src)
		return
	}
	var half [256]uint16
	for len(v) > 0 {
		n := min(len(v), len(half))
		for i := range half[:n] {
			half[i] = binary.LittleEndian.Uint16(src[2*i:])
		}
		if h.Type == "f16" {
			quantize.F16ToF32(v[:n], half[:n])
		} else {
			quantize.BF16ToF32(v[:n], half[:n])
		}
		src, v = src[2*n:], v[n:]
	}
}

func read32(v []float32, src []byte) {
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}

// count is how many records of data, which begins with the first, are whole: those behind the last whole one are what a writer
// left that did not come to an end. More of them than a crash can leave are damage.
func (h *Header) count(data []byte) (int, error) {
	size := h.record()
	n := len(data) / size
	for k := n; k > 0; k-- {
		if h.whole(data[(k-1)*size:k*size], k-1) {
			return k, nil
		}
		if (n-k)*size > syncEvery {
			return 0, fmt.Errorf("the last %d pairs are damaged", n-k+1)
		}
	}
	return 0, nil
}

// Store is an open Store. It does not change, and any number of goroutines may read it. What is appended after OpenStore is not
// in it.
type Store struct {
	Header
	name    string
	records []byte
	n       int
	unmap   func() error
}

// IsStore tells whether the file at path says that it is a Store.
func IsStore(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	var begin [len(storeMagic)]byte
	n, _ := f.Read(begin[:])
	return string(begin[:n]) == storeMagic, nil
}

// OpenStore maps the Store at path. Verify tells whether the records are as they were written.
func OpenStore(path string) (*Store, error) {
	data, unmap, err := disk.Map(path)
	if err != nil {
		return nil, err
	}
	s, err := ParseStore(path, data)
	if err != nil {
		return nil, errors.Join(err, unmap())
	}
	s.unmap = unmap
	return s, nil
}

// ParseStore opens a Store in memory, to which it refers from then on; name stands for it in errors.
func ParseStore(name string, data []byte) (*Store, error) {
	h, begin, err := decodeHeader(data)
	if err == nil {
		var n int
		if n, err = h.count(data[begin:]); err == nil {
			return &Store{Header: h, name: name, records: data[begin:], n: n}, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", name, err)
}

// Close gives back the file.
func (s *Store) Close() error {
	s.records, s.n = nil, 0
	if s.unmap == nil {
		return nil
	}
	return s.unmap()
}

// Len is how many pairs there are.
func (s *Store) Len() int { return s.n }

// Bytes is the size of all pairs in the file.
func (s *Store) Bytes() int { return s.n * s.record() }

// Read copies pair i into p, whose slices have the lengths of Header.NewPair. It allocates nothing, and does not look whether the
// record is whole.
func (s *Store) Read(i int, p *Pair) { s.decodeRecord(p, s.at(i)) }

func (s *Store) at(i int) []byte {
	size := s.record()
	return s.records[i*size : (i+1)*size : (i+1)*size]
}

// Verify reads all pairs and returns a fingerprint of the Store's contents; the error names the first pair that is damaged, or that
// no trainer could use. report, which may be nil, hears how many are done.
func (s *Store) Verify(ctx context.Context, report func(done, total int)) (fingerprint string, err error) {
	about, err := s.encode()
	if err != nil {
		return "", fmt.Errorf("%s: %w", s.name, err)
	}
	h := sha256.New()
	h.Write(about)
	const often = 1 << 12
	for i := range s.n {
		if i%often == 0 {
			if err := ctx.Err(); err != nil {
				return "", err
			}
			if report != nil {
				report(i, s.n)
			}
		}
		record := s.at(i)
		if err := s.checkRecord(record, i); err != nil {
			return "", fmt.Errorf("%s: pair %d: %w", s.name, i, err)
		}
		h.Write(record[len(record)-4:])
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Select returns the pairs of a split.
func (s *Store) Select(split Split) []uint32 {
	var rows []uint32
	for i := range s.n {
		record := s.at(i)
		if Split(binary.LittleEndian.Uint32(record[len(record)-8:])&3) == split {
			rows = append(rows, uint32(i))
		}
	}
	return rows
}
