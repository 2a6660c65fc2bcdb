/* Forward pass of `plain` and `skip`: direct loops around dot products, full maps, then the pool. */
#include "lenet5.h"

#define MAP1 IMAGE

static float map1[MAP1 * MAP1 * C1], map2[MAP2 * MAP2 * C2];

static void pool_map(const float *map, int side, int channels, float *y, uint8_t *place) {
    for (int i = 0; i < side; i += 2)
        for (int j = 0; j < side; j += 2)
            for (int c = 0; c < channels; c++) {
                const float *m = &map[(i * side + j) * channels + c], *n = m + side * channels;
                *y++ = pool(m[0], m[channels], n[0], n[channels], place++);
            }
}

static void dense(const float *w, const float *x, int inputs, float *y, int outputs) {
    for (int o = 0; o < outputs; o++, w += inputs) {
        float sum = 0;
        UNROLL4 for (int i = 0; i < inputs; i++) sum += w[i] * x[i];
        y[o] = sum;
    }
}

static void relu_all(float *y, int n) {
    for (int i = 0; i < n; i++) y[i] = relu(y[i]);
}

void forward(void) {
    for (int i = 0; i < MAP1; i++)
        for (int j = 0; j < MAP1; j++)
            for (int o = 0; o < C1; o++) {
                float sum = 0;
                UNROLL for (int k = 0; k < KERNEL; k++)
                    UNROLL for (int l = 0; l < KERNEL; l++)
                        sum += w1[o * FILTER1 + k * KERNEL + l] * padded[(i + k) * PADDED + j + l];
                map1[(i * MAP1 + j) * C1 + o] = sum;
            }
    pool_map(map1, MAP1, C1, x2, place1);
    for (int i = 0; i < MAP2; i++)
        for (int j = 0; j < MAP2; j++)
            for (int o = 0; o < C2; o++) {
                float sum = 0;
                for (int k = 0; k < KERNEL; k++)
                    UNROLL for (int l = 0; l < SPAN2; l++)
                        sum += w2[o * FILTER2 + k * SPAN2 + l] * x2[(i + k) * ROW1 + j * C1 + l];
                map2[(i * MAP2 + j) * C2 + o] = sum;
            }
    pool_map(map2, MAP2, C2, x3, place2);
    dense(w3, x3, D2, x4, D3);
    relu_all(x4, D3);
    dense(w4, x4, D3, x5, D4);
    relu_all(x5, D4);
    dense(w5, x5, D4, logits, CLASSES);
}
