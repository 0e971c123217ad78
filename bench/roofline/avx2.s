//go:build amd64 && !purego

#include "textflag.h"

// Y0-Y11 acc, Y12 x, Y13 y: 12 chains of multiply-adds, since a processor that starts two a cycle and takes 4 or 5
// cycles for each needs 8 or 10 under way.

// func multiplyAddAVX2(acc *[192]float32, x, y float32, steps int)
TEXT ·multiplyAddAVX2(SB), NOSPLIT, $0-24
	MOVQ         acc+0(FP), DI
	VBROADCASTSS x+8(FP), Y12
	VBROADCASTSS y+12(FP), Y13
	MOVQ         steps+16(FP), CX
	VMOVUPS      0(DI), Y0
	VMOVUPS      32(DI), Y1
	VMOVUPS      64(DI), Y2
	VMOVUPS      96(DI), Y3
	VMOVUPS      128(DI), Y4
	VMOVUPS      160(DI), Y5
	VMOVUPS      192(DI), Y6
	VMOVUPS      224(DI), Y7
	VMOVUPS      256(DI), Y8
	VMOVUPS      288(DI), Y9
	VMOVUPS      320(DI), Y10
	VMOVUPS      352(DI), Y11

step:
	VFMADD213PS Y13, Y12, Y0  // acc[0] = acc[0]·x + y
	VFMADD213PS Y13, Y12, Y1  // acc[1] = acc[1]·x + y
	VFMADD213PS Y13, Y12, Y2  // acc[2] = acc[2]·x + y
	VFMADD213PS Y13, Y12, Y3  // acc[3] = acc[3]·x + y
	VFMADD213PS Y13, Y12, Y4  // acc[4] = acc[4]·x + y
	VFMADD213PS Y13, Y12, Y5  // acc[5] = acc[5]·x + y
	VFMADD213PS Y13, Y12, Y6  // acc[6] = acc[6]·x + y
	VFMADD213PS Y13, Y12, Y7  // acc[7] = acc[7]·x + y
	VFMADD213PS Y13, Y12, Y8  // acc[8] = acc[8]·x + y
	VFMADD213PS Y13, Y12, Y9  // acc[9] = acc[9]·x + y
	VFMADD213PS Y13, Y12, Y10 // acc[10] = acc[10]·x + y
	VFMADD213PS Y13, Y12, Y11 // acc[11] = acc[11]·x + y
	DECQ        CX
	JNZ         step

	VMOVUPS Y0, 0(DI)
	VMOVUPS Y1, 32(DI)
	VMOVUPS Y2, 64(DI)
	VMOVUPS Y3, 96(DI)
	VMOVUPS Y4, 128(DI)
	VMOVUPS Y5, 160(DI)
	VMOVUPS Y6, 192(DI)
	VMOVUPS Y7, 224(DI)
	VMOVUPS Y8, 256(DI)
	VMOVUPS Y9, 288(DI)
	VMOVUPS Y10, 320(DI)
	VMOVUPS Y11, 352(DI)
	VZEROUPPER
	RET

// Y0-Y7 sums, so that no load waits for an addition.

// func sumAVX2(lanes *[16]float32, src *float32, n int)
TEXT ·sumAVX2(SB), NOSPLIT, $0-24
	MOVQ lanes+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
	VXORPS Y4, Y4, Y4
	VXORPS Y5, Y5, Y5
	VXORPS Y6, Y6, Y6
	VXORPS Y7, Y7, Y7

block:
	VADDPS 0(SI), Y0, Y0
	VADDPS 32(SI), Y1, Y1
	VADDPS 64(SI), Y2, Y2
	VADDPS 96(SI), Y3, Y3
	VADDPS 128(SI), Y4, Y4
	VADDPS 160(SI), Y5, Y5
	VADDPS 192(SI), Y6, Y6
	VADDPS 224(SI), Y7, Y7
	ADDQ   $256, SI
	SUBQ   $64, CX
	JNZ    block

	VADDPS  Y1, Y0, Y0
	VADDPS  Y3, Y2, Y2
	VADDPS  Y5, Y4, Y4
	VADDPS  Y7, Y6, Y6
	VADDPS  Y2, Y0, Y0
	VADDPS  Y6, Y4, Y4
	VADDPS  Y4, Y0, Y0
	VMOVUPS Y0, (DI)
	VZEROUPPER
	RET
