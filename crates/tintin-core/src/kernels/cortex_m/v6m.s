@ ARMv6-M and ARMv8-M Baseline: Cortex-M0, M0+, M23. Contracts in mod.rs.
@
@ Sums live in the high registers: ADD reaches them, nothing else does. A quad holds its values as words, four patches side by side.
    .syntax unified
    .thumb

    .macro tintin_enter
    push {r4-r7, lr}
    mov r4, r8
    mov r5, r9
    mov r6, r10
    mov r7, r11
    push {r4-r7}
    .endm

    .macro tintin_leave
    pop {r4-r7}
    mov r8, r4
    mov r9, r5
    mov r10, r6
    mov r11, r7
    pop {r4-r7, pc}
    .endm

@ A row of w by a quad. r0 quad, r1 w, r2 acc, r3 rows, [sp] k.
    .section .text.tintin_multiply,"ax",%progbits
    .p2align 2
    .globl tintin_multiply
    .type tintin_multiply,%function
    .thumb_func
tintin_multiply:
    tintin_enter
    ldr r4, [sp, #36]
    sub sp, #20
    str r0, [sp]                @ quad
    str r4, [sp, #4]            @ values
    str r3, [sp, #8]            @ rows left
    lsls r3, r3, #2
    str r3, [sp, #12]           @ from patch to patch in acc
    str r2, [sp, #16]           @ acc
    add r1, r4                  @ end of the row
1:  ldr r7, [sp, #12]
    ldr r6, [sp, #16]
    ldr r3, [r6]
    mov r8, r3
    ldr r3, [r6, r7]
    mov r9, r3
    adds r6, r7
    ldr r3, [r6, r7]
    mov r10, r3
    adds r6, r7
    ldr r3, [r6, r7]
    mov r11, r3
    ldr r0, [sp]
    ldr r2, [sp, #4]
    rsbs r2, r2, #0
2:  ldmia r0!, {r4-r7}
    ldrsb r3, [r1, r2]
    muls r4, r3, r4
    add r8, r4
    muls r5, r3, r5
    add r9, r5
    muls r6, r3, r6
    add r10, r6
    muls r7, r3, r7
    add r11, r7
    adds r2, #1
    bne 2b
    ldr r7, [sp, #12]
    ldr r6, [sp, #16]
    adds r2, r6, #4
    str r2, [sp, #16]
    mov r3, r8
    str r3, [r6]
    mov r3, r9
    str r3, [r6, r7]
    adds r6, r7
    mov r3, r10
    str r3, [r6, r7]
    adds r6, r7
    mov r3, r11
    str r3, [r6, r7]
    ldr r2, [sp, #4]
    add r1, r2
    ldr r2, [sp, #8]
    subs r2, #1
    str r2, [sp, #8]
    bne 1b
    add sp, #20
    tintin_leave
    .size tintin_multiply, . - tintin_multiply

@ Runs of values into a patch of a quad. r0 patch, r1 from, r2 len, r3 runs, [sp] step of the patch in bytes, step of from.
    .section .text.tintin_put,"ax",%progbits
    .p2align 2
    .globl tintin_put
    .type tintin_put,%function
    .thumb_func
tintin_put:
    push {r4-r7, lr}
    ldr r4, [sp, #20]
    lsls r5, r2, #4
    subs r4, r4, r5
    ldr r5, [sp, #24]
    mov r12, r5
1:  movs r5, #0
2:  ldrsb r6, [r1, r5]
    str r6, [r0]
    adds r0, #16
    adds r5, #1
    cmp r5, r2
    bne 2b
    adds r0, r0, r4
    add r1, r12
    subs r3, #1
    bne 1b
    pop {r4-r7, pc}
    .size tintin_put, . - tintin_put

@ Runs of four patches into a quad. r0 quad, r1 places of the patches in x, r2 len of a run, r3 runs, [sp] step of x.
    .section .text.tintin_gather,"ax",%progbits
    .p2align 2
    .globl tintin_gather
    .type tintin_gather,%function
    .thumb_func
tintin_gather:
    tintin_enter
    ldr r7, [sp, #36]
    mov r10, r7                 @ step of x
    mov r9, r3                  @ runs
    mov r8, r2                  @ len
    ldmia r1!, {r3-r6}
    movs r1, #0                 @ from the place to the run
    mov r12, r1
1:  mov r1, r12
    mov r2, r1
    add r2, r8
    mov r11, r2                 @ end of the run
2:  ldrsb r2, [r3, r1]
    ldrsb r7, [r4, r1]
    stmia r0!, {r2, r7}
    ldrsb r2, [r5, r1]
    ldrsb r7, [r6, r1]
    stmia r0!, {r2, r7}
    adds r1, #1
    cmp r1, r11
    bne 2b
    add r12, r10
    mov r2, r9
    subs r2, #1
    mov r9, r2
    bne 1b
    tintin_leave
    .size tintin_gather, . - tintin_gather

@ Blocks of four rows of w by the non-zero values of one x.
@ r0 pairs (index, x), an even number, r1 w, r2 acc, r3 blocks, [sp] end of the pairs, k.
    .section .text.tintin_rows,"ax",%progbits
    .p2align 2
    .globl tintin_rows
    .type tintin_rows,%function
    .thumb_func
tintin_rows:
    tintin_enter
    ldr r4, [sp, #36]
    mov r12, r4                 @ end of the pairs
    ldr r4, [sp, #40]
    sub sp, #20
    str r0, [sp]                @ pairs
    str r1, [sp, #4]            @ w
    str r4, [sp, #8]            @ k
    str r2, [sp, #12]           @ acc
    str r3, [sp, #16]           @ blocks
1:  ldr r0, [sp, #12]
    ldmia r0!, {r4-r7}
    mov r8, r4
    mov r9, r5
    mov r10, r6
    mov r11, r7
    ldr r0, [sp]
    ldr r1, [sp, #4]
    ldr r5, [sp, #8]
    adds r2, r1, r5
    adds r3, r2, r5
    adds r4, r3, r5
    adds r5, r4, r5
    str r5, [sp, #4]
    .macro tintin_pair
    ldmia r0!, {r6, r7}
    ldrsb r5, [r1, r6]
    muls r5, r7, r5
    add r8, r5
    ldrsb r5, [r2, r6]
    muls r5, r7, r5
    add r9, r5
    ldrsb r5, [r3, r6]
    muls r5, r7, r5
    add r10, r5
    ldrsb r5, [r4, r6]
    muls r5, r7, r5
    add r11, r5
    .endm
2:  tintin_pair
    tintin_pair
    cmp r0, r12
    bne 2b
    ldr r0, [sp, #12]
    mov r4, r8
    mov r5, r9
    mov r6, r10
    mov r7, r11
    stmia r0!, {r4-r7}
    str r0, [sp, #12]
    ldr r3, [sp, #16]
    subs r3, #1
    str r3, [sp, #16]
    bne 1b
    add sp, #20
    tintin_leave
    .size tintin_rows, . - tintin_rows

@ acc += a x, row by row. r0 a, r1 x, r2 acc, r3 len, [sp] rows, step of x, step of acc in bytes.
    .section .text.tintin_axpy,"ax",%progbits
    .p2align 2
    .globl tintin_axpy
    .type tintin_axpy,%function
    .thumb_func
tintin_axpy:
    tintin_enter
    mov r8, r3                  @ len
    mov r9, r1                  @ x
    mov r10, r2                 @ acc
    ldr r4, [sp, #36]
    mov r11, r4                 @ rows
1:  mov r3, r8
    add r3, r1                  @ end of the row
    mov r12, r3
    .macro tintin_add sum
    ldrsb r7, [r1, r3]
    muls r7, r0, r7
    adds \sum, r7
    adds r1, #1
    .endm
    subs r3, #2
    mov lr, r3                  @ fewer than three are left from here on
    movs r3, #0
    cmp r1, lr
    bhs 3f
2:  ldmia r2!, {r4-r6}
    tintin_add r4
    tintin_add r5
    tintin_add r6
    subs r2, #12
    stmia r2!, {r4-r6}
    cmp r1, lr
    blo 2b
3:  cmp r1, r12
    beq 5f
4:  ldr r4, [r2]
    tintin_add r4
    stmia r2!, {r4}
    cmp r1, r12
    bne 4b
5:  mov r4, r11
    subs r4, #1
    mov r11, r4
    beq 6f
    ldr r4, [sp, #40]
    add r9, r4
    mov r1, r9
    ldr r4, [sp, #44]
    add r10, r4
    mov r2, r10
    b 1b
6:  tintin_leave
    .size tintin_axpy, . - tintin_axpy

@ Sums of columns. r0 pairs (place, d), r1 end of them, r2 x, r3 acc, [sp] len. At least one pair.
    .section .text.tintin_columns,"ax",%progbits
    .p2align 2
    .globl tintin_columns
    .type tintin_columns,%function
    .thumb_func
tintin_columns:
    tintin_enter
    sub sp, #8
    str r0, [sp]                @ pairs
    mov r12, r1                 @ end of them
    ldr r7, [sp, #44]
1:  subs r7, #4
    blo 3f
    str r7, [sp, #4]            @ columns left
    ldmia r3!, {r4-r7}
    mov r8, r4
    mov r9, r5
    mov r10, r6
    mov r11, r7
    ldr r0, [sp]
2:  ldmia r0!, {r4, r5}
    ldrsb r6, [r2, r4]
    adds r4, #1
    muls r6, r5, r6
    add r8, r6
    ldrsb r6, [r2, r4]
    adds r4, #1
    muls r6, r5, r6
    add r9, r6
    ldrsb r6, [r2, r4]
    adds r4, #1
    muls r6, r5, r6
    add r10, r6
    ldrsb r6, [r2, r4]
    muls r6, r5, r6
    add r11, r6
    cmp r0, r12
    bne 2b
    subs r3, #16
    mov r4, r8
    mov r5, r9
    mov r6, r10
    mov r7, r11
    stmia r3!, {r4-r7}
    adds r2, #4
    ldr r7, [sp, #4]
    b 1b
3:  adds r7, #4
    beq 6f
4:  ldr r1, [r3]
    ldr r0, [sp]
5:  ldmia r0!, {r4, r5}
    ldrsb r6, [r2, r4]
    muls r6, r5, r6
    adds r1, r6
    cmp r0, r12
    bne 5b
    stmia r3!, {r1}
    adds r2, #1
    subs r7, #1
    bne 4b
6:  add sp, #8
    tintin_leave
    .size tintin_columns, . - tintin_columns

@ Windows of two by two. r0 x, r1 y, r2 winners, r3 channels, [sp] windows, step from window to window, step from row to row in bytes.
    .section .text.tintin_pool,"ax",%progbits
    .p2align 2
    .globl tintin_pool
    .type tintin_pool,%function
    .thumb_func
tintin_pool:
    tintin_enter
    lsls r4, r3, #2             @ to the second column
    ldr r6, [sp, #36]
    mov r10, r6                 @ windows
    ldr r6, [sp, #40]
    subs r6, r6, r4
    mov r11, r6                 @ from the end of a window to the next
    ldr r5, [sp, #44]           @ to the second row
    adds r6, r4, r5
    mov r8, r6                  @ to both
1:  adds r6, r0, r4
    mov r9, r6                  @ end of the channels
2:  ldr r6, [r0]
    movs r3, #0
    .macro tintin_beats number
    cmp r7, r6
    ble 3f
    movs r6, r7
    movs r3, #\number
3:
    .endm
    ldr r7, [r0, r4]
    tintin_beats 1
    ldr r7, [r0, r5]
    tintin_beats 2
    mov r7, r8
    ldr r7, [r0, r7]
    tintin_beats 3
    stmia r1!, {r6}
    strb r3, [r2]
    adds r2, #1
    adds r0, #4
    cmp r0, r9
    bne 2b
    add r0, r11
    mov r6, r10
    subs r6, #1
    mov r10, r6
    bne 1b
    tintin_leave
    .size tintin_pool, . - tintin_pool

@ Largest magnitude. r0 sums, r1 how many, at least one.
    .section .text.tintin_peak,"ax",%progbits
    .p2align 2
    .globl tintin_peak
    .type tintin_peak,%function
    .thumb_func
tintin_peak:
    push {r4, lr}
    movs r2, #0
1:  ldmia r0!, {r3}
    asrs r4, r3, #31
    eors r3, r4
    subs r3, r3, r4
    cmp r3, r2
    bls 2f
    movs r2, r3
2:  subs r1, #1
    bne 1b
    movs r0, r2
    pop {r4, pc}
    .size tintin_peak, . - tintin_peak

@ The non-zero inputs of a row. r0 quadruples (a, c, x, place), an even number, r1 end of them, r2 w, r3 c, [sp] draw, shift.
    .section .text.tintin_outer,"ax",%progbits
    .p2align 2
    .globl tintin_outer
    .type tintin_outer,%function
    .thumb_func
tintin_outer:
    tintin_enter
    mov r12, r1
    ldr r1, [sp, #36]
    ldr r4, [sp, #40]
    mov r9, r4
    movs r5, #32
    subs r5, r5, r4
    mov r8, r5
1:  ldmia r0!, {r4-r7}
    muls r4, r1, r4
    adds r4, r4, r5             @ the draw of the place
    mov r5, r8
    lsrs r4, r5
    muls r6, r3, r6
    adds r4, r4, r6
    mov r5, r9
    asrs r4, r5
    bne 3f
2:  cmp r0, r12
    bne 1b
    tintin_leave
3:  ldrsb r5, [r2, r7]
    subs r5, r5, r4
    movs r6, #127
    cmp r5, r6
    bgt 4f
    rsbs r6, r6, #0
    cmp r5, r6
    blt 4f
    strb r5, [r2, r7]
    b 2b
4:  strb r6, [r2, r7]
    b 2b
    .size tintin_outer, . - tintin_outer

@ Sums to bytes. r0 sums, r1 bytes, r2 how many, at least one, r3 shift.
    .section .text.tintin_narrow,"ax",%progbits
    .p2align 2
    .globl tintin_narrow
    .type tintin_narrow,%function
    .thumb_func
tintin_narrow:
    push {r4-r7, lr}
    movs r4, #1
    lsls r4, r3
    lsrs r4, r4, #1             @ half a unit
    movs r5, #127
    rsbs r6, r5, #0
1:  ldmia r0!, {r7}
    adds r7, r7, r4
    asrs r7, r3
    cmp r7, r5
    bgt 3f
    cmp r7, r6
    blt 4f
2:  strb r7, [r1]
    adds r1, #1
    subs r2, #1
    bne 1b
    pop {r4-r7, pc}
3:  movs r7, r5
    b 2b
4:  movs r7, r6
    b 2b
    .size tintin_narrow, . - tintin_narrow

@ A row of weights by its gradient. r0 w, r1 sums, r2 m, r3 weights, [sp] draw, multiplier, increment, shift.
    .section .text.tintin_descend,"ax",%progbits
    .p2align 2
    .globl tintin_descend
    .type tintin_descend,%function
    .thumb_func
tintin_descend:
    tintin_enter
    ldr r4, [sp, #36]           @ draw
    ldr r5, [sp, #40]           @ multiplier
    ldr r6, [sp, #44]
    mov r8, r6                  @ increment
    ldr r6, [sp, #48]
    mov r9, r6                  @ shift
    movs r7, #32
    subs r7, r7, r6
    mov r10, r7
    add r3, r0
    mov r11, r3                 @ end of the weights
1:  ldmia r1!, {r6}
    muls r4, r5, r4
    add r4, r8
    muls r6, r2, r6
    movs r7, r4
    mov r3, r10
    lsrs r7, r3
    adds r6, r6, r7
    mov r3, r9
    asrs r6, r3
    beq 2f
    movs r7, #0
    ldrsb r7, [r0, r7]
    subs r7, r7, r6
    movs r6, #127
    cmp r7, r6
    bgt 3f
    rsbs r6, r6, #0
    cmp r7, r6
    blt 3f
    strb r7, [r0]
2:  adds r0, #1
    cmp r0, r11
    bne 1b
    tintin_leave
3:  strb r6, [r0]
    b 2b
    .size tintin_descend, . - tintin_descend
    .text
