"""Learning new classes from a few samples: accuracy, memory and products of every policy, in integers.

Pre-trains one net per base (cached in --cache), adapts it to episodes of classes, persons or domains it never saw
(`fewshot_data.py`), and prints a table. Settings were chosen on validation episodes (--part validation).

    TINTIN_DATA=... python benchmarks/fewshot.py --episodes 200
    TINTIN_DATA=... python benchmarks/fewshot.py --float32 PYTHON     # a python that has torch: full, also in float32

With --float-nets FOLDER the nets start from float32 weights (`fewshot_pretrain.py`), brought into integers; with
--various episodes have various ways and shots. `fewshot_choose.py` compares settings.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import fewshot_data
import numpy as np

import tintin
from tintin import Add, Conv2d, DepthwiseConv2d, GlobalAvgPool2d, Linear, ReLU, TinTin

SCENARIOS = ("omniglot", "keywords", "watch", "fashion_from_digits", "omniglot_from_digits")
#: pre-training: episodes, ways, queries, learning shift
PRETRAIN = {
    "omniglot": (3000, 20, 3, 1),
    "mnist": (3000, 10, 5, 1),
    "keywords": (3000, 10, 5, 1),
    "watch": (3000, 10, 5, 3),
}
#: places a pseudo-query may move, down and right
SHIFT = {
    "omniglot": (3, 3),
    "keywords": (6, 2),
    "watch": (0, 0),
    "fashion_from_digits": (3, 3),
    "omniglot_from_digits": (3, 3),
}
#: learning rate of full training in float32 with the same cap, chosen alike among powers of two
FLOAT_RATE = 2.0**-5
#: learning shift and margin: of full training, of the last layer, and of all others
RATES = {"full": (5, 6), "last_layer": (2, 4)}
#: the same for episodes of various ways and shots, of nets from float32
RATES_VARIOUS = {"full": (7, 6), "last_layer": (3, 3)}
RATE = (4, 5)
COMMON = {"steps": 40, "batch_size": 1, "temperature": 16}
WAYS = 5
BUDGETS = {"memory_budget": 61_440, "compute_budget": 0.15}
POLICIES = (
    "none", "last_layer", "bias_only", "full", "sparse", "tinytrain", "random_channels", "dynamic",
)  # fmt: skip


def block(layers, inputs, wide, outputs, kernel, stride):
    """An inverted residual block (MobileNetV2, arXiv 1801.04381), linear at its end."""
    start, pad = len(layers) - 1, (kernel[0] // 2, kernel[1] // 2)
    steps = (stride, stride if kernel[1] > 1 else 1)
    layers += [
        Conv2d(wide, 1, bias=True), ReLU(), DepthwiseConv2d(kernel, steps, pad, bias=True), ReLU(),
        Conv2d(outputs, 1, bias=True),
    ]  # fmt: skip
    if stride == 1 and inputs == outputs:
        layers.append(Add(start))
    return outputs


def layers_for(shape):
    """17 layers with weights, 53 k weights, 64 features; for vectors four dense layers."""
    height, width, _ = shape
    if height * width == 1:
        wide = [layer for _ in range(3) for layer in (Linear(96, bias=True), ReLU())]
        return [*wide, Linear(64, bias=True)]
    kernel = (3, 3) if width > 1 else (5, 1)
    stride = (2, 2) if width > 1 else (2, 1)
    layers = [Conv2d(16, kernel, stride, (kernel[0] // 2, kernel[1] // 2), bias=True), ReLU()]
    channels = block(layers, 16, 64, 24, kernel, 2 if height * width > 1000 and width > 1 else 1)
    for wide, outputs, step in ((96, 32, 2), (96, 32, 1), (128, 64, 2), (128, 64, 1)):
        channels = block(layers, channels, wide, outputs, kernel, step)
    return [*layers, GlobalAvgPool2d(), Linear(64, bias=True)]


def export_bases(names, folder):
    """What `fewshot_pretrain.py` needs: base samples, layers, places to move."""
    folder.mkdir(parents=True, exist_ok=True)
    for scenario in {s.base: s for s in (getattr(fewshot_data, name)() for name in names)}.values():
        layers = np.array([repr(layer) for layer in layers_for(scenario.input_shape)])
        path = folder / f"{scenario.base}.npz"
        np.savez(path, x=scenario.x, y=scenario.y, layers=layers, shift=SHIFT[scenario.name])
        print(f"wrote {path}")


def bring(scenario, path, cache):
    """The net of a float32 state dict."""
    net = tintin.Sequential(layers_for(scenario.input_shape), scenario.input_shape)
    with np.load(path) as state:
        print(tintin.load_state_dict(net, dict(state), scenario.x[:100], input_scale=1.0), file=sys.stderr)
    cache.mkdir(parents=True, exist_ok=True)
    net.save(cache / f"{scenario.base}.tin")


def pretrained(scenario, cache, seed=0):
    """The net of a scenario's base: brought, trained, or from the cache."""
    if (brought := cache / f"{scenario.base}.tin").exists():
        return tintin.load(brought)
    episodes, ways, queries, shift = PRETRAIN[scenario.base]
    path = cache / f"{scenario.base}-{episodes}-{ways}-{queries}-{shift}-{seed}.tin"
    if path.exists():
        return tintin.load(path)
    net = tintin.Sequential(layers_for(scenario.input_shape), scenario.input_shape, seed=seed)
    ways = min(ways, len(np.unique(scenario.y)))
    history = net.fit_episodes(
        scenario.x, scenario.y, episodes, ways=ways, queries=queries, shift=scenario.shift,
        optimizer=TinTin(learning_shift=shift, margin=6), progress=False,
    )  # fmt: skip
    print(f"{scenario.base}: {episodes} episodes, accuracy {history.accuracy[-1]:.3f}", file=sys.stderr)
    cache.mkdir(parents=True, exist_ok=True)
    net.save(path)
    return net


