/* Reset, faults, and printing through semihosting. */
#include "start.h"

#include <string.h>

extern uint32_t stack_top[], data_start[], data_end[], data_load[], bss_start[], bss_end[];

int main(void);

static uint32_t semihosting(uint32_t operation, const void *argument) {
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void print(const char *text) {
    static uint32_t console;
    /* SYS_OPEN of the console for writing, then SYS_WRITE: SYS_WRITE0 would go to QEMU's error output. */
    if (!console) console = semihosting(0x01, (const uint32_t[]){(uint32_t)":tt", 4, 3});
    semihosting(0x05, (const uint32_t[]){console, (uint32_t)text, strlen(text)});
}

void print_number(uint32_t n) {
    char digits[11], *p = &digits[10];
    *p = 0;
    do *--p = '0' + n % 10;
    while (n /= 10);
    print(p);
}

void quit(int failed) {
    semihosting(0x18, (const void *)(failed ? 0x20023 : 0x20026)); /* SYS_EXIT: run-time error, application exit */
    for (;;) {}
}

void reset(void) {
#ifdef __ARM_FP
    *(volatile uint32_t *)0xE000ED88 |= 0xF << 20; /* CPACR: the float unit on */
    __asm__ volatile("dsb\n isb");
#endif
    memcpy(data_start, data_load, (char *)data_end - (char *)data_start);
    memset(bss_start, 0, (char *)bss_end - (char *)bss_start);
    quit(main());
}

static void fault(void) {
    print("fault\n");
    quit(1);
}

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    stack_top, reset, fault, fault, fault, fault, fault,
};
