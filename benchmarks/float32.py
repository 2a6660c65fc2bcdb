"""The float32 opponent: LeNet-5 trained in ordinary floating point with PyTorch.

The net is the one tintin trains in integers: 28x28 input, convolution 1->6 (5x5,
padding 2), ReLU, max-pooling 2, convolution 6->16 (5x5), ReLU, max-pooling 2, then
dense layers 400-120-84-10 with ReLU between, no bias anywhere; cross-entropy loss and
stochastic gradient descent, pixels divided by 255, a new shuffle every epoch.

The data are the original idx files of MNIST and Fashion-MNIST, gzipped, in the
subfolders mnist/ and fashion_mnist/ of the folder the environment variable
TINTIN_DATA names. Set up and run:

    python3 -m venv floatenv
    floatenv/bin/pip install -r benchmarks/requirements.txt
    TINTIN_DATA=... floatenv/bin/python benchmarks/float32.py --data mnist \\
        --batch-size 64 --epochs 10 --lr 0.1 --seeds 0 1 2 --threads 1 --json out.json

`--validate N` holds out the last N training images and reports the accuracy on them
instead of the test set: that is how to choose a learning rate. Times are compared by
host.py.

Written to be a fast opponent: the data set is one tensor, shuffled by one gather per
epoch and cut into batches without copying or worker processes, and --onednn picks the
faster convolutions for the batch size. host.py has torch.compile, too.
"""

import argparse
import gzip
import json
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np

ONEDNN_FROM = 16
DATA_SETS = ("mnist", "fashion_mnist")
FILES = {"train": "train", "test": "t10k"}


def read_idx(path):
    """Reads a gzipped idx file of unsigned bytes."""
    raw = gzip.decompress(Path(path).read_bytes())
    if raw[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is not an idx file of unsigned bytes")
    dims = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(raw[3])]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * len(dims)).reshape(dims)


def load(name, validate=0):
    """Training images (n, 1, 28, 28) and labels, then those to measure the accuracy on.

    The latter are the test set, or with `validate` the last images of the training set,
    which are then not trained on.
    """
    root = os.environ.get("TINTIN_DATA")
    if not root:
        raise SystemExit("set TINTIN_DATA to the folder that holds mnist/ and fashion_mnist/")

    def part(which):
        stem = Path(root) / name / FILES[which]
        images = read_idx(f"{stem}-images-idx3-ubyte.gz")
        labels = read_idx(f"{stem}-labels-idx1-ubyte.gz")
        return images[:, None].astype(np.float32) / np.float32(255), labels.astype(np.int64)

    images, labels = part("train")
    if validate:
        return images[:-validate], labels[:-validate], images[-validate:], labels[-validate:]
    return images, labels, *part("test")


def learning_rate(args, epoch):
    """The rate for an epoch counted from zero."""
    if args.schedule == "constant":
        return args.lr
    return args.lr / 4 ** ((2 * epoch >= args.epochs) + (4 * epoch >= 3 * args.epochs))


