/* QEMU plugin: how often every block of code runs, by path of calls, inside chosen calls of one function.
 *
 *   -plugin calltree.so,root=ADDRESS,skip=N,take=N,returns=FILE,out=FILE
 *
 * root is the function's address; its first `skip` calls are passed over, the next `take` are recorded. `returns` names the addresses behind
 * call instructions, one hexadecimal number a line: a block that ends there ends in a call. Written are lines of
 *
 *   call NODE                                 a recorded call of the root: a tree of its own
 *   node NODE PARENT SITE                     a path: PARENT's, and the call instruction at SITE
 *   block NODE START INSTRUCTIONS RUNS TAKEN  a block on that path; TAKEN of its runs did not go on behind it
 *
 * Nothing here knows Arm. The declarations are those of QEMU's plugin interface that are used, as docs/devel/tcg-plugins tells them: Debian
 * packages no header. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*cb)(unsigned, void *), int flags, void *data);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, void *), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);

#ifndef PLUGIN_API
#define PLUGIN_API 1
#endif
__attribute__((visibility("default"))) int qemu_plugin_version = PLUGIN_API;

enum { CODE = 1 << 22, DEPTH = 64 }; /* bytes of code looked at; calls within calls */

struct slot { /* a block on a path; for a block that ends in a call also where the call leads */
    struct node *node, *callee;
    struct block *block;
    uint64_t runs, taken;
};

struct block {
    uint64_t start, last, end;
    size_t instructions;
    int call;
    uint32_t hash;
    struct slot *slot; /* of the latest path */
};

struct node {
    struct node *parent;
    unsigned number;
};

static uint64_t root, skip, take, seen;
static uint8_t returns[CODE / 2];
static struct block *previous;
static struct slot *previous_slot;
static struct node *here;
static uint64_t stack[DEPTH];
static unsigned depth, nodes, blocks;
static FILE *out;

static struct slot **slots; /* open addressing */
static size_t size, used;   /* of it; size is a power of two */

static void *allocate(size_t size) {
    void *p = calloc(1, size);
    if (!p) abort();
    return p;
}

static struct node *new_node(struct node *parent, uint64_t site) {
    struct node *n = allocate(sizeof *n);
    *n = (struct node){.parent = parent, .number = nodes++};
    if (parent) {
        fprintf(out, "node %u %u %" PRIx64 "\n", n->number, parent->number, site);
    } else {
        fprintf(out, "call %u\n", n->number);
    }
    return n;
}

static struct slot **place(const struct node *n, const struct block *b) {
    size_t i = (n->number * 0x9E3779B1u ^ b->hash) & (size - 1);
    while (slots[i] && (slots[i]->node != n || slots[i]->block != b)) i = (i + 1) & (size - 1);
    return &slots[i];
}

static struct slot *slot_of(struct node *n, struct block *b) {
    if (2 * used >= size) {
        struct slot **old = slots;
        size_t count = size;
        size = size ? 2 * size : 1024;
        slots = allocate(size * sizeof *slots);
        for (size_t i = 0; i < count; i++)
            if (old[i]) *place(old[i]->node, old[i]->block) = old[i];
        free(old);
    }
    struct slot **found = place(n, b);
    if (!*found) {
        used++;
        *found = allocate(sizeof **found);
        (*found)->node = n, (*found)->block = b;
    }
    return *found;
}

static void enter(uint64_t back, uint64_t site, struct slot *from) {
    if (!from->callee) from->callee = new_node(here, site);
    here = from->callee;
    if (depth == DEPTH) {
        fprintf(stderr, "calltree: more than %d calls within calls\n", DEPTH);
        exit(1);
    }
    stack[depth++] = back;
}

static void leave(uint64_t to) {
    unsigned d = depth;
    while (d > 0 && stack[d - 1] != to) d--;
    if (d == 0) return; /* a jump to a place behind a call that nobody waits at */
    for (; depth >= d; depth--) here = here->parent;
}

static void run(unsigned cpu, void *data) {
    struct block *b = data;
    int jumped = previous && previous->end != b->start;
    (void)cpu;
    if (here) {
        if (jumped) {
            if (previous_slot) previous_slot->taken++;
            if (previous->call && previous_slot)
                enter(previous->end, previous->last, previous_slot);
            else if (b->start < CODE && returns[b->start / 2])
                leave(b->start);
        }
    } else if (b->start == root && jumped && previous->call && ++seen > skip && seen <= skip + take) {
        here = new_node(NULL, 0);
        stack[0] = previous->end, depth = 1;
    }
    previous = b, previous_slot = NULL;
    if (!here) return;
    if (!b->slot || b->slot->node != here) b->slot = slot_of(here, b);
    b->slot->runs++;
    previous_slot = b->slot;
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    struct block *b = allocate(sizeof *b);
    (void)id;
    b->instructions = qemu_plugin_tb_n_insns(tb);
    struct qemu_plugin_insn *last = qemu_plugin_tb_get_insn(tb, b->instructions - 1);
    b->start = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, 0));
    b->last = qemu_plugin_insn_vaddr(last);
    b->end = b->last + qemu_plugin_insn_size(last);
    b->call = b->end < CODE && returns[b->end / 2];
    b->hash = blocks++ * 0x85EBCA6Bu;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, run, 0, b);
}

static void finish(qemu_plugin_id_t id, void *data) {
    (void)id, (void)data;
    for (size_t i = 0; i < size; i++)
        if (slots[i])
            fprintf(out, "block %u %" PRIx64 " %zu %" PRIu64 " %" PRIu64 "\n", slots[i]->node->number, slots[i]->block->start,
                    slots[i]->block->instructions, slots[i]->runs, slots[i]->taken);
    fclose(out);
}

static int read_returns(const char *path) {
    FILE *file = fopen(path, "r");
    uint64_t address;
    if (!file) return 0;
    while (fscanf(file, "%" SCNx64, &address) == 1)
        if (address < CODE) returns[address / 2] = 1;
    fclose(file);
    return 1;
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int count, char **arguments) {
    (void)info;
    for (int i = 0; i < count; i++) {
        char *value = strchr(arguments[i], '=');
        if (!value) return -1;
        *value++ = 0;
        if (!strcmp(arguments[i], "root")) root = strtoull(value, NULL, 0);
        if (!strcmp(arguments[i], "skip")) skip = strtoull(value, NULL, 0);
        if (!strcmp(arguments[i], "take")) take = strtoull(value, NULL, 0);
        if (!strcmp(arguments[i], "out") && !(out = fopen(value, "w"))) return -1;
        if (!strcmp(arguments[i], "returns") && !read_returns(value)) return -1;
    }
    if (!out) return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    qemu_plugin_register_atexit_cb(id, finish, NULL);
    return 0;
}
