//go:build amd64 && !purego

#include "textflag.h"

// DI dst   DX its stride   SI x   BX its stride   CX rows left
// Z1 scale   Z2 offset   Z3 zero   K1 the channels

// func reluAVX512(dst *float32, ldd int, x *float32, ldx int, scale, offset *float32, rows, cols int)
TEXT ·reluAVX512(SB), NOSPLIT, $0-64
	MOVQ   dst+0(FP), DI
	MOVQ   ldd+8(FP), DX
	MOVQ   x+16(FP), SI
	MOVQ   ldx+24(FP), BX
	MOVQ   scale+32(FP), R8
	MOVQ   offset+40(FP), R9
	MOVQ   rows+48(FP), CX
	MOVQ   cols+56(FP), R10
	SHLQ   $2, DX
	SHLQ   $2, BX
	MOVL   $-1, AX
	BZHIL  R10, AX, AX
	KMOVW  AX, K1
	VMOVUPS.Z (R8), K1, Z1
	VMOVUPS.Z (R9), K1, Z2
	VPXORD Z3, Z3, Z3

row:
	VMOVUPS.Z   (SI), K1, Z0
	VFMADD213PS Z2, Z1, Z0     // Z0 = Z1·Z0 + Z2
	VMAXPS      Z0, Z3, Z0     // a NaN stays
	VMOVUPS     Z0, K1, (DI)
	ADDQ        DX, DI
	ADDQ        BX, SI
	DECQ        CX
	JNZ         row
	VZEROUPPER
	RET