class TorchTraining:
    """One net and its data. Plain functions and an update by hand spare the overhead of
    modules and optimizer objects, which is a quarter of the time at batch size 1."""

    SHAPES = ((6, 1, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (10, 84))

    def __init__(self, args, data, seed):
        import torch

        self.torch = torch
        self.batch_size, self.momentum = args.batch_size, args.momentum
        onednn = args.onednn == "on" or (args.onednn == "auto" and args.batch_size >= ONEDNN_FROM)
        torch.set_num_threads(args.threads)
        torch.backends.mkldnn.set_flags(onednn)
        torch.manual_seed(seed)
        self.x, self.y, self.x_test, self.y_test = map(torch.from_numpy, data)
        self.weights = []
        for shape in self.SHAPES:
            # The range PyTorch's own layers start with.
            bound = float(np.prod(shape[1:])) ** -0.5
            # The order has to be asked for here: contiguous() would leave the first kernel,
            # of one channel, in the slower of the two orders that are the same for it.
            last = onednn and len(shape) == 4
            order = torch.channels_last if last else torch.contiguous_format
            weight = torch.empty(shape, memory_format=order).uniform_(-bound, bound)
            self.weights.append(weight.requires_grad_())
        self.velocities = [torch.zeros_like(w) for w in self.weights]

    def forward(self, x):
        f = self.torch.nn.functional
        c1, c2, f1, f2, f3 = self.weights
        x = f.max_pool2d(f.relu(f.conv2d(x, c1, padding=2)), 2)
        x = f.max_pool2d(f.relu(f.conv2d(x, c2)), 2)
        return f.linear(f.relu(f.linear(f.relu(f.linear(x.flatten(1), f1)), f2)), f3)

    def epoch(self, rate):
        """Trains for one epoch and returns the seconds it took."""
        torch, size = self.torch, self.batch_size
        cross_entropy = torch.nn.functional.cross_entropy
        start = time.perf_counter()
        order = torch.randperm(len(self.x))
        for x, y in zip(self.x[order].split(size), self.y[order].split(size), strict=True):
            loss = cross_entropy(self.forward(x), y)
            gradients = torch.autograd.grad(loss, self.weights)
            # torch.optim.SGD does the same.
            with torch.no_grad():
                if self.momentum:
                    for velocity, gradient in zip(self.velocities, gradients, strict=True):
                        velocity.mul_(self.momentum).add_(gradient)
                    gradients = self.velocities
                for weight, gradient in zip(self.weights, gradients, strict=True):
                    weight.add_(gradient, alpha=-rate)
        return time.perf_counter() - start

    def accuracy(self):
        with self.torch.inference_mode():
            right = sum(
                int((self.forward(x).argmax(1) == y).sum())
                for x, y in zip(self.x_test.split(500), self.y_test.split(500), strict=True)
            )
        return 100 * right / len(self.y_test)


def environment(*modules):
    """What the numbers depend on besides the arguments."""
    found = {m.__name__: m.__version__ for m in (np, *modules)}
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "versions": found,
    }


def add_common_arguments(parser):
    parser.add_argument("--data", choices=DATA_SETS, default="mnist")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--momentum", type=float, default=0.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the results to this file as well")
    parser.add_argument(
        "--onednn",
        choices=("auto", "on", "off"),
        default="auto",
        help="convolve with oneDNN in channels-last order: faster for batches, "
        f"slower for single images; auto (default): from size {ONEDNN_FROM} on",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_arguments(parser)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument(
        "--schedule",
        choices=("steps", "constant"),
        default="steps",
        help="steps: the rate is divided by 4 after half and again after three quarters of the epochs (default)",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--validate",
        type=int,
        default=0,
        metavar="N",
        help="hold out the last N training images; leave the test set alone",
    )
    args = parser.parse_args()
    try:
        import torch
    except ImportError as error:
        raise SystemExit(f"PyTorch cannot be imported ({error}); see requirements.txt") from error

    data = load(args.data, args.validate)
    settings = {k: v for k, v in vars(args).items() if k != "json"}
    result = {"settings": settings, "environment": environment(torch)}

    what = "validation" if args.validate else "test"
    seconds, runs = [], []
    for seed in args.seeds:
        training = TorchTraining(args, data, seed)
        curve = []
        for epoch in range(args.epochs):
            rate = learning_rate(args, epoch)
            seconds.append(training.epoch(rate))
            curve.append(training.accuracy())
            print(
                f"seed {seed}  epoch {epoch + 1:3}  rate {rate:<9.6g} "
                f"{what} accuracy {curve[-1]:.2f} %  {seconds[-1]:.2f} s",
                flush=True,
            )
        runs.append({"seed": seed, "accuracy": curve})
    final = [run["accuracy"][-1] for run in runs]
    mean = statistics.mean(final)
    spread = statistics.stdev(final) if len(final) > 1 else 0.0
    print(
        f"{what} accuracy after {args.epochs} epochs: mean {mean:.2f} %, standard deviation "
        f"{spread:.2f}, {min(final):.2f} to {max(final):.2f} ({len(final)} seeds)"
    )
    result.update(measured_on=what, runs=runs, mean=mean, standard_deviation=spread)

    median = statistics.median(seconds)
    print(
        f"{median:.3f} s per epoch (median of {len(seconds)}), torch {torch.__version__}, "
        f"batch {args.batch_size}, {args.threads} thread(s)"
    )
    result.update(seconds=seconds, median_seconds=median)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
