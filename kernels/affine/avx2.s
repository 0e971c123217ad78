//go:build amd64 && !purego

#include "textflag.h"

// Eight lanes on, eight off: n lanes on start at 8-n.
DATA lanes<>+0(SB)/8, $-1
DATA lanes<>+8(SB)/8, $-1
DATA lanes<>+16(SB)/8, $-1
DATA lanes<>+24(SB)/8, $-1
DATA lanes<>+32(SB)/8, $0
DATA lanes<>+40(SB)/8, $0
DATA lanes<>+48(SB)/8, $0
DATA lanes<>+56(SB)/8, $0
GLOBL lanes<>(SB), RODATA|NOPTR, $64

// DI dst   DX its stride   SI x   BX its stride   CX rows left
// Channels 0-7 and 8-15: Y0 Y4 x, Y1 Y5 scale, Y2 Y6 offset, Y8 Y9 the channels; Y3 zero

// func reluAVX2(dst *float32, ldd int, x *float32, ldx int, scale, offset *float32, rows, cols int)
TEXT ·reluAVX2(SB), NOSPLIT, $0-64
	MOVQ  dst+0(FP), DI
	MOVQ  ldd+8(FP), DX
	MOVQ  x+16(FP), SI
	MOVQ  ldx+24(FP), BX
	MOVQ  scale+32(FP), R8
	MOVQ  offset+40(FP), R9
	MOVQ  rows+48(FP), CX
	MOVQ  cols+56(FP), R10
	SHLQ  $2, DX
	SHLQ  $2, BX
	LEAQ  lanes<>(SB), AX
	MOVQ  $8, R11
	MOVQ  R10, R12
	CMPQ  R12, R11
	CMOVQGT R11, R12            // min(cols, 8)
	SUBQ  R12, R10              // the rest
	SUBQ  R11, R12
	NEGQ  R12
	SUBQ  R11, R10
	NEGQ  R10
	VMOVUPS (AX)(R12*4), Y8
	VMOVUPS (AX)(R10*4), Y9
	VMASKMOVPS (R8), Y8, Y1
	VMASKMOVPS 32(R8), Y9, Y5
	VMASKMOVPS (R9), Y8, Y2
	VMASKMOVPS 32(R9), Y9, Y6
	VXORPS Y3, Y3, Y3

row:
	VMASKMOVPS  (SI), Y8, Y0
	VMASKMOVPS  32(SI), Y9, Y4
	VFMADD213PS Y2, Y1, Y0      // Y0 = Y1·Y0 + Y2
	VFMADD213PS Y6, Y5, Y4
	VMAXPS      Y0, Y3, Y0      // a NaN stays
	VMAXPS      Y4, Y3, Y4
	VMASKMOVPS  Y0, Y8, (DI)
	VMASKMOVPS  Y4, Y9, 32(DI)
	ADDQ        DX, DI
	ADDQ        BX, SI
	DECQ        CX
	JNZ         row
	VZEROUPPER
	RET
