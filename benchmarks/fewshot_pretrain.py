"""Pre-trains the nets of fewshot.py in float32 with PyTorch: ProtoNet episodes, cosine distance, temperature 16.

    TINTIN_DATA=... python benchmarks/fewshot.py --export-bases FOLDER             # base samples and layers
    floatenv/bin/python benchmarks/fewshot_pretrain.py FOLDER/mnist.npz --steps 3000
    TINTIN_DATA=... python benchmarks/fewshot.py --float-nets FOLDER               # brought into integers, then adapted

SGD with Nesterov momentum 0.9, weight decay 1e-4, one cycle up to 0.05 and down, gradients clipped to length 2. Each
episode has up to 20 classes with as many samples to compare with as to learn from, all moved by up to `shift` places.
Writes FOLDER/<base>-float.npz: a state dict, by the index of the layer.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from fewshot_float32 import centres, forward, mantissas, settings

TEMPERATURE, MOST_WAYS = 16, 20


def moved(x, limits, rng):
    """Samples moved by drawn places each; what moves in is 0."""
    down, right = limits
    height, width = x.shape[2:]
    v, w = (torch.from_numpy(rng.integers(-n, n + 1, len(x))) for n in limits)
    padded = F.pad(x, (right, right, down, down)).permute(0, 2, 3, 1)
    rows, columns = (down - v)[:, None] + torch.arange(height), (right - w)[:, None] + torch.arange(width)
    return padded[torch.arange(len(x))[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def start(layers, channels, height, width):
    """Weights as the engine starts them (N9), in PyTorch's order; biases 0."""
    found, places = {}, height * width
    for i, (name, given) in enumerate(layers):
        if name in ("Conv2d", "DepthwiseConv2d"):
            (kh, kw), grouped = given["kernel_size"], name[0] == "D"
            out = channels if grouped else given["out_channels"][0]
            shape, fans = (out, 1 if grouped else channels, kh, kw), kh * kw * (2 if grouped else channels + out)
        elif name == "Linear":
            out = given["out_features"][0]
            shape, fans = (out, channels * places), channels * places + out
        else:
            places = 1 if name == "GlobalAvgPool2d" else places
            continue
        channels, places = out, 1 if name == "Linear" else places
        found[f"{i}.weight"] = torch.empty(shape).uniform_(-1, 1) * (6 / fans) ** 0.5
        found[f"{i}.bias"] = torch.zeros(out)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bases", nargs="+", type=Path)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for path in args.bases:
        with np.load(path) as told:
            x, y, limits = told["x"], told["y"].astype(np.int64), told["shift"]
            layers = [settings(text) for text in told["layers"].tolist()]
        torch.manual_seed(args.seed)
        rng = np.random.default_rng(args.seed)
        state = start(layers, x.shape[3], *x.shape[1:3])
        weights = list(state.values())
        for w in weights:
            w.requires_grad_()
        rule = torch.optim.SGD(weights, 0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
        cycle = torch.optim.lr_scheduler.OneCycleLR(rule, 0.05, total_steps=args.steps, pct_start=0.1)
        rows = [np.flatnonzero(y == c) for c in range(int(y.max()) + 1)]
        each = 3 if len(rows) > MOST_WAYS else 4
        right = []
        for step in range(args.steps):
            drawn = rng.permutation(len(rows))[:MOST_WAYS]
            picked = np.stack([rng.choice(rows[c], 2 * each) for c in drawn])
            samples = moved(torch.from_numpy(mantissas(x[picked.reshape(-1)])), limits, rng)
            features = forward(layers, [w[None] for w in weights], samples[:, None]).reshape(len(drawn), 2 * each, -1)
            label = torch.arange(len(drawn)).repeat_interleave(each)
            known = centres(features[:, :each].flatten(0, 1)[:, None], label[:, None], len(drawn))[0]
            near = features[:, each:].flatten(0, 1) @ known.T
            loss = F.cross_entropy(TEMPERATURE * near, label)
            rule.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 2.0)
            rule.step()
            cycle.step()
            right.append((near.argmax(1) == label).float().mean().item())
            if step % 500 == 499:
                print(f"{path.stem}: step {step + 1}, {100 * np.mean(right[-200:]):.1f} % of its queries", flush=True)
        arrays = {name: w.detach().contiguous().numpy() for name, w in zip(state, weights, strict=True)}
        np.savez(path.with_name(f"{path.stem}-float.npz"), **arrays)


if __name__ == "__main__":
    main()
