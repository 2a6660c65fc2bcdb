/* Both passes of `blocked`: as `skip`, with sums kept in registers. A convolution takes the 2x2 positions of a pool window and several
 * filters at once and pools on the spot; dense layers take four rows at a time, their dX and update in one pass over the weights. */
#include "lenet5.h"

#include <string.h>

#define INLINE static inline __attribute__((always_inline))
/* Hides where a pointer comes from: GCC would otherwise keep an address for every element that is read through it. */
#define OPAQUE(p) __asm__("" : "+r"(p))

enum { CHUNK = SPAN2 / 2 }; /* sums in registers while gradients of the second convolution are added up */

/* Convolution, ReLU and pool; `filters` at a time. Everything but the pointers is constant where it is inlined. */
INLINE void convolve(const float *x, int row, int channels, const float *w, int outputs, int filters, float *y, uint8_t *place, int side) {
    const int filter = FILTER1 * channels;
    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++) {
            const float *window = &x[2 * i * row + 2 * j * channels];
            for (int o = 0; o < outputs; o += filters) {
                float sum[4][4] = {{0}};
                for (int k = 0; k < KERNEL; k++)
                    for (int c = 0; c < channels; c++) {
                        const float *upper = &window[k * row + c], *lower = upper + row;
                        const float *v = &w[o * filter + k * KERNEL * channels + c];
                        float a = upper[0], b = lower[0];
                        UNROLL for (int l = 0; l < KERNEL; l++) {
                            float next_a = upper[(l + 1) * channels], next_b = lower[(l + 1) * channels];
                            UNROLL for (int f = 0; f < filters; f++) {
                                float weight = v[f * filter + l * channels];
                                sum[f][0] += weight * a;
                                sum[f][1] += weight * next_a;
                                sum[f][2] += weight * b;
                                sum[f][3] += weight * next_b;
                            }
                            a = next_a, b = next_b;
                        }
                    }
                UNROLL for (int f = 0; f < filters; f++) *y++ = pool(sum[f][0], sum[f][1], sum[f][2], sum[f][3], place++);
            }
        }
}

INLINE void dense_rows(const float *w, const float *x, int inputs, float *y, int rows) {
    const int turn = inputs % 8 ? 4 : 8; /* divides the inputs */
    const float *v[4];
    float sum[4] = {0};
    UNROLL for (int r = 0; r < rows; r++) v[r] = &w[r * inputs];
    for (const float *end = x + inputs; x < end; x += turn) {
        OPAQUE(x);
        UNROLL for (int r = 0; r < rows; r++) OPAQUE(v[r]);
        UNROLL for (int i = 0; i < turn; i++)
            UNROLL for (int r = 0; r < rows; r++) sum[r] += v[r][i] * x[i];
        UNROLL for (int r = 0; r < rows; r++) v[r] += turn;
    }
    UNROLL for (int r = 0; r < rows; r++) y[r] = sum[r];
}

INLINE void dense(const float *w, const float *x, int inputs, float *y, int outputs) {
    int o = 0;
    for (; o + 4 <= outputs; o += 4) dense_rows(&w[o * inputs], x, inputs, &y[o], 4);
    if (outputs % 4) dense_rows(&w[o * inputs], x, inputs, &y[o], outputs % 4);
}

INLINE void relu_all(float *y, int n) {
    for (int i = 0; i < n; i++) y[i] = relu(y[i]);
}

void forward(void) {
    convolve(padded, PADDED, 1, w1, C1, 3, x2, place1, POOL1);
    convolve(x2, ROW1, C1, w2, C2, 4, x3, place2, POOL2);
    dense(w3, x3, D2, x4, D3);
    relu_all(x4, D3);
    dense(w4, x4, D3, x5, D4);
    relu_all(x5, D4);
    dense(w5, x5, D4, logits, CLASSES);
}

/* dX and update of some rows whose gradients are not zero. */
INLINE void learn_rows(float *const *w, const float *dy, int rows, const float *restrict x, float *restrict dx, int inputs) {
    const int turn = inputs % 8 ? 4 : 8;
    float *v[4], error[4], step[4];
    UNROLL for (int r = 0; r < rows; r++) v[r] = w[r], error[r] = dy[r], step[r] = LEARNING_RATE * dy[r];
    for (const float *end = x + inputs; x < end; x += turn, dx += turn) {
        OPAQUE(x);
        OPAQUE(dx);
        UNROLL for (int r = 0; r < rows; r++) OPAQUE(v[r]);
        UNROLL for (int i = 0; i < turn; i++) {
            float value = x[i], sum = dx[i];
            UNROLL for (int r = 0; r < rows; r++) {
                float weight = v[r][i];
                sum += error[r] * weight;
                v[r][i] = weight - step[r] * value;
            }
            dx[i] = sum;
        }
        UNROLL for (int r = 0; r < rows; r++) v[r] += turn;
    }
}

