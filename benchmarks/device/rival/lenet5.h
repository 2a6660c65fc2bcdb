/* A training step of LeNet-5 in float32, batch 1, plain SGD with immediate update: what tintin's integers are measured against.
 *
 * conv 1->6 5x5 padding 2 on 28x28, ReLU, max pool 2; conv 6->16 5x5, ReLU, max pool 2; 400-120-84-10; no biases; softmax and
 * cross-entropy. Maps are channels last (height, width, channel), filters (output, height, width, input), dense rows (output, input).
 * Three variants, one of which is linked: plain, skip, blocked; see the files of these names. */
#ifndef LENET5_H
#define LENET5_H

#include <stdint.h>

enum {
    KERNEL = 5,
    IMAGE = 28,
    PADDED = IMAGE + KERNEL - 1,
    C1 = 6,
    POOL1 = IMAGE / 2,
    ROW1 = POOL1 * C1, /* values of a row of the first pooled map */
    C2 = 16,
    MAP2 = POOL1 - KERNEL + 1,
    POOL2 = MAP2 / 2,
    FILTER1 = KERNEL * KERNEL,
    SPAN2 = KERNEL * C1, /* values of one row of a filter of the second convolution: neighbours in the map too */
    FILTER2 = KERNEL * SPAN2,
    D1 = POOL1 * POOL1 * C1,
    D2 = POOL2 * POOL2 * C2,
    D3 = 120,
    D4 = 84,
    CLASSES = 10
};

/* Loops whose turns the compiler shall write out; they are constant there. */
#define UNROLL _Pragma("GCC unroll 32")
/* The same for long loops, four turns at a time. */
#define UNROLL4 _Pragma("GCC unroll 4")

#define LEARNING_RATE 0.02f

extern float w1[C1 * FILTER1], w2[C2 * FILTER2], w3[D3 * D2], w4[D4 * D3], w5[CLASSES * D4];

/* Inputs of the layers behind the first, and the gradients there: zero where ReLU cut or, later, where nothing arrives. */
extern float padded[PADDED * PADDED], x2[D1], x3[D2], x4[D3], x5[D4], logits[CLASSES];
extern float g2[D1], g3[D2], g4[D3], g5[D4], g_logits[CLASSES];
/* Which value of its 2x2 window was the largest: 2 * row + column. */
extern uint8_t place1[D1], place2[D2];

void initialise(uint32_t seed);

/* One step on one image of 28x28 values; returns the cross-entropy before the update. */
float train_step(const float *image, unsigned label);

/* Fills the logits. */
void predict(const float *image);

/* By the variant. */
void forward(void);
void backward(void);

/* Whether a value is above zero, without a float comparison: that is a call on cores without a float unit. */
static inline int positive(float v) {
    union {
        float value;
        int32_t bits;
    } u = {v};
    return u.bits > 0;
}

/* Whether a value is neither 0 nor -0. */
static inline int non_zero(float v) {
    union {
        float value;
        uint32_t bits;
    } u = {v};
    return u.bits << 1 != 0;
}

static inline float relu(float v) { return positive(v) ? v : 0; }

/* ReLU and the maximum of four; the first largest counts. */
static inline float pool(float a, float b, float c, float d, uint8_t *place) {
    unsigned at = 0;
    if (b > a) a = b, at = 1;
    if (c > a) a = c, at = 2;
    if (d > a) a = d, at = 3;
    *place = at;
    return relu(a);
}

/* Cuts gradients where ReLU cut the values. */
static inline void mask(float *g, const float *x, int n) {
    for (int i = 0; i < n; i++)
        if (!positive(x[i])) g[i] = 0;
}

#endif
