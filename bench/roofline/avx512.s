//go:build amd64 && !purego

#include "textflag.h"

// Z0-Z11 acc, Z12 x, Z13 y: 12 chains of multiply-adds, since a processor that starts two a cycle and takes 4 or 5
// cycles for each needs 8 or 10 under way.

// func multiplyAddAVX512(acc *[192]float32, x, y float32, steps int)
TEXT ·multiplyAddAVX512(SB), NOSPLIT, $0-24
	MOVQ         acc+0(FP), DI
	VBROADCASTSS x+8(FP), Z12
	VBROADCASTSS y+12(FP), Z13
	MOVQ         steps+16(FP), CX
	VMOVUPS      0(DI), Z0
	VMOVUPS      64(DI), Z1
	VMOVUPS      128(DI), Z2
	VMOVUPS      192(DI), Z3
	VMOVUPS      256(DI), Z4
	VMOVUPS      320(DI), Z5
	VMOVUPS      384(DI), Z6
	VMOVUPS      448(DI), Z7
	VMOVUPS      512(DI), Z8
	VMOVUPS      576(DI), Z9
	VMOVUPS      640(DI), Z10
	VMOVUPS      704(DI), Z11

step:
	VFMADD213PS Z13, Z12, Z0  // acc[0] = acc[0]·x + y
	VFMADD213PS Z13, Z12, Z1  // acc[1] = acc[1]·x + y
	VFMADD213PS Z13, Z12, Z2  // acc[2] = acc[2]·x + y
	VFMADD213PS Z13, Z12, Z3  // acc[3] = acc[3]·x + y
	VFMADD213PS Z13, Z12, Z4  // acc[4] = acc[4]·x + y
	VFMADD213PS Z13, Z12, Z5  // acc[5] = acc[5]·x + y
	VFMADD213PS Z13, Z12, Z6  // acc[6] = acc[6]·x + y
	VFMADD213PS Z13, Z12, Z7  // acc[7] = acc[7]·x + y
	VFMADD213PS Z13, Z12, Z8  // acc[8] = acc[8]·x + y
	VFMADD213PS Z13, Z12, Z9  // acc[9] = acc[9]·x + y
	VFMADD213PS Z13, Z12, Z10 // acc[10] = acc[10]·x + y
	VFMADD213PS Z13, Z12, Z11 // acc[11] = acc[11]·x + y
	DECQ        CX
	JNZ         step

	VMOVUPS Z0, 0(DI)
	VMOVUPS Z1, 64(DI)
	VMOVUPS Z2, 128(DI)
	VMOVUPS Z3, 192(DI)
	VMOVUPS Z4, 256(DI)
	VMOVUPS Z5, 320(DI)
	VMOVUPS Z6, 384(DI)
	VMOVUPS Z7, 448(DI)
	VMOVUPS Z8, 512(DI)
	VMOVUPS Z9, 576(DI)
	VMOVUPS Z10, 640(DI)
	VMOVUPS Z11, 704(DI)
	VZEROUPPER
	RET

// Z0-Z7 sums, so that no load waits for an addition.

// func sumAVX512(lanes *[16]float32, src *float32, n int)
TEXT ·sumAVX512(SB), NOSPLIT, $0-24
	MOVQ lanes+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	VXORPS Z0, Z0, Z0
	VXORPS Z1, Z1, Z1
	VXORPS Z2, Z2, Z2
	VXORPS Z3, Z3, Z3
	VXORPS Z4, Z4, Z4
	VXORPS Z5, Z5, Z5
	VXORPS Z6, Z6, Z6
	VXORPS Z7, Z7, Z7

block:
	VADDPS 0(SI), Z0, Z0
	VADDPS 64(SI), Z1, Z1
	VADDPS 128(SI), Z2, Z2
	VADDPS 192(SI), Z3, Z3
	VADDPS 256(SI), Z4, Z4
	VADDPS 320(SI), Z5, Z5
	VADDPS 384(SI), Z6, Z6
	VADDPS 448(SI), Z7, Z7
	ADDQ   $512, SI
	SUBQ   $128, CX
	JNZ    block

	VADDPS  Z1, Z0, Z0
	VADDPS  Z3, Z2, Z2
	VADDPS  Z5, Z4, Z4
	VADDPS  Z7, Z6, Z6
	VADDPS  Z2, Z0, Z0
	VADDPS  Z6, Z4, Z4
	VADDPS  Z4, Z0, Z0
	VMOVUPS Z0, (DI)
	VZEROUPPER
	RET
