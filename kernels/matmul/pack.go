package matmul

// PackedLen returns the length of the packed form of W [n][k]: 16·ceil(n/16)·k.
func PackedLen(n, k int) int { return (n + Width - 1) / Width * Width * k }

// Pack writes the packed form of w, W [n][k] row-major, to dst.
func Pack(dst, w []float32, n, k int) {
	checkPack(dst, w, n, k)
	for j := 0; j < n; j += Width {
		panel := dst[j*k:][:Width*k]
		if n-j < Width {
			packRagged(panel, w[j*k:n*k], k)
			continue
		}
		packPanel(panel, w[j*k:][:Width*k], k)
	}
}

// packPanel transposes rows [16][k] to panel [k][16], four rows by four columns at a time so that each
// cache line of the panel is completed while it is in L1.
func packPanel[T float32 | uint32](panel, rows []T, k int) {
	p := 0
	for ; p+4 <= k; p += 4 {
		out := panel[p*Width:][: 4*Width : 4*Width]
		for j := 0; j < Width; j += 4 {
			r0 := rows[j*k+p:][:4:4]
			r1 := rows[(j+1)*k+p:][:4:4]
			r2 := rows[(j+2)*k+p:][:4:4]
			r3 := rows[(j+3)*k+p:][:4:4]
			for q := range 4 {
				o := out[q*Width+j:][:4:4]
				o[0], o[1], o[2], o[3] = r0[q], r1[q], r2[q], r3[q]
			}
		}
	}
	for ; p < k; p++ {
		for j := range Width {
			panel[p*Width+j] = rows[j*k+p]
		}
	}
}

// packRagged packs the last panel, which has fewer than 16 rows.
func packRagged(panel, rows []float32, k int) {
	clear(panel)
	for j := 0; j*k < len(rows); j++ {
		for p, v := range rows[j*k:][:k] {
			panel[p*Width+j] = v
		}
	}
}

// PackT writes the packed form of W to dst from its transpose wt, Wᵀ [k][n] row-major.
func PackT(dst, wt []float32, n, k int) {
	checkPack(dst, wt, n, k)
	// Row by row of wt, so that the reads are one stream: each row fills one cache line in every panel.
	full := n / Width * Width
	for p := range k {
		row := wt[p*n:][:n]
		for j := 0; j < full; j += Width {
			*(*[Width]float32)(dst[j*k+p*Width:]) = *(*[Width]float32)(row[j:])
		}
		if full < n {
			var last [Width]float32
			copy(last[:], row[full:])
			*(*[Width]float32)(dst[full*k+p*Width:]) = last
		}
	}
}

func checkPack(dst, w []float32, n, k int) {
	if n < 0 || k < 0 {
		panic("matmul: bad size")
	}
	if len(w) < n*k {
		panic("matmul: w too short")
	}
	if len(dst) < PackedLen(n, k) {
		panic("matmul: packed w too short")
	}
}
