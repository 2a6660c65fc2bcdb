@ ARMv7E-M and ARMv8-M with the DSP extension: Cortex-M4, M7, M33. Contracts in mod.rs.
@
@ SXTB16 and SMLAD take two products an instruction. Words of four bytes become two words of two halves: the even bytes and,
@ rotated by 8, the odd ones. Single loads may be unaligned, those of several registers are aligned: memory must be Normal and
@ CCR.UNALIGN_TRP 0, as after reset.
    .syntax unified
    .thumb

@ A row of w by a quad. r0 quad, r1 w, r2 acc, r3 rows, [sp] k.
    .section .text.tintin_multiply,"ax",%progbits
    .p2align 2
    .globl tintin_multiply
    .type tintin_multiply,%function
    .thumb_func
tintin_multiply:
    push {r4-r11, lr}
    ldr r4, [sp, #36]
    sub sp, #24
    lsr r5, r4, #2              @ groups of four values, two a turn
    and r7, r5, #1
    add r5, #1
    lsr r5, r5, #1
    strd r0, r5, [sp]           @ quad, turns
    and r4, r4, #3
    lsl r3, r3, #2
    strd r7, r3, [sp, #8]       @ the first turn has one group, from patch to patch in acc
    add r3, r2
    strd r3, r4, [sp, #16]      @ end of the first patch in acc, values left over
    mov lr, r2
1:  ldrd r12, r7, [sp, #8]
    ldr r3, [lr]
    ldr r4, [lr, r7]
    add r8, lr, r7, lsl #1
    ldr r5, [r8]
    ldr r6, [r8, r7]
    ldrd r0, r2, [sp]
    cmp r12, #0
    bne 3f
    cmp r2, #0
    beq 4f
    .macro tintin_group
    ldr r12, [r1], #4
    ldm r0!, {r7-r10}
    sxtb16 r11, r12
    sxtb16 r12, r12, ror #8
    smlad r3, r7, r11, r3
    smlad r4, r8, r11, r4
    smlad r5, r9, r11, r5
    smlad r6, r10, r11, r6
    ldm r0!, {r7-r10}
    smlad r3, r7, r12, r3
    smlad r4, r8, r12, r4
    smlad r5, r9, r12, r5
    smlad r6, r10, r12, r6
    .endm
2:  tintin_group
3:  tintin_group
    subs r2, #1
    bne 2b
4:  ldrd r11, r2, [sp, #16]
    cbz r2, 6f
    ldm r0!, {r7-r10}
    ldrsb r12, [r1], #1
    smlabb r3, r7, r12, r3      @ the low halves alone: what fills up the patch is unknown
    smlabb r4, r8, r12, r4
    smlabb r5, r9, r12, r5
    smlabb r6, r10, r12, r6
    subs r2, #1
    beq 6f
    subs r2, #1
    beq 5f
    ldrsb r12, [r1, #1]
    smlatb r3, r7, r12, r3
    smlatb r4, r8, r12, r4
    smlatb r5, r9, r12, r5
    smlatb r6, r10, r12, r6
5:  ldm r0, {r7-r10}
    ldrsb r12, [r1], #1
    add r1, r2
    smlabb r3, r7, r12, r3
    smlabb r4, r8, r12, r4
    smlabb r5, r9, r12, r5
    smlabb r6, r10, r12, r6
6:  ldr r7, [sp, #12]
    add r8, lr, r7, lsl #1
    str r4, [lr, r7]
    str r3, [lr], #4
    str r5, [r8]
    str r6, [r8, r7]
    cmp lr, r11
    bne 1b
    add sp, #24
    pop {r4-r11, pc}
    .size tintin_multiply, . - tintin_multiply

@ Four patches of bytes, one behind the other, into a quad. r0 quad, r1 bytes, r2 bytes of a patch, a multiple of four.
    .section .text.tintin_seal,"ax",%progbits
    .p2align 2
    .globl tintin_seal
    .type tintin_seal,%function
    .thumb_func
tintin_seal:
    push {r4-r11, lr}
    add r3, r1, r2
    add r4, r3, r2
    add r5, r4, r2
1:  ldr r6, [r1], #4
    ldr r7, [r3], #4
    ldr r8, [r4], #4
    ldr r9, [r5], #4
    sxtb16 r10, r6
    sxtb16 r11, r7
    sxtb16 r12, r8
    sxtb16 lr, r9
    stm r0!, {r10, r11, r12, lr}
    sxtb16 r10, r6, ror #8
    sxtb16 r11, r7, ror #8
    sxtb16 r12, r8, ror #8
    sxtb16 lr, r9, ror #8
    stm r0!, {r10, r11, r12, lr}
    subs r2, #4
    bne 1b
    pop {r4-r11, pc}
    .size tintin_seal, . - tintin_seal

@ Runs of bytes of four patches, side by side and one patch behind the other.
@ r0 to, r1 places (pointers), r2 pairs of words of a run, r3 runs, [sp] step of to, step of from, step of to from patch to patch.
@ Copies up to seven bytes more than asked for.
    .section .text.tintin_copy,"ax",%progbits
    .p2align 2
    .globl tintin_copy
    .type tintin_copy,%function
    .thumb_func
tintin_copy:
    push {r4-r11, lr}
    ldrd r4, r5, [sp, #36]
    ldr r6, [sp, #44]
    mov r7, #4
1:  ldr r8, [r1], #4
    mov r9, r0
    mov r10, r3
    cmp r2, #1
    bne 3f
2:  ldr r11, [r8]
    ldr r12, [r8, #4]
    add r8, r5
    str r11, [r9]
    str r12, [r9, #4]
    add r9, r4
    subs r10, #1
    bne 2b
    b 5f
3:  mov lr, r2
4:  ldr r11, [r8], #4
    ldr r12, [r8], #4
    str r11, [r9], #4
    str r12, [r9], #4
    subs lr, #1
    bne 4b
    sub r8, r8, r2, lsl #3
    add r8, r5
    sub r9, r9, r2, lsl #3
    add r9, r4
    subs r10, #1
    bne 3b
5:  add r0, r6
    subs r7, #1
    bne 1b
    pop {r4-r11, pc}
    .size tintin_copy, . - tintin_copy

@ Runs of bytes, as many as asked for. r0 to, r1 from, r2 len, r3 runs, [sp] step of to, step of from.
    .section .text.tintin_put,"ax",%progbits
    .p2align 2
    .globl tintin_put
    .type tintin_put,%function
    .thumb_func
tintin_put:
    push {r4-r6, lr}
    ldrd r4, r5, [sp, #16]
    sub r4, r2
    sub r5, r2
1:  subs r12, r2, #4
    blo 3f
2:  ldr r6, [r1], #4
    str r6, [r0], #4
    subs r12, #4
    bhs 2b
3:  lsls r12, r12, #31          @ carry: two more, negative: one more
    itt cs
    ldrhcs r6, [r1], #2
    strhcs r6, [r0], #2
    itt mi
    ldrbmi r6, [r1], #1
    strbmi r6, [r0], #1
    add r0, r4
    add r1, r5
    subs r3, #1
    bne 1b
    pop {r4-r6, pc}
    .size tintin_put, . - tintin_put

@ Bytes into pairs of halves: even, odd, even, odd. r0 to, r1 from, r2 groups of four bytes, at least one.
    .section .text.tintin_widen,"ax",%progbits
    .p2align 2
    .globl tintin_widen
    .type tintin_widen,%function
    .thumb_func
tintin_widen:
    push {r4, lr}
1:  ldr r3, [r1], #4
    sxtb16 r12, r3
    sxtb16 r3, r3, ror #8
    strd r12, r3, [r0], #8
    subs r2, #1
    bne 1b
    pop {r4, pc}
    .size tintin_widen, . - tintin_widen

@ Blocks of four rows of w by one x. r0 x as pairs of halves, r1 w, r2 acc, r3 blocks, [sp] groups of four values, k.
    .section .text.tintin_rows,"ax",%progbits
    .p2align 2
    .globl tintin_rows
    .type tintin_rows,%function
    .thumb_func
tintin_rows:
    push {r4-r11, lr}
    ldrd r4, r5, [sp, #36]
    sub sp, #24
    strd r0, r1, [sp]           @ x, w
    strd r4, r5, [sp, #8]       @ groups, k
    strd r2, r3, [sp, #16]      @ acc, blocks
1:  ldrd r0, r1, [sp]
    ldrd r2, r12, [sp, #8]
    add r10, r1, r12
    add r11, r10, r12
    add lr, r11, r12
    add r9, lr, r12
    str r9, [sp, #4]
    ldr r9, [sp, #16]
    ldm r9, {r3-r6}
    .macro tintin_row pointer, sum
    ldr r9, [\pointer], #4
    sxtb16 r12, r9
    sxtb16 r9, r9, ror #8
    smlad \sum, r7, r12, \sum
    smlad \sum, r8, r9, \sum
    .endm
2:  ldrd r7, r8, [r0], #8
    tintin_row r1, r3
    tintin_row r10, r4
    tintin_row r11, r5
    tintin_row lr, r6
    subs r2, #1
    bne 2b
    ldrd r9, r12, [sp, #16]
    stm r9!, {r3-r6}
    subs r12, #1
    strd r9, r12, [sp, #16]
    bne 1b
    add sp, #24
    pop {r4-r11, pc}
    .size tintin_rows, . - tintin_rows

@ acc += a x, row by row. r0 a, r1 x, r2 acc, r3 len, [sp] rows, step of x, step of acc in bytes.
    .section .text.tintin_axpy,"ax",%progbits
    .p2align 2
    .globl tintin_axpy
    .type tintin_axpy,%function
    .thumb_func
tintin_axpy:
    push {r3-r11, lr}
    ldrd r4, r5, [sp, #44]
    sub r4, r3                  @ from the end of a row to the next one
    sub r5, r5, r3, lsl #2
    strd r4, r5, [sp, #44]
    .macro tintin_four a, b, c, d
    ldr r12, [r1], #4
    sxtb16 lr, r12
    sxtb16 r12, r12, ror #8
    smlabb \a, lr, r0, \a
    smlabb \b, r12, r0, \b
    smlatb \c, lr, r0, \c
    smlatb \d, r12, r0, \d
    .endm
1:  subs r3, #8
    blo 3f
2:  ldm r2, {r4-r11}
    tintin_four r4, r5, r6, r7
    tintin_four r8, r9, r10, r11
    stm r2!, {r4-r11}
    subs r3, #8
    bhs 2b
3:  tst r3, #4
    beq 4f
    ldm r2, {r4-r7}
    tintin_four r4, r5, r6, r7
    stm r2!, {r4-r7}
4:  lsls r3, r3, #31            @ carry: two more, negative: one more
    bcc 5f
    ldrsb r12, [r1], #1
    ldrsb lr, [r1], #1
    ldrd r4, r5, [r2]
    smlabb r4, r12, r0, r4
    smlabb r5, lr, r0, r5
    strd r4, r5, [r2], #8
5:  bpl 6f
    ldrsb r12, [r1], #1
    ldr r4, [r2]
    smlabb r4, r12, r0, r4
    str r4, [r2], #4
6:  ldr r6, [sp, #40]
    ldrd r4, r5, [sp, #44]
    ldr r3, [sp]
    add r1, r4
    add r2, r5
    subs r6, #1
    str r6, [sp, #40]
    bne 1b
    pop {r3-r11, pc}
    .size tintin_axpy, . - tintin_axpy

@ The non-zero inputs of a row. r0 entries (a, c, 0, x, place), an even number, r1 end of them, r2 w, r3 c << (32 - shift), [sp] draw.
@ The step is the upper word of x c 2^(32 - shift) + the draw of the place.
    .section .text.tintin_outer,"ax",%progbits
    .p2align 2
    .globl tintin_outer
    .type tintin_outer,%function
    .thumb_func
tintin_outer:
    push {r4-r10, lr}
    ldr r12, [sp, #32]
    mov r9, #-1
    mov r10, #0x01010101
    .macro tintin_input
    ldm r0!, {r4-r8}
    mla r4, r4, r12, r5
    smlal r4, r6, r7, r3
    cbz r6, 2f
    ldrsb r5, [r2, r8]
    sub r5, r6
    ssat r5, #8, r5
    qadd8 r5, r5, r9            @ -128 becomes -127, as in tintin_narrow
    sadd8 r5, r5, r10
    strb r5, [r2, r8]
2:
    .endm
1:  tintin_input
    tintin_input
    cmp r0, r1
    bne 1b
    pop {r4-r10, pc}
    .size tintin_outer, . - tintin_outer

@ Sums to bytes. r0 sums, r1 bytes, r2 how many, r3 shift.
    .section .text.tintin_narrow,"ax",%progbits
    .p2align 2
    .globl tintin_narrow
    .type tintin_narrow,%function
    .thumb_func
tintin_narrow:
    push {r4-r10, lr}
    mov r8, #1
    lsl r8, r3
    lsr r8, #1                  @ half a unit
    mov r9, #-1
    mov r10, #0x01010101
    .macro tintin_rounded v
    add \v, r8
    asr \v, r3
    ssat \v, #8, \v
    .endm
    subs r2, #4
    blo 2f
1:  ldm r0!, {r4-r7}
    tintin_rounded r4
    tintin_rounded r5
    tintin_rounded r6
    tintin_rounded r7
    bfi r4, r5, #8, #8
    bfi r4, r6, #16, #8
    bfi r4, r7, #24, #8
    qadd8 r4, r4, r9            @ -128 becomes -127: one less, saturating, and one more
    sadd8 r4, r4, r10
    str r4, [r1], #4
    subs r2, #4
    bhs 1b
2:  adds r2, #4
    beq 4f
3:  ldr r4, [r0], #4
    tintin_rounded r4
    qadd8 r4, r4, r9
    sadd8 r4, r4, r10
    strb r4, [r1], #1
    subs r2, #1
    bne 3b
4:  pop {r4-r10, pc}
    .size tintin_narrow, . - tintin_narrow

@ Sums to 0 where bytes are not positive. r0 sums, r1 bytes, r2 how many. Gives all magnitudes over each other.
    .section .text.tintin_mask,"ax",%progbits
    .p2align 2
    .globl tintin_mask
    .type tintin_mask,%function
    .thumb_func
tintin_mask:
    push {r4-r10, lr}
    mov r8, #0
    mov r9, #-1
    mov r10, #0                 @ the magnitudes
    .macro tintin_kept v
    and \v, \v, lr
    eor r12, \v, \v, asr #31
    sub r12, r12, \v, asr #31
    orr r10, r12
    .endm
    subs r2, #4
    blo 2f
1:  ldr r3, [r1], #4
    ldm r0, {r4-r7}
    ssub8 r12, r8, r3           @ GE where the byte is 0 or less
    sel r3, r8, r9
    sxtb lr, r3
    tintin_kept r4
    sxtb lr, r3, ror #8
    tintin_kept r5
    sxtb lr, r3, ror #16
    tintin_kept r6
    asr lr, r3, #24
    tintin_kept r7
    stm r0!, {r4-r7}
    subs r2, #4
    bhs 1b
2:  adds r2, #4
    beq 4f
3:  ldrsb r3, [r1], #1
    ldr r4, [r0]
    rsb r3, r3, #0
    asr lr, r3, #31
    tintin_kept r4
    str r4, [r0], #4
    subs r2, #1
    bne 3b
4:  mov r0, r10
    pop {r4-r10, pc}
    .size tintin_mask, . - tintin_mask

    .text
