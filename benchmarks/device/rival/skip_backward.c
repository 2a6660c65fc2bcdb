/* Backward pass of `skip`: convolutions walk the pooled gradients and pass over zeros, dense layers pass over outputs whose gradient is zero. */
#include "lenet5.h"

#include <string.h>

static void dense(float *w, const float *x, int inputs, const float *dy, int outputs, float *dx) {
    memset(dx, 0, inputs * sizeof *dx);
    for (int o = 0; o < outputs; o++, w += inputs) {
        if (!non_zero(dy[o])) continue;
        UNROLL4 for (int i = 0; i < inputs; i++) dx[i] += dy[o] * w[i];
        float step = LEARNING_RATE * dy[o];
        UNROLL4 for (int i = 0; i < inputs; i++) w[i] -= step * x[i];
    }
    mask(dx, x, inputs);
}

void backward(void) {
    dense(w5, x5, D4, g_logits, CLASSES, g5);
    dense(w4, x4, D3, g5, D4, g4);
    dense(w3, x3, D2, g4, D3, g3);

    memset(g2, 0, sizeof g2);
    const float *dy = g3;
    const uint8_t *place = place2;
    for (int i = 0; i < MAP2; i += 2)
        for (int j = 0; j < MAP2; j += 2)
            for (int o = 0; o < C2; o++, dy++, place++) {
                if (!non_zero(*dy)) continue;
                float *dx = &g2[(i + (*place >> 1)) * ROW1 + (j + (*place & 1)) * C1];
                const float *w = &w2[o * FILTER2];
                for (int k = 0; k < KERNEL; k++, dx += ROW1, w += SPAN2)
                    UNROLL for (int l = 0; l < SPAN2; l++) dx[l] += *dy * w[l];
            }
    mask(g2, x2, D1);
    dy = g3, place = place2; /* only now: every dX wants the weights as they were */
    for (int i = 0; i < MAP2; i += 2)
        for (int j = 0; j < MAP2; j += 2)
            for (int o = 0; o < C2; o++, dy++, place++) {
                if (!non_zero(*dy)) continue;
                const float *x = &x2[(i + (*place >> 1)) * ROW1 + (j + (*place & 1)) * C1];
                float *w = &w2[o * FILTER2], step = LEARNING_RATE * *dy;
                for (int k = 0; k < KERNEL; k++, x += ROW1, w += SPAN2)
                    UNROLL for (int l = 0; l < SPAN2; l++) w[l] -= step * x[l];
            }

    dy = g2, place = place1;
    for (int i = 0; i < IMAGE; i += 2)
        for (int j = 0; j < IMAGE; j += 2)
            for (int o = 0; o < C1; o++, dy++, place++) {
                if (!non_zero(*dy)) continue;
                const float *x = &padded[(i + (*place >> 1)) * PADDED + j + (*place & 1)];
                float *w = &w1[o * FILTER1], step = LEARNING_RATE * *dy;
                for (int k = 0; k < KERNEL; k++, x += PADDED, w += KERNEL)
                    UNROLL for (int l = 0; l < KERNEL; l++) w[l] -= step * x[l];
            }
}