def options(name, policy, choices=None, various=False):
    """The arguments of `adapt`."""
    optimizer = TinTin(*(RATES_VARIOUS if various else RATES).get(policy, RATE), milestones=())
    given = COMMON | {"policy": policy, "shift": SHIFT[name], "optimizer": optimizer}
    if policy in ("tinytrain", "random_channels"):
        given |= BUDGETS
    if choices is not None:
        given["choices"] = choices
    return given


def backward_bytes(net, policy, choices):
    """For one sample at a time, without a limit: RAM that learning adds to that of prediction, and what of the plan
    backward needs, wherever it lies: trained weights, saved outputs and signs, errors, masks of rows."""
    if not choices:
        return 0, 0
    plan = net.memory(1, policy=policy if policy in ("random_channels", "dynamic") else None, choices=choices)
    roles = ("weights", "activations", "signs", "pool indices", "errors", "chosen rows")
    return plan.total - net.memory(training=False).total, sum(plan.by_role.get(role, 0) for role in roles)


def drawn(scenario, part, number, various):
    """Episode of WAYS classes with as many samples each, or of various ways and shots."""
    return scenario.various(part, number) if various else scenario.episode(part, number, WAYS)


_LOADED = {}


def job(arguments):
    """One episode under every policy: accuracy, memory, bytes added, bytes of backward, share of products, seconds."""
    name, cache, part, number, policies, choices, various = arguments
    if name not in _LOADED:
        tintin.set_num_threads(1)
        scenario = getattr(fewshot_data, name)()
        _LOADED[name] = scenario, pretrained(scenario, Path(cache))
    scenario, net = _LOADED[name]
    episode = drawn(scenario, part, number, various)
    found = {}
    for policy in policies:
        start = time.perf_counter()
        given = options(name, policy, choices if policy == "sparse" else None, various)
        result = net.adapt(episode.x_support, episode.y_support, **given)
        seconds = time.perf_counter() - start
        found[policy] = (
            result.score(episode.x_query, episode.y_query),
            result.memory,
            *backward_bytes(net, policy, result.choices),
            result.products / result.full_products,
            seconds,
        )
    return found


