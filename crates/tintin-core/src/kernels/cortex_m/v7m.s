@ ARMv7-M and ARMv8-M without the DSP extension: Cortex-M3. Contracts in mod.rs.
@
@ A quad holds its values as words, four patches side by side, so that one LDM serves four multiplications.
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
    sub sp, #16
    strd r0, r4, [sp]           @ quad, values
    lsl r5, r3, #2
    strd r3, r5, [sp, #8]       @ rows left, from patch to patch in acc
    mov lr, r2
1:  ldrd r0, r2, [sp]
    ldr r7, [sp, #12]
    ldr r3, [lr]
    ldr r4, [lr, r7]
    add r8, lr, r7, lsl #1
    ldr r5, [r8]
    ldr r6, [r8, r7]
    .macro tintin_value place
    ldm r0!, {r7-r10}
    ldrsb r12, \place
    mla r3, r7, r12, r3
    mla r4, r8, r12, r4
    mla r5, r9, r12, r5
    mla r6, r10, r12, r6
    .endm
    subs r2, #8
    blo 3f
2:  .irp offset, 0, 1, 2, 3, 4, 5, 6, 7
    tintin_value "[r1, #\offset]"
    .endr
    add r1, #8
    subs r2, #8
    bhs 2b
3:  adds r2, #8
    beq 5f
4:  tintin_value "[r1], #1"
    subs r2, #1
    bne 4b
5:  ldrd r9, r7, [sp, #8]
    str r3, [lr]
    str r4, [lr, r7]
    add r8, lr, r7, lsl #1
    str r5, [r8]
    str r6, [r8, r7]
    add lr, #4
    subs r9, #1
    str r9, [sp, #8]
    bne 1b
    add sp, #16
    pop {r4-r11, pc}
    .size tintin_multiply, . - tintin_multiply

@ Runs of values into a patch of a quad. r0 patch, r1 from, r2 len, r3 runs, [sp] step of the patch in bytes, step of from.
    .section .text.tintin_put,"ax",%progbits
    .p2align 2
    .globl tintin_put
    .type tintin_put,%function
    .thumb_func
tintin_put:
    push {r4-r6, lr}
    ldrd r4, r5, [sp, #16]
    sub r4, r4, r2, lsl #4
    sub r5, r2
1:  mov r12, r2
2:  ldrsb r6, [r1], #1
    str r6, [r0], #16
    subs r12, #1
    bne 2b
    add r0, r4
    add r1, r5
    subs r3, #1
    bne 1b
    pop {r4-r6, pc}
    .size tintin_put, . - tintin_put

@ Runs of four patches into a quad. r0 quad, r1 places of the patches in x, r2 len of a run, r3 runs, [sp] step of x.
    .section .text.tintin_gather,"ax",%progbits
    .p2align 2
    .globl tintin_gather
    .type tintin_gather,%function
    .thumb_func
tintin_gather:
    push {r4-r11, lr}
    ldr lr, [sp, #36]
    ldm r1, {r4-r7}
    sub lr, r2
1:  mov r12, r2
2:  ldrsb r8, [r4], #1
    ldrsb r9, [r5], #1
    ldrsb r10, [r6], #1
    ldrsb r11, [r7], #1
    stm r0!, {r8-r11}
    subs r12, #1
    bne 2b
    add r4, lr
    add r5, lr
    add r6, lr
    add r7, lr
    subs r3, #1
    bne 1b
    pop {r4-r11, pc}
    .size tintin_gather, . - tintin_gather

@ Blocks of four rows of w by the non-zero values of one x.
@ r0 pairs (index, x), an even number, r1 w, r2 acc, r3 blocks, [sp] end of the pairs, k.
    .section .text.tintin_rows,"ax",%progbits
    .p2align 2
    .globl tintin_rows
    .type tintin_rows,%function
    .thumb_func
tintin_rows:
    push {r4-r11, lr}
    ldrd r12, r4, [sp, #36]
    sub sp, #24
    strd r0, r1, [sp]           @ pairs, w
    str r4, [sp, #8]            @ k
    strd r2, r3, [sp, #16]      @ acc, blocks
1:  ldrd r0, r1, [sp]
    ldr r9, [sp, #8]
    ldr r7, [sp, #16]
    add r10, r1, r9
    add r11, r10, r9
    add lr, r11, r9
    add r9, lr, r9
    str r9, [sp, #4]
    ldm r7, {r3-r6}
    .macro tintin_pair
    ldrd r7, r8, [r0], #8
    ldrsb r9, [r1, r7]
    ldrsb r2, [r10, r7]
    mla r3, r8, r9, r3
    ldrsb r9, [r11, r7]
    mla r4, r8, r2, r4
    ldrsb r2, [lr, r7]
    mla r5, r8, r9, r5
    mla r6, r8, r2, r6
    .endm
2:  tintin_pair
    tintin_pair
    cmp r0, r12
    bne 2b
    ldrd r7, r8, [sp, #16]
    stm r7!, {r3-r6}
    subs r8, #1
    strd r7, r8, [sp, #16]
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
    push {r4-r11, lr}
    mov lr, r3
1:  push {r1, r2}
    .macro tintin_add sum
    ldrsb r12, [r1], #1
    mla \sum, r0, r12, \sum
    .endm
    subs r3, #8
    blo 3f
2:  ldm r2, {r4-r11}
    tintin_add r4
    tintin_add r5
    tintin_add r6
    tintin_add r7
    tintin_add r8
    tintin_add r9
    tintin_add r10
    tintin_add r11
    stm r2!, {r4-r11}
    subs r3, #8
    bhs 2b
3:  tst r3, #4
    beq 4f
    ldm r2, {r4-r7}
    tintin_add r4
    tintin_add r5
    tintin_add r6
    tintin_add r7
    stm r2!, {r4-r7}
4:  tst r3, #2
    beq 5f
    ldrd r4, r5, [r2]
    tintin_add r4
    tintin_add r5
    strd r4, r5, [r2], #8
5:  tst r3, #1
    beq 6f
    ldr r4, [r2]
    tintin_add r4
    str r4, [r2]
6:  pop {r1, r2}
    ldr r4, [sp, #36]
    subs r4, #1
    beq 7f
    str r4, [sp, #36]
    ldrd r5, r6, [sp, #40]
    add r1, r5
    add r2, r6
    mov r3, lr
    b 1b
7:  pop {r4-r11, pc}
    .size tintin_axpy, . - tintin_axpy

@ Sums of columns. r0 pairs (place, d), r1 end of them, r2 x, r3 acc, [sp] len. At least one pair.
    .section .text.tintin_columns,"ax",%progbits
    .p2align 2
    .globl tintin_columns
    .type tintin_columns,%function
    .thumb_func
tintin_columns:
    push {r4-r11, lr}
    ldr lr, [sp, #36]
    mov r12, r0
    subs lr, #4
    blo 3f
1:  ldm r3, {r8-r11}
    mov r0, r12
2:  ldrd r4, r5, [r0], #8
    add r4, r2
    ldrsb r6, [r4]
    ldrsb r7, [r4, #1]
    mla r8, r6, r5, r8
    ldrsb r6, [r4, #2]
    mla r9, r7, r5, r9
    ldrsb r7, [r4, #3]
    mla r10, r6, r5, r10
    mla r11, r7, r5, r11
    cmp r0, r1
    bne 2b
    stm r3!, {r8-r11}
    add r2, #4
    subs lr, #4
    bhs 1b
3:  adds lr, #4
    beq 6f
4:  ldr r8, [r3]
    mov r0, r12
5:  ldrd r4, r5, [r0], #8
    ldrsb r6, [r2, r4]
    mla r8, r6, r5, r8
    cmp r0, r1
    bne 5b
    str r8, [r3], #4
    add r2, #1
    subs lr, #1
    bne 4b
6:  pop {r4-r11, pc}
    .size tintin_columns, . - tintin_columns

@ The non-zero inputs of a row. r0 quadruples (a, c, x, place), an even number, r1 end of them, r2 w, r3 c, [sp] draw, shift.
    .section .text.tintin_outer,"ax",%progbits
    .p2align 2
    .globl tintin_outer
    .type tintin_outer,%function
    .thumb_func
tintin_outer:
    push {r4-r10, lr}
    ldrd r4, r5, [sp, #32]
    rsb r6, r5, #32
    .macro tintin_input
    ldm r0!, {r7-r10}
    mla r7, r7, r4, r8          @ the draw of the place
    lsr r7, r6
    mla r7, r9, r3, r7
    asrs r7, r5
    beq 2f
    ldrsb r8, [r2, r10]
    sub r8, r7
    ssat r8, #8, r8
    cmn r8, #128
    it eq
    addeq r8, #1
    strb r8, [r2, r10]
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
    push {r4-r8, lr}
    mov r8, #1
    lsl r8, r3
    lsr r8, #1                  @ half a unit
    .macro tintin_rounded v
    add \v, r8
    asr \v, r3
    ssat \v, #8, \v
    cmn \v, #128
    it eq
    addeq \v, #1
    strb \v, [r1], #1
    .endm
    subs r2, #4
    blo 2f
1:  ldm r0!, {r4-r7}
    tintin_rounded r4
    tintin_rounded r5
    tintin_rounded r6
    tintin_rounded r7
    subs r2, #4
    bhs 1b
2:  adds r2, #4
    beq 4f
3:  ldr r4, [r0], #4
    tintin_rounded r4
    subs r2, #1
    bne 3b
4:  pop {r4-r8, pc}
    .size tintin_narrow, . - tintin_narrow

    .text
