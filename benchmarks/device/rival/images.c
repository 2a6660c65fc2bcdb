#include "images.h"

static uint32_t absorb(uint32_t h, uint32_t v) {
    h ^= v;
    h ^= h >> 16;
    h *= 0x85EBCA6Bu;
    h ^= h >> 13;
    h *= 0xC2B2AE35u;
    return (h ^ (h >> 16)) + 0x9E3779B9u;
}

unsigned draw_image(uint32_t n, float *image) {
    uint32_t draw = absorb(absorb(absorb(absorb(0x9E3779B9u, 7), n), 0), 0);
    unsigned label = n % CLASSES, bar = 2 + 2 * label;
    for (unsigned i = 0; i < IMAGE * IMAGE; i++) {
        unsigned row = i / IMAGE, pixel = 100;
        if (row < bar || row >= bar + 3) {
            draw = draw * 0x93D765DDu + 0x9E3779B9u;
            pixel = (unsigned)(((uint64_t)draw * 60) >> 32);
        }
        image[i] = (float)pixel * 0x1p-7f;
    }
    return label;
}
