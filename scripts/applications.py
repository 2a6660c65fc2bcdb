#!/usr/bin/env python3
"""Trains the two applications on an emulated Cortex-M0+ with the Feather M0's 32 KB of RAM, from streamed samples, and
compares with the same training here: digest, loss and right answers of every epoch, and the test by class.

    TINTIN_DATA=... scripts/applications.py                     both, whole trainings, seed 0
    scripts/applications.py bearing --samples 200 --tests 50    the first of each epoch's samples

Without the recordings made-up ones are used: equality is shown, accuracy means nothing. What the sensor gave is
streamed, in the order of `Sequential.fit`; the features are computed on the core. A second run counts instructions of
the first samples (QEMU's count, to within 40). Fails if anything differs, or if static memory and stack pass 32,768
bytes; 77 if there is no QEMU.
"""

import argparse
import math
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from itertools import zip_longest
from pathlib import Path

import numpy as np

import tintin
from tintin import _tintin

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
from applications import APPLICATIONS, optimizer  # noqa: E402

TARGET, MACHINE = "thumbv6m-none-eabi", "mps2-an385"
RAM = 32 * 1024
ROUNDINGS = ("nearest", "pseudo", "stochastic")
NEVER = 2**32 - 1
#: samples of the run that counts instructions, and its clock
COUNTED = 40
COUNTING = ("-icount", "shift=0,sleep=off")
NO_QEMU = 77
#: seconds; whole trainings take minutes
PATIENCE = 3600


def made_up(name):
    """Recordings of nothing: noise, louder or shifted by class, the same on every machine."""
    rng = np.random.default_rng(1)

    def labels(n, classes):
        return np.arange(n, dtype=np.uint8) % classes

    if name == "bearing":
        y = [labels(n, 10) for n in (300, 100)]
        x = [rng.integers(-100, 101, (len(p), 1024)) * (1 + p[:, None].astype(int)) for p in y]
        classes, about = 10, {}
    else:
        y = [labels(n, 2) for n in (300, 100)]
        x = [rng.integers(-900, 901, (len(p), 59)) + 1500 * p[:, None].astype(int) for p in y]
        noise = rng.integers(-900, 901, (400, 59)).astype(np.int16)
        about = {"noise": noise, "noise_campaign": labels(400, 4)}
        about |= {f"campaign_{part}": labels(n, 4) for part, n in (("train", 300), ("test", 100))}
        classes = 2
    x = [part.astype(np.int16) for part in x]
    return tintin.datasets.Recordings(x[0], y[0], x[1], y[1], tuple(map(str, range(classes))), "made up", about)


def load(name):
    """The application, and whether its data are real."""
    try:
        return APPLICATIONS[name](), True
    except FileNotFoundError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return APPLICATIONS[name](made_up(name)), False


