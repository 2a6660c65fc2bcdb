"""Seconds per epoch of float32 LeNet-5 training in JAX and TensorFlow on a CPU.

Same net, data and method as float32.py, which has the PyTorch numbers
(`float32.py --time-only`); only the time is measured, so that the comparison is with
the fastest framework at hand. One warm-up epoch, which includes compilation, then three
timed ones.

    floatenv/bin/pip install -r benchmarks/requirements.txt
    TINTIN_DATA=... floatenv/bin/python benchmarks/float32_time.py --framework jax

`--engine step` calls one compiled training step per batch, `--engine epoch` compiles the
loop over the batches as well; TensorFlow has each with XLA too (`--xla`). Both
frameworks are told the number of threads, and on Linux the process is pinned to as many
cores, because JAX sizes its thread pool by them.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np
from float32 import DATA_SETS, environment, load

SHAPES = [(5, 5, 1, 6), (5, 5, 6, 16), (400, 120), (120, 84), (84, 10)]


def initial_weights():
    """Uniform weights as PyTorch starts with."""
    rng = np.random.default_rng(0)
    bounds = [float(np.prod(shape[:-1])) ** -0.5 for shape in SHAPES]
    return [rng.uniform(-b, b, s).astype(np.float32) for b, s in zip(bounds, SHAPES, strict=True)]


def batches(order, size):
    """The order of an epoch as full batches (rows) and the shorter rest."""
    full = len(order) // size * size
    return order[:full].reshape(-1, size), order[full:]


def accuracy(weights, images, labels):
    """Computed with numpy alone, to see that a framework really trained this net."""
    c1, c2, f1, f2, f3 = (np.asarray(w) for w in weights)

    def convolution(a, kernel):
        windows = np.lib.stride_tricks.sliding_window_view(a, (5, 5), (1, 2))
        a = np.maximum(np.einsum("nhwcij,ijco->nhwo", windows, kernel, optimize=True), 0)
        n, height, width, channels = a.shape
        return a.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))

    a = convolution(np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0))), c1)
    a = convolution(a, c2).reshape(len(images), -1)
    a = np.maximum(np.maximum(a @ f1, 0) @ f2, 0) @ f3
    return 100 * float((a.argmax(1) == labels).mean())


def jax_epoch(args, images, labels):
    import jax
    import jax.numpy as jnp
    from jax import lax

    x, y = jnp.asarray(images), jnp.asarray(labels.astype(np.int32))

    def pool(a):
        return lax.reduce_window(a, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def loss(weights, x, y):
        c1, c2, f1, f2, f3 = weights
        dims = ("NHWC", "HWIO", "NHWC")
        a = lax.conv_general_dilated(x, c1, (1, 1), [(2, 2)] * 2, dimension_numbers=dims)
        a = pool(jax.nn.relu(a))
        a = lax.conv_general_dilated(a, c2, (1, 1), "VALID", dimension_numbers=dims)
        a = pool(jax.nn.relu(a)).reshape(len(x), -1)
        a = jax.nn.relu(jax.nn.relu(a @ f1) @ f2) @ f3
        return -jnp.take_along_axis(jax.nn.log_softmax(a), y[:, None], 1).mean()

    def step(weights, index, x, y):
        # mode="clip" spares the check of indices that are valid anyway.
        xb, yb = jnp.take(x, index, 0, mode="clip"), jnp.take(y, index, 0, mode="clip")
        gradients = jax.grad(loss)(weights, xb, yb)
        return [w - args.lr * g for w, g in zip(weights, gradients, strict=True)]

    jit_step = jax.jit(step, donate_argnums=0)

    @jax.jit
    def scan(weights, index, x, y):
        return lax.scan(lambda w, i: (step(w, i, x, y), None), weights, index)[0]

    weights = [jnp.asarray(w) for w in initial_weights()]
    rng = np.random.default_rng(1)

    def epoch():
        nonlocal weights
        full, rest = batches(rng.permutation(len(images)).astype(np.int32), args.batch_size)
        if args.engine == "epoch":
            weights = scan(weights, full, x, y)
        else:
            for index in full:
                weights = jit_step(weights, index, x, y)
        if len(rest):
            weights = jit_step(weights, rest, x, y)
        jax.block_until_ready(weights)

    return epoch, lambda: weights, jax


def tensorflow_epoch(args, images, labels):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    x, y = tf.constant(images), tf.constant(labels.astype(np.int32))
    weights = [tf.Variable(w) for w in initial_weights()]

    def step(index):
        xb, yb = tf.gather(x, index), tf.gather(y, index)
        c1, c2, f1, f2, f3 = weights
        with tf.GradientTape() as tape:
            a = tf.nn.max_pool2d(tf.nn.relu(tf.nn.conv2d(xb, c1, 1, "SAME")), 2, 2, "VALID")
            a = tf.nn.max_pool2d(tf.nn.relu(tf.nn.conv2d(a, c2, 1, "VALID")), 2, 2, "VALID")
            a = tf.reshape(a, (-1, 400))
            a = tf.nn.relu(tf.nn.relu(a @ f1) @ f2) @ f3
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(yb, a))
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            weight.assign_sub(args.lr * gradient)

    jit_step = tf.function(step, jit_compile=args.xla)

    @tf.function(jit_compile=args.xla)
    def loop(index):
        for i in tf.range(tf.shape(index)[0]):
            step(index[i])

    rng = np.random.default_rng(1)

    def epoch():
        full, rest = batches(rng.permutation(len(images)).astype(np.int32), args.batch_size)
        if args.engine == "epoch":
            loop(tf.constant(full))
        else:
            for index in tf.unstack(tf.constant(full)):
                jit_step(index)
        if len(rest):
            jit_step(tf.constant(rest))
        weights[0].numpy()

    return epoch, lambda: weights, tf


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", choices=("jax", "tensorflow"), required=True)
    parser.add_argument("--data", choices=DATA_SETS, default="mnist")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--engine", choices=("step", "epoch"), default="step")
    parser.add_argument("--xla", action="store_true", help="TensorFlow: compile with XLA")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="use only the first N images; times are still of that part"
    )
    parser.add_argument("--json", type=Path, help="write the results to this file as well")
    args = parser.parse_args()

    # Before the framework is imported: its threads inherit this.
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[: args.threads])
    images, labels, _, _ = load(args.data)
    images = images.reshape(-1, 28, 28, 1)[: args.limit]
    make = {"jax": jax_epoch, "tensorflow": tensorflow_epoch}[args.framework]
    epoch, trained, module = make(args, images, labels[: args.limit])

    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        epoch()
        seconds.append(time.perf_counter() - start)
    warm_up, *seconds = seconds
    median = statistics.median(seconds)
    right = accuracy(trained(), images[:1000], labels[:1000])
    print(
        f"{median:.3f} s per epoch (median of 3), warm-up {warm_up:.1f} s, {module.__name__} "
        f"{module.__version__}, engine {args.engine}{', XLA' if args.xla else ''}, "
        f"batch {args.batch_size}, {args.threads} thread(s), {len(images)} images; "
        f"{right:.1f} % of the first training images right"
    )
    if args.json:
        settings = {k: v for k, v in vars(args).items() if k != "json"}
        args.json.write_text(
            json.dumps(
                {
                    "settings": settings,
                    "environment": environment(module),
                    "warm_up": warm_up,
                    "accuracy_on_first_training_images": right,
                    "seconds": seconds,
                    "median_seconds": median,
                },
                indent=1,
            )
            + "\n"
        )


if __name__ == "__main__":
    main()
