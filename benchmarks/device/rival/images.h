/* The images that tintin's bench trains on: crates/tintin-core/tests/lenet5/bare.rs and the draws of src/rng.rs, in C. */
#ifndef IMAGES_H
#define IMAGES_H

#include "lenet5.h"

/* Fills `image` with image `n`, mantissas times 2^-7, and returns its label. */
unsigned draw_image(uint32_t n, float *image);

#endif
