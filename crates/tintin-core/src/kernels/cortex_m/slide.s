@ Convolutions of one input channel with the DSP extension: no patches, since neighbouring patches share all but a column. Contracts in slide.rs.
@
@ Pair i of a kernel row of x is (x[i], x[i + 2]): with the weights (w0, w2), (w1, w3) and w4, pairs 0 to 5 serve four places side by side.
    .syntax unified
    .thumb

@ Kernel rows of weights into (w0, w2), (w1, w3), w4, the sign bit of the last word set in the last row of a filter.
@ r0 to, r1 w, r2 kernel rows of all filters, r3 weights of a kernel row, 1 to 5, [sp] kernel rows of a filter.
    .section .text.tintin_taps,"ax",%progbits
    .p2align 2
    .globl tintin_taps
    .type tintin_taps,%function
    .thumb_func
tintin_taps:
    push {r4-r10, lr}
    ldr r10, [sp, #32]
    mov r5, #0                  @ weights beyond the row
    mov r6, #0
    mov r7, #0
    mov r8, #0
    mov lr, r10
1:  cmp r3, #4
    bhi 5f
    beq 4f
    cmp r3, #2
    bhi 3f
    beq 2f
    b 6f
5:  ldrsb r8, [r1, #4]
4:  ldrsb r7, [r1, #3]
3:  ldrsb r6, [r1, #2]
2:  ldrsb r5, [r1, #1]
6:  ldrsb r4, [r1]
    add r1, r3
    pkhbt r4, r4, r6, lsl #16
    pkhbt r5, r5, r7, lsl #16
    uxth r9, r8
    subs lr, #1
    itt eq
    orreq r9, #0x80000000
    moveq lr, r10
    stm r0!, {r4, r5, r9}
    subs r2, #1
    bne 1b
    pop {r4-r10, pc}
    .size tintin_taps, . - tintin_taps

@ Blocks of four places of one output row. r0 input rows as bytes, r1 weights as above, r2 acc, r3 room for six words a kernel row,
@ [sp] blocks, filters, kernel rows, bytes of an input row, from the first to the second and to the third place in acc in bytes.
@ A place stored later takes what one of the same address stored before: so blocks of one or two places work too.
    .section .text.tintin_slide,"ax",%progbits
    .p2align 2
    .globl tintin_slide
    .type tintin_slide,%function
    .thumb_func
tintin_slide:
    push {r0-r12, lr}           @ input rows, weights, acc, room; 48: end of the filters in acc; the other arguments from 56 on
1:  ldr r0, [sp]
    ldr r3, [sp, #12]
    ldrd r1, r2, [sp, #64]
2:  ldr r4, [r0]
    ldr r6, [r0, #2]
    ldr r8, [r0, #4]
    add r0, r2
    sxtb16 r5, r4, ror #8
    sxtb16 r4, r4
    sxtb16 r7, r6, ror #8
    sxtb16 r6, r6
    sxtb16 r9, r8, ror #8
    sxtb16 r8, r8
    stm r3!, {r4-r9}
    subs r1, #1
    bne 2b
    ldrd r1, r12, [sp, #4]
    ldr r7, [sp, #60]
    ldrd lr, r11, [sp, #72]
    add r7, r12, r7, lsl #2
    str r7, [sp, #48]
3:  ldr r0, [sp, #12]
    ldr r2, [r12]
    ldr r3, [r12, lr]
    add r12, r11
    ldr r4, [r12]
    ldr r5, [r12, lr]
4:  ldm r0!, {r6-r11}
    ldrd r12, lr, [r1], #8
    smlad r2, r6, r12, r2
    smlad r3, r7, r12, r3
    smlad r4, r8, r12, r4
    smlad r5, r9, r12, r5
    ldr r6, [r1], #4
    smlad r2, r7, lr, r2
    smlad r3, r8, lr, r3
    smlad r4, r9, lr, r4
    smlad r5, r10, lr, r5
    smlabb r2, r10, r6, r2      @ the fifth weight by x[4] to x[7]
    smlabb r3, r11, r6, r3
    smlatb r4, r10, r6, r4
    smlatb r5, r11, r6, r5
    cmp r6, #0
    bpl 4b
    ldr r12, [sp, #8]
    ldrd lr, r11, [sp, #72]
    ldr r7, [sp, #48]
    add r6, r12, r11
    str r5, [r6, lr]
    str r4, [r6]
    str r3, [r12, lr]
    str r2, [r12], #4
    str r12, [sp, #8]
    cmp r12, r7
    bne 3b
    ldr r7, [sp, #60]
    ldr r0, [sp]
    ldr r1, [sp, #56]
    sub r12, r12, r7, lsl #2
    add r12, r12, lr, lsl #2
    add r0, #4
    str r12, [sp, #8]
    str r0, [sp]
    subs r1, #1
    str r1, [sp, #56]
    bne 1b
    add sp, #16
    pop {r4-r12, pc}
    .size tintin_slide, . - tintin_slide

    .text