def stream(application, seed, epochs, orders, test):
    """The bytes that `crates/tintin-mcu/src/application.rs` reads. `orders`: rows of each epoch."""
    rule = optimizer(application)
    size = application.batch_size
    steps = epochs * -(-len(orders[0]) // size)
    marks = [int(share * steps) for share in rule.milestones]
    marks += [NEVER] * (4 - len(marks))
    parts = [
        b"TTA1",
        struct.pack("<5I", seed, epochs, len(orders[0]), len(test), size),
        struct.pack("<bbBB", rule.learning_shift, rule.decay, rule.margin, ROUNDINGS.index(rule.rounding)),
        struct.pack("<4I", *marks),
    ]
    noise = getattr(application, "noise", None)
    if noise is not None:
        parts.append(struct.pack("<I", len(noise)))
        parts += [struct.pack("<I", len(blocks)) + blocks.astype("<i2").tobytes() for blocks in noise]
    for row in np.concatenate([*orders, test]):
        parts.append(bytes([application.labels[row]]))
        if noise is not None:
            parts.append(bytes([application.campaign[row]]))
        parts.append(application.raw[row].astype("<i2").tobytes())
    return b"".join(parts)


def train_here(application, net, part, epochs, test):
    """What the firmware is to print, but for instructions and memory."""
    lines = []
    n = len(part.x)

    def told(net, record):
        loss = round(record["loss"] / math.log(2) * n * 2**16)
        correct = round(record["accuracy"] * n)
        lines.append(f"epoch {record['epoch']} digest {net.digest():#018x} loss {loss} correct {correct} of {n}")

    net.fit(part.x, part.y, epochs, application.batch_size, optimizer(application), progress=False, callbacks=[told])
    right = net.predict(test.x) == test.y
    for label in range(net.outputs):
        of = test.y == label
        lines.append(f"test class {label} correct {int((right & of).sum())} of {int(of.sum())}")
    return lines


def emulate(firmware, data, *arguments):
    """The lines that the firmware prints when it is streamed `data`."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "samples.bin").write_bytes(data)
        command = [ROOT / "scripts/qemu-arm.sh", MACHINE, firmware, *arguments]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE
            )
        except subprocess.TimeoutExpired:
            raise SystemExit(f"{firmware.name} did not end within {PATIENCE} seconds") from None
    if done.returncode:
        why = done.stderr.strip() or "no message, as when the stack overflows"
        raise SystemExit(f"{firmware.name} ended with status {done.returncode}: {why}")
    return done.stdout.splitlines()


def flash(firmware):
    """Bytes of flash of a 32-bit little-endian ELF file, from its section headers."""
    elf = firmware.read_bytes()
    (start,) = struct.unpack_from("<I", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 46)
    sections = [struct.unpack_from("<6I", elf, start + i * size) for i in range(count)]
    return sum(length for _, kind, flags, _, _, length in sections if flags & 2 and kind != 8)


def numbers(line):
    return [int(number) for number in re.findall(r"\d+", line)]


def some(part, key, seed, most):
    """`most` samples of a part, of all classes, unlike its first rows; without `most` the part as it is."""
    if most is None:
        return part
    order = _tintin.shuffle(seed, key, len(part.x))[:most]
    return type(part)(part.x[order], part.fine[order], part.y[order], part.rows[order])


def first_difference(here, there):
    """The first line that is not the same, on both sides."""
    for pair in zip_longest(here, there, fillvalue="nothing"):
        if pair[0] != pair[1]:
            return "here {!r}, on the core {!r}".format(*pair)
    return None


def check(name, firmware, args):
    """Trains on both sides; True if all is equal and fits."""
    application, real = load(name)
    part, test = application.test()
    part, test = some(part, 0, args.seed, args.samples), some(test, 1, args.seed, args.tests)
    epochs, n = args.epochs or application.epochs, len(part.x)
    batches = -(-n // application.batch_size)
    orders = [part.rows[_tintin.shuffle(args.seed, epoch * batches, n)] for epoch in range(epochs)]
    *there, _, ram = emulate(firmware, stream(application, args.seed, epochs, orders, test.rows))
    net = application.net(args.seed)
    difference = first_difference(train_here(application, net, part, epochs, test), there)
    short = stream(application, args.seed, 1, [orders[0][:COUNTED]], test.rows[:COUNTED])
    front, step, predict = numbers(emulate(firmware, short, *COUNTING)[-2])

    print(f"{name}: {epochs} epochs of {n} samples, {'recordings' if real else 'made-up data'}, seed {args.seed}")
    print("\n".join(there))
    print(f"DIFFERS: {difference}" if difference else f"every line equal to the wheel's, after each of {epochs} epochs")
    statics, plan, stack, room = numbers(ram)
    print(
        f"RAM {statics + stack:,} of {RAM:,} bytes: {statics:,} static ({plan:,} the net), {stack:,} stack of {room:,}"
    )
    print(f"flash {flash(firmware):,} bytes")
    print(
        f"M0+ instructions a sample: {front:,} features, {step:,} training, {predict:,} prediction "
        f"(means of {COUNTED})\n"
    )
    return difference is None and statics + stack <= RAM


def build(names):
    bins = [word for name in names for word in ("--bin", name)]
    subprocess.run([ROOT / "scripts/setup-arm.sh", TARGET], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(
        [ROOT / "scripts/cargo-arm.sh", "build", "--quiet", "--release", "--locked", "--target", TARGET, *bins],
        check=True,
        cwd=ROOT / "crates/tintin-mcu",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("applications", nargs="*", default=list(APPLICATIONS), metavar="bearing|spectrum")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="those of the application unless told")
    parser.add_argument("--samples", type=int, help="of an epoch; all unless told")
    parser.add_argument("--tests", type=int, help="test samples; all unless told")
    args = parser.parse_args()
    unknown = set(args.applications) - set(APPLICATIONS)
    if unknown:
        parser.error(f"unknown application {', '.join(sorted(unknown))}; there are bearing and spectrum")
    if shutil.which("qemu-system-arm") is None:
        print("qemu-system-arm is not installed; scripts/parity.sh installs it where there is apt-get", file=sys.stderr)
        return NO_QEMU
    build(args.applications)
    folder = ROOT / "target/arm" / TARGET / "release"
    passed = [check(name, folder / name, args) for name in args.applications]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    raise SystemExit(main())
