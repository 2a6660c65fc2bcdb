/* Backward pass of `plain`: dense dot products everywhere, gradients unpooled to full maps; the update is fused into dW. */
#include "lenet5.h"

#include <string.h>

static float full1[IMAGE * IMAGE * C1], full2[MAP2 * MAP2 * C2];

static void dense(float *w, const float *x, int inputs, const float *dy, int outputs, float *dx) {
    memset(dx, 0, inputs * sizeof *dx);
    for (int o = 0; o < outputs; o++)
        UNROLL4 for (int i = 0; i < inputs; i++) dx[i] += dy[o] * w[o * inputs + i];
    for (int o = 0; o < outputs; o++) {
        float step = LEARNING_RATE * dy[o];
        UNROLL4 for (int i = 0; i < inputs; i++) w[o * inputs + i] -= step * x[i];
    }
    mask(dx, x, inputs);
}

static void unpool(const float *dy, const uint8_t *place, int side, int channels, float *full) {
    memset(full, 0, side * side * channels * sizeof *full);
    for (int i = 0; i < side; i += 2)
        for (int j = 0; j < side; j += 2)
            for (int c = 0; c < channels; c++, dy++, place++)
                full[((i + (*place >> 1)) * side + j + (*place & 1)) * channels + c] = *dy;
}

void backward(void) {
    dense(w5, x5, D4, g_logits, CLASSES, g5);
    dense(w4, x4, D3, g5, D4, g4);
    dense(w3, x3, D2, g4, D3, g3);

    unpool(g3, place2, MAP2, C2, full2);
    for (int i = 0; i < POOL1; i++)
        for (int j = 0; j < POOL1; j++) {
            int k_first = i < MAP2 ? 0 : i - MAP2 + 1, k_last = i < KERNEL ? i : KERNEL - 1;
            int l_first = j < MAP2 ? 0 : j - MAP2 + 1, l_last = j < KERNEL ? j : KERNEL - 1;
            for (int c = 0; c < C1; c++) {
                float sum = 0;
                for (int k = k_first; k <= k_last; k++)
                    for (int l = l_first; l <= l_last; l++)
                        UNROLL for (int o = 0; o < C2; o++)
                            sum += full2[((i - k) * MAP2 + j - l) * C2 + o] * w2[o * FILTER2 + k * SPAN2 + l * C1 + c];
                g2[(i * POOL1 + j) * C1 + c] = sum;
            }
        }
    mask(g2, x2, D1);
    for (int o = 0; o < C2; o++)
        for (int k = 0; k < KERNEL; k++)
            for (int l = 0; l < SPAN2; l++) {
                float sum = 0;
                for (int i = 0; i < MAP2; i++)
                    UNROLL for (int j = 0; j < MAP2; j++)
                        sum += full2[(i * MAP2 + j) * C2 + o] * x2[(i + k) * ROW1 + j * C1 + l];
                w2[o * FILTER2 + k * SPAN2 + l] -= LEARNING_RATE * sum;
            }

    unpool(g2, place1, IMAGE, C1, full1);
    for (int o = 0; o < C1; o++)
        for (int k = 0; k < KERNEL; k++)
            for (int l = 0; l < KERNEL; l++) {
                float sum = 0;
                for (int i = 0; i < IMAGE; i++)
                    UNROLL for (int j = 0; j < IMAGE; j++)
                        sum += full1[(i * IMAGE + j) * C1 + o] * padded[(i + k) * PADDED + j + l];
                w1[o * FILTER1 + k * KERNEL + l] -= LEARNING_RATE * sum;
            }
}
