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
SIZES = {"bearing": 1, "spectrum": 8}
#: what learning rates are chosen by: 0 all samples, 1 the mean over the classes
METRIC = {"bearing": 0, "spectrum": 1}
RATES = {"sgd": (0.003, 0.01, 0.03, 0.1, 0.2), "adam": (0.0003, 0.001, 0.003, 0.01)}
#: what the features are divided by: the integer net takes them in 2^-7
SCALE = 128.0
EPOCHS = 10


class Nets:
    """Nets of all rates and seeds, trained side by side: each in its own order of samples, none sees the others."""

    def __init__(self, widths, method, size, runs):
        self.method, self.size, self.runs = method, size, runs
        one = []
        for _, seed in runs:
            torch.manual_seed(seed)
            # The range PyTorch's own layers start with.
            shapes = [(shape, i**-0.5) for i, o in pairwise(widths) for shape in ((o, i), (1, o))]
            one.append([torch.empty(shape).uniform_(-bound, bound) for shape, bound in shapes])
        self.tensors = [torch.stack(same).requires_grad_() for same in zip(*one, strict=True)]
        self.rates = torch.tensor([rate for rate, _ in runs])[:, None, None]
        self.moments = [(torch.zeros_like(t), torch.zeros_like(t)) for t in self.tensors]
        self.steps = 0

    def forward(self, x):
        """Outputs (nets, samples, classes) of inputs (nets, samples, features)."""
        for i in range(0, len(self.tensors), 2):
            x = torch.baddbmm(self.tensors[i + 1], x, self.tensors[i].transpose(1, 2))
            if i + 2 < len(self.tensors):
                x = functional.relu(x)
        return x

    def fit(self, x, y):
        """Trains for all epochs."""
        orders = [torch.Generator().manual_seed(seed) for _, seed in self.runs]
        for epoch in range(EPOCHS):
            rates = self.rates / 4 ** ((2 * epoch >= EPOCHS) + (4 * epoch >= 3 * EPOCHS))
            order = torch.stack([torch.randperm(len(x), generator=order) for order in orders])
            # batches whose sizes differ by one at most, as in the integer training
            for rows in order.tensor_split(-(-len(x) // self.size), 1):
                outputs = self.forward(x[rows])
                loss = functional.cross_entropy(outputs.flatten(0, 1), y[rows].flatten(), reduction="sum")
                loss = loss / rows.shape[1]  # a sum over the nets of their means: each has its own gradient
                gradients = torch.autograd.grad(loss, self.tensors)
                with torch.no_grad():
                    self.update(gradients, rates)

    def update(self, gradients, rates):
        self.steps += 1
        for tensor, gradient, (mean, square) in zip(self.tensors, gradients, self.moments, strict=True):
            if self.method == "sgd":
                tensor.sub_(rates * gradient)
                continue
            # Adam as in its paper (arXiv 1412.6980), with its defaults.
            mean.lerp_(gradient, 0.1)
            square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            root = (square / (1 - 0.999**self.steps)).sqrt_().add_(1e-8)
            tensor.sub_(rates / (1 - 0.9**self.steps) * mean / root)

    def classes(self, x):
        with torch.inference_mode():
            return self.forward(x.expand(len(self.runs), -1, -1)).argmax(2)


def split(arrays, kind, i):
    """Inputs and labels of training and measured part number `i`."""
    name = {"int8": "x", "float": "fine"}[kind]
    for part in ("train", "test"):
        yield torch.from_numpy(arrays[f"{name}_{part}_{i}"].astype(np.float32) / np.float32(SCALE))
        yield torch.from_numpy(arrays[f"y_{part}_{i}"].astype(np.int64))


def scores(arrays, application, kind, i, method, size, runs):
    """Accuracy of all samples and mean over the classes, percent, of each of the `runs` (rate, seed) on split `i`."""
    x, y, x_test, y_test = split(arrays, kind, i)
    nets = Nets(WIDTHS[application], method, size, runs)
    nets.fit(x, y)
    found = []
    for right in nets.classes(x_test) == y_test:
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
    parser.add_argument("--inputs", nargs="+", choices=("int8", "float"), default=("int8", "float"))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for file in args.files:
        application, metric = file.stem, METRIC[file.stem]
        with np.load(file) as stored:
            arrays = dict(stored)
        folds = range(1, sum(name.startswith("y_test_") for name in arrays))
        for kind in args.inputs:
            for method, rates in RATES.items():
                runs = [(rate, seed) for rate in rates for seed in args.seeds]
                found = [scores(arrays, application, kind, i, method, SIZES[application], runs) for i in folds]
                means = {
                    rate: statistics.mean(
                        fold[k][metric] for fold in found for k, run in enumerate(runs) if run[0] == rate
                    )
                    for rate in rates
                }
                told = ", ".join(f"{rate:g}: {mean:.2f}" for rate, mean in means.items())
                print(f"validation, {application}, {kind}, {method}: {told}", flush=True)
                best = max(means, key=means.get)
                found = scores(
                    arrays, application, kind, 0, method, SIZES[application], [(best, seed) for seed in args.seeds]
                )
                accuracy, balanced = zip(*found, strict=True)
                print(
                    f"| {application}, {kind} inputs, {method}, rate {best:g} | {spread(accuracy)} "
                    f"| {min(accuracy):.2f} | {spread(balanced)} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
