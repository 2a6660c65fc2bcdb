"""Settings of `fewshot.py`, compared on validation episodes: a line for each, and its difference from the first.

    TINTIN_DATA=... python benchmarks/fewshot_choose.py keywords none full:shift=5,margin=6 tinytrain:ratio=1.0

A setting is a policy, a colon, and what differs from `fewshot.COMMON`, shift (of the learning rate) 4 and margin 5:
also steps, batch_size, temperature, ratio, inspect, memory_budget, compute_budget.
"""

import argparse
import time
from pathlib import Path

import fewshot
import fewshot_data
import numpy as np

import tintin
from tintin import TinTin


def settings(text, name):
    """The arguments of `adapt`."""
    policy, _, rest = text.partition(":")
    pairs = [pair.split("=") for pair in rest.split(",") if pair]
    given = {key: float(value) if "." in value else int(value) for key, value in pairs}
    optimizer = TinTin(given.pop("shift", 4), given.pop("margin", 5), milestones=())
    budgets = fewshot.BUDGETS if policy in ("tinytrain", "random_channels") else {}
    return {"policy": policy, "optimizer": optimizer, "shift": fewshot.SHIFT[name]} | fewshot.COMMON | budgets | given


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", choices=tuple(fewshot.SHIFT))
    parser.add_argument("settings", nargs="+")
    parser.add_argument("--episodes", type=int, default=24)
    parser.add_argument("--various", action="store_true", help="episodes of various ways and shots")
    parser.add_argument("--cache", type=Path, default=Path("target/fewshot"))
    parser.add_argument("--net", type=Path, help="a .tin in place of the cached net")
    told = parser.parse_args()
    tintin.set_num_threads(1)
    scenario = getattr(fewshot_data, told.scenario)()
    net = tintin.load(told.net) if told.net else fewshot.pretrained(scenario, told.cache)
    episodes = [fewshot.drawn(scenario, "validation", i, told.various) for i in range(told.episodes)]
    print("| setting | accuracy, % | over the first | products / full | s |\n|---|---:|---:|---:|---:|")
    first = None
    for text in told.settings:
        given, start, scores, share = settings(text, told.scenario), time.perf_counter(), [], 0.0
        for episode in episodes:
            result = net.adapt(episode.x_support, episode.y_support, **given)
            share = result.products / result.full_products
            scores.append(result.score(episode.x_query, episode.y_query))
        scores, seconds = np.array(scores), (time.perf_counter() - start) / len(episodes)
        first = scores if first is None else first
        over = fewshot.percent(scores - first)
        print(f"| {text} | {fewshot.percent(scores)} | {over} | {share:.3f} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
