@ Lists of errors with the DSP extension. Contracts in taps.rs.
    .syntax unified
    .thumb

@ Sums of columns, two pairs a turn. r0 pairs (place, d), an even number of them, r1 end of them, r2 x, r3 acc,
@ [sp] columns, rows, from row to row in x.
    .section .text.tintin_columns,"ax",%progbits
    .p2align 2
    .globl tintin_columns
    .type tintin_columns,%function
    .thumb_func
tintin_columns:
    push {r4-r11, lr}
    push {r0, r2}
1:  ldr lr, [sp, #44]
    subs lr, #4
    blo 4f
2:  ldm r3, {r8-r11}
    ldr r0, [sp]
3:  ldm r0!, {r4-r7}
    ldr r4, [r2, r4]
    ldr r6, [r2, r6]
    pkhbt r5, r5, r7, lsl #16
    pkhbt r7, r4, r6, lsl #16   @ the first two columns of both
    pkhtb r4, r6, r4, asr #16   @ the other two
    sxtb16 r6, r7
    sxtb16 r7, r7, ror #8
    smlad r8, r6, r5, r8
    smlad r9, r7, r5, r9
    sxtb16 r6, r4
    sxtb16 r4, r4, ror #8
    smlad r10, r6, r5, r10
    smlad r11, r4, r5, r11
    cmp r0, r1
    bne 3b
    stm r3!, {r8-r11}
    add r2, #4
    subs lr, #4
    bhs 2b
4:  tst lr, #2
    beq 6f
    ldrd r8, r9, [r3]
    ldr r0, [sp]
5:  ldm r0!, {r4-r7}
    ldrh r4, [r2, r4]
    ldrh r6, [r2, r6]
    pkhbt r5, r5, r7, lsl #16
    pkhbt r4, r4, r6, lsl #16
    sxtb16 r6, r4
    sxtb16 r4, r4, ror #8
    smlad r8, r6, r5, r8
    smlad r9, r4, r5, r9
    cmp r0, r1
    bne 5b
    strd r8, r9, [r3], #8
    add r2, #2
6:  tst lr, #1
    beq 8f
    ldr r8, [r3]
    ldr r0, [sp]
7:  ldm r0!, {r4-r7}
    ldrsb r4, [r2, r4]
    ldrsb r6, [r2, r6]
    smlabb r8, r4, r5, r8
    smlabb r8, r6, r7, r8
    cmp r0, r1
    bne 7b
    str r8, [r3], #4
8:  ldr r2, [sp, #4]
    ldrd r4, r5, [sp, #48]
    add r2, r5
    str r2, [sp, #4]
    subs r4, #1
    str r4, [sp, #48]
    bne 1b
    add sp, #8
    pop {r4-r11, pc}
    .size tintin_columns, . - tintin_columns

    .text