def contribution(pool, name, cache, count, various):
    """MIT's contribution analysis (arXiv 2206.15472) on validation episodes: the gain of each layer alone at half its
    rows over none, then layers by falling gain while the budgets hold."""
    scenario = getattr(fewshot_data, name)()
    net = pretrained(scenario, Path(cache))
    weighted = [t for t in net.tensors() if not t["bias"]]
    layers = [(t["layer"], max(1, len(t["mantissas"]) // 2)) for t in weighted][len(weighted) // 2 :]
    none = list(pool.map(job, [(name, cache, "validation", i, ("none",), None, various) for i in range(count)]))
    base = np.mean([found["none"][0] for found in none])
    gains = []
    for choice in layers:
        jobs = [(name, cache, "validation", i, ("sparse",), [choice], various) for i in range(count)]
        gains.append(np.mean([found["sparse"][0] for found in pool.map(job, jobs)]) - base)
    full = net._engine.plan_choice(1, [(t["layer"], len(t["mantissas"])) for t in weighted], None)["backward_products"]
    chosen = []
    for index in np.argsort(-np.array(gains), kind="stable"):
        trial = [*chosen, layers[index]]
        told = net._engine.plan_choice(1, trial, None)
        share, memory = told["backward_products"] / full, told["ram"]
        if gains[index] > 0 and share <= BUDGETS["compute_budget"] and memory <= 2 * BUDGETS["memory_budget"]:
            chosen = trial
    return sorted(chosen) or [layers[-1]]


def interval(values):
    """Half of the 95 % interval of a mean."""
    return 1.96 * np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0


def percent(scores):
    """Mean and interval in words."""
    return f"{100 * np.mean(scores):.1f} ± {100 * interval(scores):.1f}"


def float32(python, name, cache, part, count, rates, margin=None, various=False):
    """Accuracies in float32 from the same net, on the same episodes: {"none": of the net as it is, rate: of full}."""
    scenario = getattr(fewshot_data, name)()
    net = pretrained(scenario, Path(cache))
    with tempfile.TemporaryDirectory() as folder:
        arrays = {"input_shape": np.array(net.input_shape)}
        for i, tensor in enumerate(net.tensors()):
            s, u, d = tensor["scale"]
            unit = 2.0**s * 0.8**u * (4 / 3) ** d
            arrays[f"w{i}"] = (tensor["mantissas"] * unit).astype(np.float32)
            arrays[f"range{i}"] = 128 * unit
        for n in range(count):
            episode = drawn(scenario, part, n, various)
            for key in ("x_support", "y_support", "x_query", "y_query"):
                arrays[f"{key}{n}"] = getattr(episode, key)
        np.savez(f"{folder}/episodes.npz", **arrays)
        told = {"layers": [repr(layer) for layer in net.layers], "count": count, "rates": rates, "shift": SHIFT[name]}
        told |= {"steps": COMMON["steps"], "temperature": COMMON["temperature"], "margin": margin}
        Path(folder, "told.json").write_text(json.dumps(told))
        script = Path(__file__).with_name("fewshot_float32.py")
        done = subprocess.run([python, str(script), folder], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", nargs="+", default=SCENARIOS, choices=tuple(fewshot_data.SCENARIOS))
    parser.add_argument("--policies", nargs="+", default=POLICIES, choices=POLICIES)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--part", default="test", choices=fewshot_data.PARTS)
    parser.add_argument("--cache", type=Path, default=Path("target/fewshot"))
    parser.add_argument("--export-bases", type=Path, metavar="FOLDER", help="for fewshot_pretrain.py, and no more")
    parser.add_argument("--float-nets", type=Path, metavar="FOLDER", help="with what fewshot_pretrain.py wrote")
    parser.add_argument("--float32", metavar="PYTHON", help="a python that has torch: adds full fine-tuning in float32")
    parser.add_argument("--float32-episodes", type=int, default=40, help="side by side")
    parser.add_argument("--rates", type=float, nargs="+", default=[FLOAT_RATE], help="learning rates of float32")
    parser.add_argument("--plain", action="store_true", help="float32 without the cap of N19")
    parser.add_argument("--various", action="store_true", help="episodes of various ways and shots (Meta-Dataset)")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    given = parser.parse_args()
    if given.float32 and not {"none", "full"} <= set(given.policies):
        parser.error("--float32 is compared with the policies none and full")
    if given.export_bases:
        return export_bases(given.scenarios, given.export_bases)
    if given.float_nets:
        given.cache = given.float_nets / "brought"
        for scenario in (getattr(fewshot_data, name)() for name in given.scenarios):
            path = given.float_nets / f"{scenario.base}-float.npz"
            if path.exists() and not (given.cache / f"{scenario.base}.tin").exists():
                bring(scenario, path, given.cache)
    print("| scenario | policy | accuracy, % | RAM | added | backward | backward products / full | s |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    means = {}
    for name in given.scenarios:
        pretrained(getattr(fewshot_data, name)(), given.cache)
    with ProcessPoolExecutor(given.jobs) as pool:
        for name in given.scenarios:
            choices = None
            if "sparse" in given.policies:
                choices = contribution(pool, name, given.cache, 10, given.various)
            jobs = [
                (name, given.cache, given.part, i, given.policies, choices, given.various)
                for i in range(given.episodes)
            ]
            found = list(pool.map(job, jobs, chunksize=2))
            for policy in given.policies:
                score, memory, added, backward, share, seconds = np.array([f[policy] for f in found]).T
                means.setdefault(policy, []).append(100 * score.mean())
                print(
                    f"| {name} | {policy} | {percent(score)} | {memory.mean():,.0f} | {added.mean():,.0f} | "
                    f"{backward.mean():,.0f} | "
                    f"{share.mean():.3f} | {seconds.mean():.2f} |",
                    flush=True,
                )
            if given.float32:
                margin = None if given.plain else RATES["full"][1]
                count = given.float32_episodes
                told = float32(given.float32, name, given.cache, given.part, count, given.rates, margin, given.various)
                for rate, scores in told.items():
                    same = [f["none" if rate == "none" else "full"][0] for f in found[: len(scores)]]
                    what = "none, float32" if rate == "none" else f"full, float32, rate {rate}"
                    means.setdefault(what, []).append(100 * np.mean(scores))
                    difference = np.array(same) - scores
                    print(
                        f"| {name} | {what} | {percent(scores)} | | | | | integer on these {len(scores)}: "
                        f"{100 * np.mean(same):.1f}, difference {percent(difference)} |",
                        flush=True,
                    )
    for policy, values in means.items():
        print(f"| mean | {policy} | {np.mean(values):.1f} | | | | | |")


if __name__ == "__main__":
    main()
