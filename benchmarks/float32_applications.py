"""The float32 opponent of benchmarks/applications.py: the same nets, data, batch size and number of epochs in PyTorch.

    TINTIN_DATA=... python benchmarks/applications.py --export features
    floatenv/bin/python benchmarks/float32_applications.py features/bearing.npz features/spectrum.npz

Plain stochastic gradient descent and Adam, a shuffle every epoch, the rate divided by 4 at half and at three quarters
as in the integer training. Each takes its inputs twice: `int8`, the integers the integer net takes, and `float`, the
same quantities before they are rounded and cut off. Of each of the four the learning rate with the best mean on the
validation splits is taken to the test; only then is the test part looked at.
"""

import argparse
import statistics
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

WIDTHS = {"bearing": (64, 32, 10), "spectrum": (59, 32, 16, 2)}
#: what learning rates are chosen by: 0 all samples, 1 the mean over the classes
METRIC = {"bearing": 0, "spectrum": 1}
RATES = {"sgd": (0.003, 0.01, 0.03, 0.1, 0.2), "adam": (0.0003, 0.001, 0.003, 0.01)}
#: what the features are divided by: the integer net takes them in 2^-7
SCALE = 128.0
EPOCHS = 10


def initial(widths):
    """Weights and biases in the range PyTorch's own layers start with."""
    tensors = []
    for inputs, outputs in pairwise(widths):
        bound = inputs**-0.5
        tensors += [torch.empty(shape).uniform_(-bound, bound) for shape in ((outputs, inputs), (outputs,))]
    return [tensor.requires_grad_() for tensor in tensors]


def forward(tensors, x):
    for i in range(0, len(tensors), 2):
        x = functional.linear(x, tensors[i], tensors[i + 1])
        if i + 2 < len(tensors):
            x = functional.relu(x)
    return x


def train(x, y, widths, method, rate, seed):
    """Trains at batch 1 and returns the function that tells classes."""
    torch.manual_seed(seed)
    tensors = initial(widths)
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[method]
    optimizer = make(tensors, lr=rate, fused=True)
    for epoch in range(EPOCHS):
        now = rate / 4 ** ((2 * epoch >= EPOCHS) + (4 * epoch >= 3 * EPOCHS))
        optimizer.param_groups[0]["lr"] = now
        order = torch.randperm(len(x))
        for sample, label in zip(x[order].split(1), y[order].split(1), strict=True):
            loss = functional.cross_entropy(forward(tensors, sample), label)
            for tensor, gradient in zip(tensors, torch.autograd.grad(loss, tensors), strict=True):
                tensor.grad = gradient
            optimizer.step()

    def classes(x):
        with torch.inference_mode():
            return forward(tensors, x).argmax(1)

    return classes


def split(arrays, kind, i):
    """Inputs and labels of training and measured part number `i`."""
    name = {"int8": "x", "float": "fine"}[kind]
    for part in ("train", "test"):
        yield torch.from_numpy(arrays[f"{name}_{part}_{i}"].astype(np.float32) / np.float32(SCALE))
        yield torch.from_numpy(arrays[f"y_{part}_{i}"].astype(np.int64))


def scores(arrays, application, kind, numbers, method, rate, seeds):
    """Accuracy of all samples and mean over the classes, in percent, for each of the splits `numbers` and seeds."""
    found = []
    for i in numbers:
        x, y, x_test, y_test = split(arrays, kind, i)
        for seed in seeds:
            right = train(x, y, WIDTHS[application], method, rate, seed)(x_test) == y_test
            classes = [right[y_test == c].float().mean().item() for c in y_test.unique()]
            found.append((100 * right.float().mean().item(), 100 * statistics.mean(classes)))
    return found


def spread(values):
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2f} ± {deviation:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for file in args.files:
        application, metric = file.stem, METRIC[file.stem]
        with np.load(file) as stored:
            arrays = dict(stored)
        folds = range(1, sum(name.startswith("y_test_") for name in arrays))
        for kind in ("int8", "float"):
            for method, rates in RATES.items():
                means = {}
                for rate in rates:
                    found = scores(arrays, application, kind, folds, method, rate, args.seeds)
                    means[rate] = statistics.mean(score[metric] for score in found)
                told = ", ".join(f"{rate:g}: {mean:.2f}" for rate, mean in means.items())
                print(f"validation, {application}, {kind}, {method}: {told}", flush=True)
                best = max(means, key=means.get)
                found = scores(arrays, application, kind, [0], method, best, args.seeds)
                accuracy, balanced = zip(*found, strict=True)
                print(
                    f"| {application}, {kind} inputs, {method}, rate {best:g} | {spread(accuracy)} "
                    f"| {min(accuracy):.2f} | {spread(balanced)} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
