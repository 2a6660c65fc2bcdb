"""Test accuracy of LeNet-5 trained in integers, over seeds: the accuracy rows of docs/results.md.

    TINTIN_DATA=... python benchmarks/accuracy.py mnist mnist_single fashion_mnist versus --seeds 0 1 2 --json out.json

Cases: `mnist` (batch 64, 10 epochs), `mnist_single` (batch 1, 3 epochs), `fashion_mnist` (batch 64, 20 epochs),
`versus` (TinTin
against NITI after epochs 1, 2 and 3 on MNIST, batch 64), `rounding` (the three roundings at batch 64 and 1, one epoch).
`--validate N` trains without the last N training samples and reports on them: that is how settings were chosen.
"""

import argparse
import json
import statistics

import tintin
from tintin import models

CASES = {
    "mnist": ("mnist", 64, 10),
    "mnist_single": ("mnist", 1, 3),
    "fashion_mnist": ("fashion_mnist", 64, 20),
}


def data(name, validate):
    """Training samples and labels, then those to measure on."""
    d = tintin.datasets.load(name)
    if not validate:
        return d.arrays
    x, y = d.x_train, d.y_train
    return x[:-validate], y[:-validate], x[-validate:], y[-validate:]


def run(arrays, batch_size, epochs, optimizer, seed):
    """Test accuracy in percent after each epoch, seconds per epoch, digest."""
    x, y, x_test, y_test = arrays
    net = models.lenet5(seed=seed)
    scores = []
    history = net.fit(
        x,
        y,
        epochs,
        batch_size,
        optimizer,
        progress=False,
        callbacks=[lambda net, _: scores.append(100 * net.score(x_test, y_test))],
    )
    return {
        "seed": seed,
        "accuracy": scores,
        "seconds": statistics.median(history["seconds"]),
        "digest": f"0x{net.digest():016x}",
    }


def spread(values):
    """Mean and standard deviation, as text."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2f} ± {deviation:.2f}"


def last_epoch(name, args):
    """One row: accuracy after the last epoch."""
    source, batch_size, epochs = CASES[name]
    arrays = data(source, args.validate)
    optimizer = tintin.TinTin(learning_shift=args.learning_shift)
    runs = [run(arrays, batch_size, epochs, optimizer, seed) for seed in args.seeds]
    last = [r["accuracy"][-1] for r in runs]
    seconds = statistics.median(r["seconds"] for r in runs)
    print(
        f"| {source}, batch {batch_size}, {epochs} epochs | {spread(last)} | {min(last):.2f} | {seconds:.2f} s |",
        flush=True,
    )
    return runs


def versus(args):
    """Both rules after epochs 1, 2 and 3."""
    arrays = data("mnist", args.validate)
    result = {}
    for label, optimizer in (("TinTin", tintin.TinTin()), ("NITI", tintin.Niti()), ("NITI, mu 0", tintin.Niti(mu=0))):
        runs = [run(arrays, 64, 3, optimizer, seed) for seed in args.seeds]
        columns = " | ".join(spread([r["accuracy"][e] for r in runs]) for e in range(3))
        print(f"| {label} | {columns} |", flush=True)
        result[label] = runs
    return result


def rounding(args):
    """What rounding of the update is worth, by batch size; one epoch."""
    arrays = data("mnist", args.validate)
    result = {}
    for batch_size in (64, 1):
        for rule in (tintin.TinTin, tintin.Niti):
            for mode in ("stochastic", "pseudo", "nearest"):
                runs = [run(arrays, batch_size, 1, rule(rounding=mode), seed) for seed in args.seeds]
                accuracy = spread([r["accuracy"][0] for r in runs])
                print(f"| {rule.__name__} | {mode} | {batch_size} | {accuracy} |", flush=True)
                result[f"{rule.__name__} {mode} {batch_size}"] = runs
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=[*CASES, "versus", "rounding"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--validate", type=int, default=0, metavar="N")
    parser.add_argument("--learning-shift", type=int, default=None)
    parser.add_argument("--json")
    args = parser.parse_args()
    unknown = set(args.cases) - {*CASES, "versus", "rounding"}
    if unknown:
        parser.error(f"unknown case {', '.join(sorted(unknown))}")
    print(f"tintin {tintin.__version__}, numerics {tintin.NUMERICS}, kernels {tintin.kernels()}, seeds {args.seeds}")
    results = {}
    for name in args.cases:
        special = {"versus": versus, "rounding": rounding}.get(name)
        results[name] = special(args) if special else last_epoch(name, args)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as stream:
            json.dump(results, stream, indent=1)


if __name__ == "__main__":
    main()
