"""What adaptation to a few samples costs on an emulated Cortex-M, by policy: instructions, RAM, share of choosing.

    scripts/adapt-device.sh [--net mcunet] [--cores m4 m3 m0] [--steps 40] [--json figures.json]

The firmware `adapt` learns from flash within 256 KB of RAM; every choice, step and class is compared with the wheel's.
The net is of `tintin.zoo`, pre-trained on made-up classes, so accuracies here mean nothing. Fails if anything differs,
if the plan's RAM is not what the firmware takes, or if choosing takes more than a tenth of the instructions.
"""

import argparse
import json
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tables import grouped, table

import tintin
from tintin import device, zoo

#: input shape, queries in a step, budget in bytes: what fits into 256 KB beside the tables of the net and a batch
NETS: dict[str, tuple[tuple[int, int, int], int, int]] = {
    "lenet5": ((28, 28, 1), 5, 128 * 1024),
    "ds_cnn": ((49, 10, 1), 2, 128 * 1024),
    "mcunet": ((32, 32, 3), 5, 128 * 1024),
    "resnet8": ((32, 32, 3), 1, 160 * 1024),
}
POLICIES = ("none", "last_layer", "full", "tinytrain")
WAYS, SHOTS, QUERIES = 5, 5, 2
MOST_SHARE = 0.1
HEAD = (
    "policy", "layers", "plan, bytes", "all, bytes", "stack", "choosing, M", "a step, M", "all, M", "share of choosing",
)  # fmt: skip


def samples(shape: tuple[int, ...], classes: range, each: int, seed: int) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Noise on a pattern for each class."""
    patterns = np.random.default_rng(9).integers(-60, 61, (classes.stop, *shape))
    draw = np.random.default_rng(seed)
    y = np.repeat(np.array(classes), each)
    return (patterns[y] + draw.integers(-60, 61, (len(y), *shape))).astype(np.int8), y


def pretrained(name: str, episodes: int) -> tintin.Sequential:
    """The net, trained on episodes of classes that no task has."""
    net: tintin.Sequential = getattr(zoo, name)(NETS[name][0], None, seed=1)
    x, y = samples(net.input_shape, range(16), 20, 1)
    net.fit_episodes(x, y, episodes, progress=False)
    return net


def measure(core: str, net: tintin.Sequential, policy: str, steps: int, batch: int, budget: int) -> dict[str, Any]:
    """One adaptation there and here: figures, and under `wrong` what does not agree."""
    classes = range(16, 16 + WAYS)
    x, y = samples(net.input_shape, classes, SHOTS, 2)
    queries, labels = samples(net.input_shape, classes, QUERIES, 3)
    limit = {} if policy == "none" else {"memory_budget": budget}
    settings = {"policy": policy, "steps": steps, "batch_size": batch, **limit}
    try:
        there = device.adapt(core, device.task(net, x, y, queries, **settings), count=True)
    except device.LinkError as error:
        return {"policy": policy, "refused": str(error), "wrong": []}
    wrong = []
    if policy != "none":
        here = net.adapt(x, y, **settings)
        pairs = [
            ("choices", there.choices, here.choices),
            ("digests", there.digests, here.digests),
            ("classes", there.classes, np.searchsorted(here.classes, here.predict(queries)).tolist()),
        ]
        wrong = [name for name, found, expected in pairs if found != expected]
        if not 0 <= there.ram["used"] - there.ram["plan"] <= 3:
            wrong.append("RAM")
        if there.share > MOST_SHARE:
            wrong.append("share")
    found = {"policy": policy, "choices": there.choices, "steps": len(there.digests), "wrong": wrong, **there.ram}
    found |= {f"{name}_instructions": count for name, count in there.instructions.items()}
    found["share"], found["right"] = there.share, int(np.sum(np.array(there.classes) == labels - 16))
    return found


def rows(figures: list[dict[str, Any]]) -> list[list[str]]:
    """Lines of the table."""
    lines = []
    for f in figures:
        if "refused" in f:
            lines.append([f["policy"], *["-"] * 8])
            continue
        steps = max(f["steps"], 1)
        chosen, learned = f["selection_instructions"], f["steps_instructions"]
        lines.append([
            f["policy"], grouped(len(f["choices"])), grouped(f["plan"]), grouped(f["pool"] + f["room"] + f["tables"]),
            grouped(f["stack"]), f"{chosen / 1e6:.1f}", f"{learned / steps / 1e6:.2f}",
            f"{(chosen + learned) / 1e6:.0f}", f"{100 * f['share']:.1f} %",
        ])  # fmt: skip
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description="Cost of adaptation on emulated cores, by policy.")
    parser.add_argument("--net", choices=NETS, action="append", help="default: mcunet")
    parser.add_argument("--cores", nargs="+", default=["m4"], choices=["m0", "m3", "m4", "m33"])
    parser.add_argument("--policies", nargs="+", default=POLICIES, choices=device.POLICIES)
    parser.add_argument("--steps", type=int, default=40, help="passes over the samples (default 40)")
    parser.add_argument("--batch", type=int, help="queries in a step")
    parser.add_argument("--budget", type=int, help="bytes of RAM of the plan")
    parser.add_argument("--episodes", type=int, default=100, help="of pre-training (default 100)")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    given = parser.parse_args()
    everything, bad = {}, 0
    for name in given.net or ["mcunet"]:
        net = pretrained(name, given.episodes)
        for core in given.cores:
            _, batch, budget = NETS[name]
            batch, budget = given.batch or batch, given.budget or budget
            figures = [measure(core, net, policy, given.steps, batch, budget) for policy in given.policies]
            everything[f"{name} on {core}"] = figures
            print(
                f"\n{name} on {core}: {WAYS} classes, {WAYS * SHOTS} samples, {given.steps} passes, {batch} queries a "
                f"step, budget {budget:,} bytes\n"
            )
            print(table(HEAD, rows(figures)))
            for f in figures:
                if "refused" in f:
                    print(f"\n{f['policy']}: {f['refused']}")
                if f["wrong"]:
                    bad += 1
                    print(f"\n{f['policy']}: DIFFERS in {', '.join(f['wrong'])}")
    if given.json:
        with open(given.json, "w") as file:
            json.dump(everything, file, indent=1)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
