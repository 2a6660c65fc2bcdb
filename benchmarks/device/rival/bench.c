/* Counts instructions of the rival on an emulated Cortex-M, in the way of crates/tintin-mcu/src/bin/bench.rs: 20 steps to warm up, 5 that
 * are counted. SysTick counts the 25 MHz core clock; QEMU with -icount shift=0 lets an instruction take 1 ns, so a tick is 40 of them. */
#include "images.h"
#include "start.h"

enum { WARM_UP = 20, STEPS = 5, TURNS = 1000000, INSTRUCTIONS_PER_TICK = 40, TOP = 0xFFFFFF };
enum { STACK = 4096, UNTOUCHED = 0x2B5A93C5 }; /* words of stack looked at, and what they hold before */

#define CONTROL (*(volatile uint32_t *)0xE000E010)
#define RELOAD (*(volatile uint32_t *)0xE000E014)
#define CURRENT (*(volatile uint32_t *)0xE000E018)
#define WRAPPED (1u << 16)

static float image[IMAGE * IMAGE];
static unsigned label;
static float loss;

/* Calls of their own, so that the profiler finds them. */
__attribute__((noinline)) void nothing(void) { __asm__ volatile("" ::: "memory"); }
__attribute__((noinline)) void step(void) { loss = train_step(image, label); }
__attribute__((noinline)) void classify(void) { predict(image); }
__attribute__((noinline)) void known(void) {
    uint32_t a = 1, b = 3, n = TURNS;
    __asm__ volatile(".syntax unified\n 1: muls %0, %1, %0\n adds %0, %0, %1\n subs %2, #1\n bne 1b"
                     : "+l"(a), "+l"(b), "+l"(n)::"cc");
}

/* Instructions of `f`, to within a tick. */
static uint32_t count(void (*f)(void)) {
    CURRENT = 0;
    while (CURRENT == 0) {} /* reloads at the next tick */
    (void)CONTROL;          /* forgets wraps */
    uint32_t start = CURRENT;
    __asm__ volatile("" ::: "memory");
    f();
    __asm__ volatile("" ::: "memory");
    uint32_t end = CURRENT;
    if (CONTROL & WRAPPED) {
        print("longer than the counter\n");
        quit(1);
    }
    return (start - end) * INSTRUCTIONS_PER_TICK;
}

/* Bytes of stack that `f` takes. */
static uint32_t stack(void (*f)(void)) {
    volatile uint32_t *here;
    int used = STACK;
    __asm__ volatile("mov %0, sp" : "=r"(here));
    for (int i = 1; i <= STACK; i++) here[-i] = UNTOUCHED;
    f();
    while (used > 0 && here[-used] == UNTOUCHED) used--;
    return sizeof *here * used;
}

static void tell(const char *name, uint32_t n) {
    print(" ");
    print(name);
    print(" ");
    print_number(n);
}

static uint32_t non_zeros(const float *g, int n) {
    uint32_t found = 0;
    for (int i = 0; i < n; i++) found += non_zero(g[i]);
    return found;
}

int main(void) {
    RELOAD = TOP;
    CONTROL = 5; /* on, core clock */
    uint32_t empty = count(nothing), turns = count(known);
    print("counter");
    tell("empty", empty);
    tell("known", turns);
    tell("expected", 4 * TURNS);
    print("\n");
    /* Without -icount the counter follows the host's clock. */
    if (empty > 80 || turns > 4 * TURNS + 80 || turns < 4 * TURNS - 80) {
        print("the counter does not count instructions\n");
        return 1;
    }
    initialise(5);
    for (uint32_t n = 0; n < WARM_UP + STEPS; n++) {
        uint32_t forwards = 0, steps = 0;
        label = draw_image(n, image);
        if (n < WARM_UP) {
            step();
        } else {
            forwards = count(classify);
            steps = count(step);
        }
        print("rival step ");
        print_number(n + 1);
        tell("instructions", steps);
        tell("forward", forwards);
        tell("pool1", non_zeros(g2, D1));
        tell("pool2", non_zeros(g3, D2));
        tell("fc1", non_zeros(g4, D3));
        tell("fc2", non_zeros(g5, D4));
        tell("microloss", (uint32_t)(loss * 1e6f + 0.5f));
        print("\n");
    }
    print("rival");
    tell("stack", stack(step));
    print("\n");
    return 0;
}
