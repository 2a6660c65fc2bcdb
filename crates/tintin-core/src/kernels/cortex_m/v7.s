@ Every core of ARMv7-M and ARMv8-M Mainline, with the DSP extension or without. Contracts in mod.rs.
    .syntax unified
    .thumb

@ Windows of two by two. r0 x, r1 y, r2 winners, r3 channels, [sp] windows, step from window to window, step from row to row in bytes.
    .section .text.tintin_pool,"ax",%progbits
    .p2align 2
    .globl tintin_pool
    .type tintin_pool,%function
    .thumb_func
tintin_pool:
    push {r4-r11, lr}
    ldr lr, [sp, #36]
1:  mov r4, r0
    add r5, r0, r3, lsl #2
    ldr r12, [sp, #44]
    add r6, r4, r12
    add r7, r5, r12
    mov r11, r3
2:  ldr r8, [r4], #4
    ldr r9, [r5], #4
    mov r10, #0
    .macro tintin_beats number
    cmp r9, r8
    ble 3f
    mov r8, r9
    mov r10, #\number
3:
    .endm
    tintin_beats 1
    ldr r9, [r6], #4
    tintin_beats 2
    ldr r9, [r7], #4
    tintin_beats 3
    str r8, [r1], #4
    strb r10, [r2], #1
    subs r11, #1
    bne 2b
    ldr r12, [sp, #40]
    add r0, r12
    subs lr, #1
    bne 1b
    pop {r4-r11, pc}
    .size tintin_pool, . - tintin_pool

@ Largest magnitude. r0 sums, r1 how many.
    .section .text.tintin_peak,"ax",%progbits
    .p2align 2
    .globl tintin_peak
    .type tintin_peak,%function
    .thumb_func
tintin_peak:
    push {r4-r7, lr}
    mov r2, #0
    .macro tintin_higher v
    eor r3, \v, \v, asr #31
    sub r3, r3, \v, asr #31
    cmp r3, r2
    it hi
    movhi r2, r3
    .endm
    subs r1, #4
    blo 2f
1:  ldm r0!, {r4-r7}
    tintin_higher r4
    tintin_higher r5
    tintin_higher r6
    tintin_higher r7
    subs r1, #4
    bhs 1b
2:  adds r1, #4
    beq 4f
3:  ldr r4, [r0], #4
    tintin_higher r4
    subs r1, #1
    bne 3b
4:  mov r0, r2
    pop {r4-r7, pc}
    .size tintin_peak, . - tintin_peak

@ A row of weights by its gradient. r0 w, r1 sums, r2 m, r3 weights, [sp] draw, multiplier, increment, shift.
    .section .text.tintin_descend,"ax",%progbits
    .p2align 2
    .globl tintin_descend
    .type tintin_descend,%function
    .thumb_func
tintin_descend:
    push {r4-r11, lr}
    ldrd r4, r5, [sp, #36]
    ldrd r6, r7, [sp, #44]
    rsb r8, r7, #32
    .macro tintin_weight g, place
    mla r4, r4, r5, r6
    lsr r12, r4, r8
    mla r12, \g, r2, r12
    asrs r12, r7
    beq 5f
    ldrsb \g, [r0, #\place]
    sub \g, r12
    ssat \g, #8, \g
    cmn \g, #128
    it eq
    addeq \g, #1
    strb \g, [r0, #\place]
5:
    .endm
    subs r3, #4
    blo 2f
1:  ldm r1!, {r9, r10, r11, lr}
    tintin_weight r9, 0
    tintin_weight r10, 1
    tintin_weight r11, 2
    tintin_weight lr, 3
    add r0, #4
    subs r3, #4
    bhs 1b
2:  adds r3, #4
    beq 4f
3:  ldr r9, [r1], #4
    tintin_weight r9, 0
    add r0, #1
    subs r3, #1
    bne 3b
4:  pop {r4-r11, pc}
    .size tintin_descend, . - tintin_descend

@ Pairs (place, error) of the non-zero errors of a channel. r0 errors, r1 winners, r2 pairs, r3 place, [sp] from column to column in x,
@ from error to error, columns of a window, in x from column to column and from the last one to the next row, errors of a row,
@ from it to the next one, the same in x, rows. Gives the end of the pairs and the farthest place.
    .section .text.tintin_list,"ax",%progbits
    .p2align 2
    .globl tintin_list
    .type tintin_list,%function
    .thumb_func
tintin_list:
    push {r4-r11, lr}
    sub r1, r0
    add r12, sp, #36
    ldm r12, {r5-r9}
    mov r12, #0
1:  ldr r10, [sp, #56]
    add r10, r0
2:  ldrsb r4, [r0]
    cbz r4, 3f
    ldrb lr, [r0, r1]
    mla r11, lr, r8, r3
    udiv lr, lr, r7
    mla r11, lr, r9, r11
    strd r11, r4, [r2], #8
    cmp r11, r12
    it hi
    movhi r12, r11
3:  add r0, r6
    add r3, r5
    cmp r0, r10
    bne 2b
    ldrd r10, r11, [sp, #60]
    ldr r4, [sp, #68]
    add r0, r10
    add r3, r11
    subs r4, #1
    str r4, [sp, #68]
    bne 1b
    mov r0, r2
    mov r1, r12
    pop {r4-r11, pc}
    .size tintin_list, . - tintin_list

@ Negative sums to 0. r0 sums, r1 how many. Gives all sums over each other: as long in bits as the largest.
    .section .text.tintin_relu,"ax",%progbits
    .p2align 2
    .globl tintin_relu
    .type tintin_relu,%function
    .thumb_func
tintin_relu:
    push {r4-r6, lr}
    movs r2, #0
    subs r1, #4
    blo 2f
    .macro tintin_positive v
    bic \v, \v, \v, asr #31
    orrs r2, \v
    .endm
1:  ldm r0, {r3-r6}
    tintin_positive r3
    tintin_positive r4
    tintin_positive r5
    tintin_positive r6
    stm r0!, {r3-r6}
    subs r1, #4
    bhs 1b
2:  adds r1, #4
    beq 4f
3:  ldr r3, [r0]
    tintin_positive r3
    str r3, [r0], #4
    subs r1, #1
    bne 3b
4:  mov r0, r2
    pop {r4-r6, pc}
    .size tintin_relu, . - tintin_relu

    .text