INLINE void learn_dense(float *w, const float *x, int inputs, const float *dy, int outputs, float *dx) {
    float *row[4], error[4];
    int n = 0;
    memset(dx, 0, inputs * sizeof *dx);
    for (int o = 0; o < outputs; o++) {
        if (!non_zero(dy[o])) continue;
        row[n] = &w[o * inputs], error[n] = dy[o];
        if (++n == 4) learn_rows(row, error, 4, x, dx, inputs), n = 0;
    }
    switch (n) {
    case 3: learn_rows(row, error, 3, x, dx, inputs); break;
    case 2: learn_rows(row, error, 2, x, dx, inputs); break;
    case 1: learn_rows(row, error, 1, x, dx, inputs); break;
    }
    mask(dx, x, inputs);
}

/* dX of the second convolution: gradients of one place before the pool share the sums they go to. */
static void spread(void) {
    memset(g2, 0, sizeof g2);
    for (int i = 0; i < POOL2; i++)
        for (int j = 0; j < POOL2; j++) {
            const float *dy = &g3[(i * POOL2 + j) * C2];
            const uint8_t *place = &place2[(i * POOL2 + j) * C2];
            for (unsigned at = 0; at < 4; at++) {
                const float *w[C2];
                float error[C2];
                int n = 0;
                for (int o = 0; o < C2; o++)
                    if (place[o] == at && non_zero(dy[o])) w[n] = &w2[o * FILTER2], error[n++] = dy[o];
                if (n == 0) continue;
                float *dx = &g2[(2 * i + (at >> 1)) * ROW1 + (2 * j + (at & 1)) * C1];
                for (int k = 0; k < KERNEL; k++, dx += ROW1 - SPAN2)
                    for (int half = 0; half < 2; half++, dx += CHUNK) {
                        float sum[CHUNK];
                        UNROLL for (int l = 0; l < CHUNK; l++) sum[l] = dx[l];
                        for (int m = 0; m < n; m++) {
                            const float *v = w[m] + k * SPAN2 + half * CHUNK;
                            float e = error[m];
                            OPAQUE(v);
                            UNROLL for (int l = 0; l < CHUNK; l++) sum[l] += e * v[l];
                        }
                        UNROLL for (int l = 0; l < CHUNK; l++) dx[l] = sum[l];
                    }
            }
        }
    mask(g2, x2, D1);
}

struct error {
    const float *x; /* where its window starts */
    float value;
};

/* Non-zero gradients of one filter. */
INLINE int collect(struct error *list, const float *dy, const uint8_t *place, int channels, const float *x, int row, int step, int side) {
    int n = 0;
    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++, dy += channels, place += channels)
            if (non_zero(*dy))
                list[n++] = (struct error){&x[(2 * i + (*place >> 1)) * row + (2 * j + (*place & 1)) * step], *dy};
    return n;
}

static void learn_convolution2(void) {
    struct error list[POOL2 * POOL2];
    for (int o = 0; o < C2; o++) {
        int n = collect(list, &g3[o], &place2[o], C2, x2, ROW1, C1, POOL2);
        float *w = &w2[o * FILTER2];
        for (int k = 0; k < KERNEL; k++)
            for (int half = 0; half < 2; half++, w += CHUNK) {
                float sum[CHUNK] = {0};
                for (int m = 0; m < n; m++) {
                    const float *x = list[m].x + k * ROW1 + half * CHUNK;
                    float e = list[m].value;
                    OPAQUE(x);
                    UNROLL for (int l = 0; l < CHUNK; l++) sum[l] += e * x[l];
                }
                UNROLL for (int l = 0; l < CHUNK; l++) w[l] -= LEARNING_RATE * sum[l];
            }
    }
}

static void learn_convolution1(void) {
    struct error list[POOL1 * POOL1];
    for (int o = 0; o < C1; o++) {
        int n = collect(list, &g2[o], &place1[o], C1, padded, PADDED, 1, POOL1);
        float sum[FILTER1] = {0}, *w = &w1[o * FILTER1];
        for (int m = 0; m < n; m++) {
            const float *x = list[m].x;
            float e = list[m].value;
            OPAQUE(x);
            UNROLL for (int k = 0; k < KERNEL; k++)
                UNROLL for (int l = 0; l < KERNEL; l++) sum[k * KERNEL + l] += e * x[k * PADDED + l];
        }
        UNROLL for (int l = 0; l < FILTER1; l++) w[l] -= LEARNING_RATE * sum[l];
    }
}

void backward(void) {
    learn_dense(w5, x5, D4, g_logits, CLASSES, g5);
    learn_dense(w4, x4, D3, g5, D4, g4);
    learn_dense(w3, x3, D2, g4, D3, g3);
    spread();
    learn_convolution2();
    learn_convolution1();
}
