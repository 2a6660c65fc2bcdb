"""Full fine-tuning in float32, for `fewshot.py`: python fewshot_float32.py FOLDER (episodes.npz, told.json).

The same loss as N31 (cosine prototypes of the support set, temperature, queries moved by up to `shift` places), the
same passes, one query at a time, SGD: with a margin no step of a row exceeds 2^-margin of the weight range, as N19 has
it, without one plain. All episodes learn side by side, each its own copy of the net: an episode
is a group of channels. Needs torch; prints as JSON, for "none" and each rate of told.json, the accuracies.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

torch.set_num_threads(1)


def settings(text):
    """Name and numbers of a layer from its repr."""
    name, inside = re.fullmatch(r"(\w+)\((.*)\)", text).groups()
    pairs = re.findall(r"(\w+)=(\([^)]*\)|[^,]+)", inside)
    return name, {key: tuple(map(int, re.findall(r"\d+", value))) or value for key, value in pairs}


def forward(layers, weights, x):
    """Unit features (samples, nets, features) of x (samples, nets, channels, height, width); weights (nets, ...)."""
    count, nets = x.shape[:2]
    outputs, weights = [], list(weights)
    for name, given in layers:
        if name in ("Conv2d", "DepthwiseConv2d"):
            w, b = weights.pop(0), weights.pop(0)
            if w.shape[3:] == (1, 1) and given["stride"] == (1, 1) and count == 1:
                x = torch.baddbmm(b[..., None], w[..., 0, 0], x[0].flatten(2)).reshape(1, nets, -1, *x.shape[3:])
            else:
                groups = nets * x.shape[2] if name[0] == "D" else nets
                x = F.conv2d(
                    x.flatten(1, 2), w.flatten(0, 1), b.flatten(), given["stride"], given["padding"], 1, groups
                )
                x = x.unflatten(1, (nets, -1))
        elif name == "Linear":
            w, b = weights.pop(0), weights.pop(0)
            x = (torch.einsum("nef,eof->neo", x.flatten(2), w) + b)[..., None, None]
        elif name == "ReLU":
            x = F.relu(x)
        elif name == "Add":
            x = x + outputs[given["layer"][0]]
        elif name == "GlobalAvgPool2d":
            x = x.mean((3, 4), keepdim=True)
        else:
            raise ValueError(f"no {name} here")
        outputs.append(x)
    return F.normalize(x.flatten(2), dim=2)


def mantissas(x):
    """As the engine takes them (N10), channels first."""
    real = (x >> 1 if x.dtype == np.uint8 else x).astype(np.float32) / 128
    return np.ascontiguousarray(real.transpose(0, 3, 1, 2))


def moved(x, limits, rng):
    """One sample moved by drawn places; what moves in is 0."""
    down, right = (int(rng.integers(-v, v + 1)) for v in limits)
    height, width = x.shape[-2:]
    out = np.zeros_like(x)
    top, left = max(down, 0), max(right, 0)
    part = x[..., max(-down, 0) : height - top, max(-right, 0) : width - left]
    out[..., top : top + part.shape[-2], left : left + part.shape[-1]] = part
    return out


def stacked(parts, fill=0):
    """Arrays of several lengths as one (longest, parts, ...), filled up."""
    out = np.full((max(map(len, parts)), len(parts), *parts[0].shape[1:]), fill, parts[0].dtype)
    for i, part in enumerate(parts):
        out[: len(part), i] = part
    return out


def looked_at(layers, weights, x):
    """Features of the samples of every episode, some at a time."""
    with torch.no_grad():
        return torch.cat([forward(layers, weights, part) for part in torch.from_numpy(x).split(1)])


def centres(features, y, ways):
    """Prototypes (N30), (nets, ways, features); a label of -1 is of no class."""
    member = F.one_hot(y.clamp(min=0), ways).float() * (y >= 0)[..., None]
    return F.normalize(torch.einsum("nec,nef->ecf", member, features), dim=2)


def capped(gradients, limits):
    """Gradients times what keeps each row of each net (a bias is one row) within its limit."""
    out = []
    for g, limit in zip(gradients, limits, strict=True):
        rows = g.flatten(2) if g.ndim > 2 else g[:, None]
        out.append((rows * (limit / rows.abs().amax(2, keepdim=True).clamp(min=1e-30)).clamp(max=1)).reshape(g.shape))
    return out


def scores(told, layers, start, limits, episodes, rate):
    """Accuracies of the episodes after full fine-tuning; of the net as it is without a rate."""
    nets = len(episodes)
    weights = [w.expand(nets, *w.shape).clone().requires_grad_() for w in start]
    support, query = stacked([e[0] for e in episodes]), stacked([e[2] for e in episodes])
    y = torch.from_numpy(stacked([e[1] for e in episodes], -1))
    ways = int(y.max()) + 1
    # classes an episode does not have are never the nearest
    absent = torch.tensor([[c > e[1].max() for c in range(ways)] for e in episodes]).float() * -1e6
    rngs = [np.random.default_rng(n) for n in range(nets)]
    for _ in range(told["steps"] if rate else 0):
        prototypes = centres(looked_at(layers, weights, support), y, ways)
        orders = [rng.permutation(len(e[0])) for rng, e in zip(rngs, episodes, strict=True)]
        for i in range(len(support)):
            picked = [
                (e, rng, order[i]) if i < len(order) else None
                for e, rng, order in zip(episodes, rngs, orders, strict=True)
            ]
            blank = np.zeros_like(support[0, 0])
            x = np.stack([blank if p is None else moved(p[0][0][p[2]], told["shift"], p[1]) for p in picked])
            label = torch.tensor([-1 if p is None else int(p[0][1][p[2]]) for p in picked])
            features = forward(layers, weights, torch.from_numpy(x)[None])[0]
            near = told["temperature"] * torch.einsum("ef,ecf->ec", features, prototypes) + absent
            loss = F.cross_entropy(near, label, ignore_index=-1, reduction="sum")
            gradients = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                if told["margin"] is not None:
                    gradients = capped(gradients, [limit * 2.0 ** -told["margin"] / rate for limit in limits])
                torch._foreach_add_(weights, gradients, alpha=-rate)
    prototypes = centres(looked_at(layers, weights, support), y, ways)
    found = (torch.einsum("nef,ecf->nec", looked_at(layers, weights, query), prototypes) + absent).argmax(2).numpy()
    return [float(np.mean(found[: len(e[3]), i] == e[3])) for i, e in enumerate(episodes)]


def main():
    folder = Path(sys.argv[1])
    told, arrays = json.loads((folder / "told.json").read_text()), dict(np.load(folder / "episodes.npz"))
    layers = [settings(text) for text in told["layers"]]
    start, channels = [], int(arrays["input_shape"][2])
    for name, given in layers:
        if name not in ("Conv2d", "DepthwiseConv2d", "Linear"):
            continue
        w, b = (torch.from_numpy(arrays[f"w{len(start) + k}"]) for k in (0, 1))
        if name == "Conv2d":
            w = w.reshape(len(w), *given["kernel_size"], channels).permute(0, 3, 1, 2).contiguous()
        elif name == "DepthwiseConv2d":
            w = w.reshape(len(w), 1, *given["kernel_size"])
        else:
            w = w.reshape(len(w), -1)
        channels = len(w)
        start += [w, b]
    episodes = []
    for n in range(told["count"]):
        (s, ys), (q, yq) = ((arrays[f"x_{k}{n}"], arrays[f"y_{k}{n}"].astype(np.int64)) for k in ("support", "query"))
        episodes.append((mantissas(s), ys, mantissas(q), yq))
    rates = {"none": None} | {str(rate): rate for rate in told["rates"]}
    limits = [float(arrays[f"range{i}"]) for i in range(len(start))]
    json.dump({key: scores(told, layers, start, limits, episodes, rate) for key, rate in rates.items()}, sys.stdout)


if __name__ == "__main__":
    main()
