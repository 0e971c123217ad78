// Package embedding looks up rows of tables.
//
// The GPU form is embedding.cu.
package embedding

// F32 copies rows: dst[i] = table[ids[i]]. dst is [len(ids)][n], table [rows][n]; every id must be in [0, rows).
func F32(dst, table []float32, ids []int32, n int) {
	check(len(dst), len(table), ids, n)
	for i, id := range ids {
		copy(dst[i*n:][:n], table[int(id)*n:])
	}
}

// I8Rows looks up rows that are stored as int8 with a scale each: dst[i] = scale[ids[i]]·q[ids[i]]. dst is
// [len(ids)][n], q [rows][n], scale [rows].
func I8Rows(dst []float32, q []int8, scale []float32, ids []int32, n int) {
	check(len(dst), min(len(q), len(scale)*n), ids, n)
	for i, id := range ids {
		s, row, out := scale[id], q[int(id)*n:][:n], dst[i*n:][:n]
		for j, v := range row {
			out[j] = s * float32(v)
		}
	}
}

// Add adds rows: dst[i] += table[ids[i]]. dst is [len(ids)][n], table [rows][n].
func Add(dst, table []float32, ids []int32, n int) {
	check(len(dst), len(table), ids, n)
	for i, id := range ids {
		row, out := table[int(id)*n:][:n], dst[i*n:][:n]
		for j, v := range row {
			out[j] += v
		}
	}
}

func check(dst, table int, ids []int32, n int) {
	if n <= 0 {
		panic("embedding: bad size")
	}
	if dst < len(ids)*n {
		panic("embedding: dst too short")
	}
	rows := table / n
	for _, id := range ids {
		if id < 0 || int(id) >= rows {
			panic("embedding: id outside the table")
		}
	}
}
