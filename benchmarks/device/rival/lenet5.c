/* What the variants share: memory, initial weights, the loss and the order of a step. */
#include "lenet5.h"

#include <math.h>
#include <string.h>

float w1[C1 * FILTER1], w2[C2 * FILTER2], w3[D3 * D2], w4[D4 * D3], w5[CLASSES * D4];
float padded[PADDED * PADDED], x2[D1], x3[D2], x4[D3], x5[D4], logits[CLASSES];
float g2[D1], g3[D2], g4[D3], g5[D4], g_logits[CLASSES];
uint8_t place1[D1], place2[D2];

static uint32_t state;

/* Uniform within Xavier's bound (Glorot and Bengio 2010), as tintin's initial weights. */
static void fill(float *w, int n, int fan_in, int fan_out) {
    float bound = sqrtf(6.0f / (float)(fan_in + fan_out));
    for (int i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u; /* Numerical Recipes' generator */
        w[i] = bound * ((float)(int32_t)state * 0x1p-31f);
    }
}

void initialise(uint32_t seed) {
    state = seed;
    fill(w1, C1 * FILTER1, FILTER1, C1 * KERNEL * KERNEL);
    fill(w2, C2 * FILTER2, FILTER2, C2 * KERNEL * KERNEL);
    fill(w3, D3 * D2, D2, D3);
    fill(w4, D4 * D3, D3, D4);
    fill(w5, CLASSES * D4, D4, CLASSES);
}

static void pad(const float *image) {
    for (int y = 0; y < IMAGE; y++) memcpy(&padded[(y + 2) * PADDED + 2], &image[y * IMAGE], IMAGE * sizeof *image);
}

void predict(const float *image) {
    pad(image);
    forward();
}

/* Softmax and cross-entropy: the loss, and its gradient at the logits. */
static float measure(unsigned label) {
    float top = logits[0], sum = 0;
    for (int i = 1; i < CLASSES; i++)
        if (logits[i] > top) top = logits[i];
    for (int i = 0; i < CLASSES; i++) sum += g_logits[i] = expf(logits[i] - top);
    float scale = 1 / sum;
    for (int i = 0; i < CLASSES; i++) g_logits[i] *= scale;
    g_logits[label] -= 1;
    return logf(sum) - (logits[label] - top);
}

float train_step(const float *image, unsigned label) {
    predict(image);
    float loss = measure(label);
    backward();
    return loss;
}
