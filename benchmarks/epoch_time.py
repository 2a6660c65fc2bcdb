"""One training epoch of LeNet-5 on MNIST, tintin against float32 frameworks, in alternating runs.

    TINTIN_DATA=... python benchmarks/epoch_time.py --float-python floatenv/bin/python --threads 1 2 --rounds 3

`--float-python` is the interpreter with benchmarks/requirements.txt installed. Every round runs, one after the other,
one epoch of tintin and the timed epochs of each framework; medians and ratios are over all rounds, so that a busy
moment of a shared machine strikes all alike. tintin uses one thread.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import tintin
from tintin import models

HERE = Path(__file__).parent
RIVALS = {
    "PyTorch": ["float32.py", "--time-only"],
    "TensorFlow": ["float32_time.py", "--framework", "tensorflow", "--engine", "epoch"],
    "JAX": ["float32_time.py", "--framework", "jax", "--engine", "step"],
}


def own_epoch(data, batch_size):
    net = models.lenet5()
    return net.fit(data.x_train, data.y_train, 1, batch_size, progress=False)["seconds"][0]


def rival_epochs(python, rival, threads, batch_size):
    script, *rest = RIVALS[rival]
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [python, HERE / script, *rest, "--data", "mnist", "--batch-size", str(batch_size)]
        command += ["--threads", str(threads), "--json", out.name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return json.loads(Path(out.name).read_text(encoding="utf-8"))["seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--float-python", default=sys.executable)
    parser.add_argument("--rivals", nargs="+", choices=RIVALS, default=["PyTorch", "TensorFlow"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    args = parser.parse_args()
    data = tintin.datasets.load("mnist")
    own, rivals = [], {}
    for _ in range(args.rounds):
        for rival in args.rivals:
            for threads in args.threads:
                own.append(own_epoch(data, args.batch_size))
                seconds = rival_epochs(args.float_python, rival, threads, args.batch_size)
                rivals.setdefault((rival, threads), []).extend(seconds)
    mine = statistics.median(own)
    print(f"tintin {tintin.__version__}, kernels {tintin.kernels()}, {platform.machine()}, batch {args.batch_size}\n")
    print("| | threads | seconds per epoch, median | spread | float32 / tintin |\n|---|---:|---:|---:|---:|")
    print(f"| tintin | 1 | {mine:.2f} | {min(own):.2f} to {max(own):.2f} | |")
    for (rival, threads), seconds in rivals.items():
        median = statistics.median(seconds)
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        print(f"| {rival} float32 | {threads} | {median:.2f} | {spread} | {median / mine:.2f} |")


if __name__ == "__main__":
    main()
