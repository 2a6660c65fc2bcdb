/* The rival that learns what it is shown, and nothing else: for the size of its flash and RAM, as crates/tintin-mcu/src/bin/lenet5.rs. */
#include "lenet5.h"

static float image[IMAGE * IMAGE]; /* a camera would fill it */
static volatile unsigned label = 3;
volatile float loss;

int main(void) {
    initialise(5);
    for (;;) {
        loss = train_step(image, label);
        predict(image);
    }
}
