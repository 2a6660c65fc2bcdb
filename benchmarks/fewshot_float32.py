"""Full fine-tuning in float32, for `fewshot.py`: python fewshot_float32.py FOLDER (episodes.npz, told.json).

The same loss as N31 (cosine prototypes of the support set, temperature, queries moved by up to `shift` places), the
same passes, one query at a time, plain SGD. Needs torch; prints the accuracies as JSON.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

torch.set_num_threads(2)


def settings(text):
    """Name and numbers of a layer from its repr."""
    name, inside = re.fullmatch(r"(\w+)\((.*)\)", text).groups()
    pairs = re.findall(r"(\w+)=(\([^)]*\)|[^,]+)", inside)
    return name, {key: tuple(map(int, re.findall(r"\d+", value))) or value for key, value in pairs}


def forward(layers, weights, x):
    """Features of x (n, channels, height, width)."""
    outputs, weights = [], list(weights)
    for name, given in layers:
        if name in ("Conv2d", "DepthwiseConv2d"):
            w, b = weights.pop(0), weights.pop(0)
            x = F.conv2d(x, w, b, given["stride"], given["padding"], groups=x.shape[1] if name[0] == "D" else 1)
        elif name == "Linear":
            w, b = weights.pop(0), weights.pop(0)
            x = F.linear(x.flatten(1), w, b)
        elif name == "ReLU":
            x = F.relu(x)
        elif name == "Add":
            x = x + outputs[given["layer"][0]]
        elif name == "GlobalAvgPool2d":
            x = x.mean((2, 3))
        else:
            raise ValueError(f"no {name} here")
        outputs.append(x)
    return F.normalize(x.flatten(1), dim=1)


def mantissas(x):
    """As the engine takes them (N10), channels first."""
    real = (x >> 1 if x.dtype == np.uint8 else x).astype(np.float32) / 128
    return torch.from_numpy(np.ascontiguousarray(real.transpose(0, 3, 1, 2)))


def moved(x, limits, rng):
    """One sample moved by drawn places; what moves in is 0."""
    down, right = (int(rng.integers(-v, v + 1)) for v in limits)
    height, width = x.shape[-2:]
    out = torch.zeros_like(x)
    top, left = max(down, 0), max(right, 0)
    part = x[..., max(-down, 0) : height - top, max(-right, 0) : width - left]
    out[..., top : top + part.shape[-2], left : left + part.shape[-1]] = part
    return out


def centres(features, y):
    """Prototypes (N30)."""
    sums = torch.zeros(int(y.max()) + 1, features.shape[1]).index_add_(0, y, features)
    return F.normalize(sums, dim=1)


def score(told, layers, start, arrays, n):
    """Accuracy of one episode after full fine-tuning."""
    weights = [w.clone().requires_grad_() for w in start]
    x, y = mantissas(arrays[f"x_support{n}"]), torch.from_numpy(arrays[f"y_support{n}"].astype(np.int64))
    rng = np.random.default_rng(n)
    for _ in range(told["steps"]):
        with torch.no_grad():
            prototypes = centres(forward(layers, weights, x), y)
        for i in rng.permutation(len(x)):
            features = forward(layers, weights, moved(x[i : i + 1], told["shift"], rng))
            loss = F.cross_entropy(told["temperature"] * features @ prototypes.T, y[i : i + 1])
            for w, g in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                w.data -= told["rate"] * g
    with torch.no_grad():
        prototypes = centres(forward(layers, weights, x), y)
        found = (forward(layers, weights, mantissas(arrays[f"x_query{n}"])) @ prototypes.T).argmax(1).numpy()
    return float(np.mean(found == arrays[f"y_query{n}"]))


def main():
    folder = Path(sys.argv[1])
    told, arrays = json.loads((folder / "told.json").read_text()), np.load(folder / "episodes.npz")
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
    json.dump([score(told, layers, start, arrays, n) for n in range(told["count"])], sys.stdout)


if __name__ == "__main__":
    main()
