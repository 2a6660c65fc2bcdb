"""Writes the golden vectors of tests/vectors/ from the oracle. `--check` compares instead of writing."""

import json
import sys
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent))
import oracle as o

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
MODES = ("Nearest", "Stochastic", "Pseudo")


def document(comment, **content):
    return {"_comment": comment, "numerics": o.NUMERICS, **content}


# ---------------------------------------------------------------- layers in short


def linear(outputs, bias=False):
    return {"kind": "Linear", "out_features": outputs, "bias": bias}


def conv(outputs, kernel, stride=(1, 1), padding=(0, 0), bias=False):
    return {
        "kind": "Conv2d",
        "out_channels": outputs,
        "kernel": list(kernel),
        "stride": list(stride),
        "padding": list(padding),
        "bias": bias,
    }


def depthwise(kernel, stride=(1, 1), padding=(0, 0), bias=False):
    return {
        "kind": "DepthwiseConv2d",
        "kernel": list(kernel),
        "stride": list(stride),
        "padding": list(padding),
        "bias": bias,
    }


def max_pool(kernel=(2, 2), stride=(2, 2)):
    return {"kind": "MaxPool2d", "kernel": list(kernel), "stride": list(stride)}


def avg_pool(kernel=(2, 2), stride=(2, 2)):
    return {"kind": "AvgPool2d", "kernel": list(kernel), "stride": list(stride)}


RELU = {"kind": "ReLU"}
FLATTEN = {"kind": "Flatten"}
GLOBAL = {"kind": "GlobalAvgPool2d"}


# ---------------------------------------------------------------- single rules


def rounding():
    rng = Random("rounding")
    cases = []

    def allowed(v, s, mode):
        if mode == "Nearest":
            return s == 0 or abs(v) + 2 ** (s - 1) < 2**31
        return mode == "Pseudo" or (s <= 30 and abs(v) + 2**s <= 2**31)

    def add(v, s, mode, u):
        if allowed(v, s, mode):
            u = u if mode == "Stochastic" else 0
            cases.append({"v": v, "s": s, "mode": mode, "u": u, "r": o.round_shift(v, s, mode, u)})

    for mode in MODES:
        for s in range(32):
            for v in (0, o.MAX_SUM, -o.MAX_SUM):
                add(v, s, mode, 2**32 - 1)
            limit = min(o.MAX_SUM, 2**31 - 2**s)  # the edge of what Stochastic allows
            for v in (limit, -limit):
                add(v, s, mode, rng.choice((0, 2**32 - 1)))
            if s > 0:
                tie = rng.choice((1, 3, 5)) << (s - 1)
                for v in (tie, -tie, tie - 1, 1 - tie, tie + 1, -1, 1):
                    if abs(v) <= o.MAX_SUM:
                        add(v, s, mode, rng.choice((0, 2**31, rng.getrandbits(32))))
            for _ in range(6):
                v = rng.getrandbits(rng.randint(1, 30)) * rng.choice((-1, 1))
                add(v, s, mode, rng.getrandbits(32))
    comment = "N4 for all modes and shifts: zero, the largest sums, ties and their neighbours, random values; u is 0 where not drawn"
    return document(comment, cases=cases)


def factors():
    rng = Random("factor")
    numbers = (1, 2, 3, 7, 32, 64, 100, 1000, 65535)
    triples = [(u, d, 1) for u in range(-20, 21, 4) for d in range(-20, 21, 4)]
    triples += [(u, 0, 1) for u in range(-20, 21)] + [(0, d, 1) for d in range(-20, 21)]
    triples += [(0, 0, n) for n in range(1, 65)] + [(0, 0, n) for n in numbers]
    triples += [(rng.randint(-20, 20), rng.randint(-20, 20), rng.choice(numbers)) for _ in range(1200)]
    triples += [(rng.randint(-300, 300), rng.randint(-300, 300), rng.randint(1, 65535)) for _ in range(60)]
    cases = []
    for u, d, n in triples:
        m, e = o.factor(u, d, n)
        cases.append({"u": u, "d": d, "n": n, "m": m, "e": e})
    fine = []
    pairs = [(u, d) for u in range(-20, 21, 4) for d in range(-20, 21, 4)]
    pairs += [(rng.randint(-20, 20), rng.randint(-20, 20)) for _ in range(300)]
    for u, d in pairs:
        v, e = o.factor28(u, d)
        fine.append({"u": u, "d": d, "v": v, "e": e})
    return document("N6: a grid, both axes, all n to 64, random triples", cases=cases, factor28=fine)


def draw_vectors():
    rng = Random("draws")
    top = 2**32 - 1
    places = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (top, top, top, top)]
    places += [(42, top, 3, 7), (42, 5, top, 2), (42, 5, top - 1, 0), (0x9E3779B9, 0, 0, 0)]
    places += [(rng.getrandbits(32), rng.randrange(5000), rng.randrange(20), rng.randrange(600)) for _ in range(60)]
    cases = [{"seed": a, "step": b, "layer": c, "row": d, "u": o.draws(a, b, c, d, 9)} for a, b, c, d in places]
    orders = []
    for seed, epoch, n in [
        (0, 0, 0),
        (0, 0, 1),
        (0, 0, 2),
        (1, 0, 3),
        (1, 1, 3),
        (7, 2, 10),
        (42, 0, 64),
        (42, 9, 333),
    ]:
        orders.append({"seed": seed, "epoch": epoch, "n": n, "order": o.shuffle(seed, epoch, n)})
    return document("N8: the first nine draws of a row; N23: epoch orders", cases=cases, shuffle=orders)


def initial():
    cases = []
    for layer, shape, k, seed in [
        (linear(1), (1, 1, 1), 0, 0),
        (linear(10), (1, 1, 7), 3, 1),
        (linear(3), (1, 1, 100), 1, 42),
        (linear(64), (1, 1, 5), 2, 2**32 - 1),
        (linear(2), (1, 1, 3000), 5, 9),
        (conv(6, (5, 5), (1, 1), (2, 2)), (28, 28, 1), 0, 42),
        (conv(8, (3, 3), (2, 2), (1, 1)), (9, 9, 5), 4, 123456789),
        (conv(9, (1, 1)), (4, 4, 33), 7, 5),
        (conv(4, (1, 5)), (1, 20, 2), 0, 6),
        (conv(2, (3, 2), (1, 2), (1, 0)), (6, 7, 3), 11, 77),
    ]:
        rows, scale = o.initial_weights(*o.fans(layer, shape), o.output_shape(layer, shape)[2], seed, k)
        flat = [q for row in rows for q in row]
        cases.append({"layer": layer, "input": shape, "layer_index": k, "seed": seed, "scale": scale, "w": flat})
    # the scale depends on the fans alone: many of them, with short rows
    for n in range(2, 40, 3):
        layer, shape = linear(n), (1, 1, 2)
        rows, scale = o.initial_weights(*o.fans(layer, shape), n, n, 0)
        flat = [q for row in rows for q in row]
        cases.append({"layer": layer, "input": shape, "layer_index": 0, "seed": n, "scale": scale, "w": flat})
    return document("N9: initial weights, rows contiguous", cases=cases)


def size(shape):
    return shape[0] * shape[1] * shape[2]


def mantissas(rng, count, spread=127):
    return [rng.randint(-spread, spread) for _ in range(count)]


def rails(rng, count):
    return [rng.choice((-127, 127)) for _ in range(count)]


def layer_cases(rng):
    """An empty list of cases, and what adds one."""
    cases = []

    def add(layer, shape, x, fill=mantissas, **kept):
        y_shape = o.output_shape(layer, shape)
        dy = fill(rng, size(y_shape))
        case = {"layer": layer, "input": shape, "x": x}
        if o.is_weighted(layer):
            fan_in, outputs = o.fans(layer, shape)[0], y_shape[2]
            w = [kept.get("row") or fill(rng, fan_in) for _ in range(outputs)]
            gw = [[0] * fan_in for _ in range(outputs)]
            o.product_gradient(layer, shape, x, dy, gw)
            case["w"] = [q for row in w for q in row]
            case["acc"] = o.product_forward(layer, shape, x, w)
            case["dy"], case["dx"] = dy, o.product_input_error(layer, shape, dy, w)
            case["gw"] = [q for row in gw for q in o.checked_sums(row)]
        elif layer["kind"] == "MaxPool2d":
            case["y"], where = o.max_forward(layer, shape, x)
            case["dy"], case["dx"] = dy, o.max_input_error(size(shape), dy, where)
        else:
            case["acc"] = o.average_forward(layer, shape, x)
            case["dy"], case["dx"] = dy, o.average_input_error(layer, shape, dy)
        cases.append(case)

    return cases, add


def layer_vectors():
    rng = Random("layers")
    cases, add = layer_cases(rng)
    for layer, shape in [
        (linear(1), (1, 1, 1)),
        (linear(3), (1, 1, 5)),
        (linear(10), (1, 1, 33)),
        (linear(17), (1, 1, 64)),
        (linear(5), (1, 1, 301)),
        (conv(4, (1, 1)), (3, 4, 5)),
        (conv(19, (1, 1)), (3, 3, 18)),
        (conv(5, (3, 3), (1, 1), (1, 1)), (6, 5, 3)),
        (conv(18, (3, 3), (1, 1), (1, 1)), (4, 4, 17)),
        (conv(6, (5, 5), (1, 1), (2, 2)), (9, 9, 1)),
        (conv(4, (3, 3), (2, 2), (1, 1)), (8, 7, 3)),
        (conv(3, (3, 3), (2, 2)), (8, 8, 2)),
        (conv(5, (1, 5)), (1, 19, 3)),
        (conv(3, (1, 5), (1, 2), (0, 2)), (1, 16, 2)),
        (conv(3, (3, 2), (2, 1), (1, 0)), (7, 6, 4)),
        (conv(2, (2, 3), (1, 3), (0, 2)), (5, 8, 3)),
        (conv(2, (2, 2), (3, 3)), (8, 7, 2)),
        (conv(4, (4, 4)), (4, 4, 3)),
    ]:
        add(layer, shape, mantissas(rng, size(shape)))
        if size(shape) < 200:
            add(layer, shape, rails(rng, size(shape)), rails)
    # the largest sums: every product is 127 * 127
    top = [127] * 300
    add(linear(2), (1, 1, 300), top, lambda _, count: [127] * count, row=top)
    add(linear(2), (1, 1, 300), top, lambda _, count: [-127] * count, row=[-127] * 300)
    for layer, shape in [
        (avg_pool(), (4, 6, 3)),
        (avg_pool((3, 3), (2, 2)), (7, 7, 2)),
        (avg_pool((2, 3), (1, 2)), (4, 7, 3)),
        (avg_pool((1, 4), (1, 4)), (1, 13, 2)),
        (avg_pool((5, 5), (5, 5)), (5, 5, 1)),
        (GLOBAL, (4, 4, 5)),
        (GLOBAL, (7, 7, 3)),
        (GLOBAL, (1, 11, 2)),
        (GLOBAL, (1, 1, 6)),
        (max_pool(), (4, 6, 3)),
        (max_pool(), (5, 5, 2)),
        (max_pool((3, 3), (2, 2)), (7, 8, 2)),
        (max_pool((3, 3), (1, 1)), (5, 5, 1)),
        (max_pool((1, 2), (1, 2)), (1, 9, 3)),
        (max_pool((2, 1), (3, 2)), (7, 5, 2)),
    ]:
        add(layer, shape, mantissas(rng, size(shape)))
        add(layer, shape, rails(rng, size(shape)), rails)
        if layer["kind"] == "MaxPool2d":
            add(layer, shape, mantissas(rng, size(shape), 2))  # many equal maxima
    return document(
        "N11, N14, N13 and their adjoints (N18), one sample: exact sums, no bias, no mask, no narrowing", cases=cases
    )


def depthwise_vectors():
    """N27 in a file of its own: what was there before stays as it is."""
    rng = Random("depthwise")
    cases, add = layer_cases(rng)
    starts = []
    for k, (layer, shape) in enumerate([
        (depthwise((1, 1)), (1, 1, 1)),
        (depthwise((1, 1)), (3, 4, 5)),
        (depthwise((3, 3), (1, 1), (1, 1)), (6, 5, 3)),
        (depthwise((3, 3), (1, 1), (1, 1)), (4, 4, 17)),
        (depthwise((3, 3), (2, 2), (1, 1)), (8, 7, 8)),
        (depthwise((3, 3), (2, 2)), (8, 8, 2)),
        (depthwise((5, 5), (1, 1), (4, 4)), (3, 9, 1)),
        (depthwise((3, 2), (2, 1), (1, 0)), (7, 6, 4)),
        (depthwise((2, 3), (1, 3), (0, 2)), (5, 8, 3)),
        (depthwise((2, 2), (3, 3)), (8, 7, 2)),
        (depthwise((1, 5), (1, 2), (0, 2)), (1, 16, 9)),
        (depthwise((4, 4)), (4, 4, 33)),
    ]):  # fmt: skip
        add(layer, shape, mantissas(rng, size(shape)))
        if size(shape) < 200:
            add(layer, shape, rails(rng, size(shape)), rails)
        rows, scale = o.initial_weights(*o.fans(layer, shape), shape[2], k, k)
        flat = [q for row in rows for q in row]
        starts.append({"layer": layer, "input": shape, "layer_index": k, "seed": k, "scale": scale, "w": flat})
    return document(
        "N27 as layers and initial have the others: sums and adjoints, initial weights", cases=cases, initial=starts
    )


def narrowing():
    rng = Random("narrow")
    cases = []

    def add(v, scale):
        (q,), out = o.narrow([v], scale)
        cases.append({"v": v, "scale": scale, "q": q, "out": out})

    add([0, 0, 0], (-7, 1, 2))
    add([o.MAX_SUM, -o.MAX_SUM, 0, 1 << 23, -(1 << 23), (1 << 23) - 1], (-30, 0, 3))
    for width in range(1, 32):
        top = min(2**width - 1, o.MAX_SUM)
        for peak in {top, 2 ** (width - 1), -top, -(2 ** (width - 1))}:
            half = 2 ** (max(0, width - 7) - 1) if width > 7 else 0
            v = [peak, half, -half, half - 1, -3 * half, 0] + [rng.randint(-abs(peak), abs(peak)) for _ in range(6)]
            v = [q for q in v if abs(q) <= abs(peak)]
            rng.shuffle(v)
            add(v, (rng.randint(-40, 8), rng.randint(0, 9), rng.randint(0, 9)))
    return document("N5: every width of the peak, its edges, ties", cases=cases)


def losses():
    rng = Random("loss")
    cases = []
    special = [[0] * 5, [127] * 5, [-127] * 5, [127, -127, 127, -127], [-127, 127], [5], [0, 0, 1], [100, 99, 98, 97]]

    def add(name, z, scale):
        case = {"loss": name, "z": z, "scale": scale}
        if name == "SquaredError":
            target, exponent = mantissas(rng, len(z)), rng.choice((-7, -7, -7, -10, -3, 0, -20, 3))
            case |= {"target": target, "target_exponent": exponent}
            e, value, correct = o.squared_error(z, scale, target, exponent)
        else:
            label = rng.choice((rng.randrange(len(z)), o.first_largest(z)))
            case["label"] = label
            if name == "CrossEntropy":
                e, value, correct = o.cross_entropy(z, scale, label)
            else:
                seed, step, sample = rng.getrandbits(32), rng.randrange(1000), rng.randrange(64)
                case |= {"seed": seed, "step": step, "sample": sample}
                e, value, correct = o.niti_cross_entropy(z, scale, label, seed, step, sample)
        cases.append(case | {"e": e, "value": value, "correct": correct})

    for name in ("CrossEntropy", "NitiCrossEntropy", "SquaredError"):
        for s in range(-30, 13):
            for _ in range(4):
                z = mantissas(rng, rng.choice((2, 3, 7, 10, 12)), rng.choice((3, 40, 127, 127)))
                add(name, z, (s, rng.randint(0, 9), rng.randint(0, 9)))
        for z in special:
            for s in (-30, -14, -9, -8, -7, -6, -5, -3, 0, 5, 12):
                add(name, z, (s, rng.randint(0, 9), rng.randint(0, 9)))
        for count in (40, 100, 1024 if name == "NitiCrossEntropy" else 300):
            for s in (-7, -4):
                add(name, mantissas(rng, count), (s, 2, 3))
        add(name, mantissas(rng, 10), (-5, 30, 0))
        add(name, mantissas(rng, 10), (-5, 0, 30))
    return document(
        "N15, N16, N17 of one sample, unmasked; value in 2^-16; seed, step and sample key the draws of N16", cases=cases
    )


def updates():
    rng = Random("update")
    cases = []

    def add(rule, mode, w, g, w_scale, g_scale, batch, shift, level):
        seed, step, layer, row = rng.getrandbits(32), rng.randrange(9999), rng.randrange(12), rng.randrange(300)
        if rule == "TinTin":
            out = o.update_tintin_row(w, g, w_scale, g_scale, batch, shift, level, mode, seed, step, layer, row)
        else:
            out = o.update_niti([w], [g], level, mode, seed, step, layer, row)[0]
        case = {"rule": rule, "rounding": mode, "margin" if rule == "TinTin" else "mu": level, "w": w, "g": g}
        case |= {"w_scale": w_scale, "g_scale": g_scale, "batch": batch, "learning_shift": shift}
        cases.append(case | {"seed": seed, "step": step, "layer": layer, "row": row, "out": out})

    def scales():
        return (
            (rng.randint(-14, -4), rng.randint(0, 9), rng.randint(0, 9)),
            (rng.randint(-34, 2), rng.randint(0, 30), rng.randint(0, 30)),
        )

    def gradient(count):
        width = rng.randint(0, 30)
        return [0 if rng.random() < 0.2 else rng.randint(-(2**width), 2**width) for _ in range(count)]

    def near_scales(g, batch, shift):
        """Scales for which the step is of the size of a weight unit, give or take: the interesting region."""
        w_scale, g_scale = scales()
        _, e = o.factor(g_scale[1] - w_scale[1], g_scale[2] - w_scale[2], batch)
        h = max(map(o.bits, g)) + rng.randint(-2, 9)
        return w_scale, (w_scale[0] - e + shift - h, *g_scale[1:])

    for rule, low, high in (("TinTin", 0, 6), ("Niti", -5, 7)):
        for mode in MODES:
            for level in range(low, high + 1):
                for _ in range(8 if rule == "TinTin" else 4):
                    count = rng.choice((1, 2, 7, 16, 33))
                    batch, shift = rng.choice((1, 3, 4, 64, 100, 65535)), rng.choice((0, 1, 3, 5, 9, 24))
                    w = mantissas(rng, count) if rng.random() < 0.8 else rails(rng, count)
                    g = gradient(count)
                    w_scale, g_scale = near_scales(g, batch, shift) if rng.random() < 0.8 else scales()
                    add(rule, mode, w, g, w_scale, g_scale, batch, shift, level)
            for peak in (0, 1, o.MAX_SUM, -o.MAX_SUM, 2**22 - 1, 2**22, 2**24 - 1, 2**24, 2**25 - 1, 2**30):
                g = [peak, 0, -peak, peak // 2, peak // 3]
                add(rule, mode, mantissas(rng, 5), g, *scales(), 4, 3, rng.randint(low, high))
    # gradients far too small for a step: p = h - 30 above 23, and p that rounds the peak away
    for g_s in range(-90, -20, 3):
        g = mantissas(rng, 6, rng.choice((1, 127, 2**20)))
        add("TinTin", "Stochastic", mantissas(rng, 6), g, (-9, 1, 0), (g_s, 1, 0), 1, 3, 2)
    adjusted = []

    def look(w, scale):
        rows, out_scale = o.adjust([w], scale)
        adjusted.append({"w": w, "scale": scale, "out": rows[0], "out_scale": out_scale})

    look(list(range(-127, 128)), (-9, 2, 0))  # 2 of 255 at the rail: stays
    look([127] + [100] * 63, (-9, 2, 0))  # 64 * 1 > 64 is false
    look([127] + [100] * 62, (-9, 2, 0))
    look([-127] + list(range(1, 60)), (-9, 2, 5))
    look(list(range(-63, 64)), (-9, 2, 5))
    look([0] * 9, (-7, 0, 0))
    look([0, 0, 1, -1, 2, -2, 3], (-7, 0, 0))
    look([64, 3], (-7, 0, 0))
    look([63, -63], (-7, 0, 0))
    for scale in (
        (-9, 9, 6),
        (-9, 8, 7),
        (-9, 12, 6),
        (-9, 9, 8),
        (-9, 8, 120),
        (-9, 0, 119),
        (-9, 119, 3),
        (-9, 120, 3),
    ):
        look([127, -127, 50, -51, 1], scale)
        look([63, -20, 5, -1, 0, 2], scale)
        look([90, -20, 5], scale)
    comment = "N19 and N21 of one row (Niti: the row is the whole tensor and ignores scales, batch, learning_shift), N20 of one tensor"
    return document(comment, cases=cases, adjust=adjusted)


# ---------------------------------------------------------------- whole runs


def class_samples(rng, shape, classes, count, positive):
    """Random patterns, one per class, with noise: learnable but not trivial."""
    patterns = [mantissas(rng, size(shape), 90) for _ in range(classes)]
    samples, labels = [], []
    for _ in range(count):
        label = rng.randrange(classes)
        x = [q + rng.randint(-50, 50) for q in patterns[label]]
        samples.append([min(127, max(0 if positive else -127, q)) for q in x])
        labels.append(label)
    return samples, labels


def trace(
    comment,
    name,
    shape,
    layers,
    batch,
    steps,
    rule="TinTin",
    rounding="Stochastic",
    loss="CrossEntropy",
    margin=2,
    start=3,
    change=2,
    milestones=(5, 9),
    train_from=0,
    seed=42,
    samples=12,
    classes=3,
    positive=False,
    input_exponent=-7,
    predictions=3,
):
    rng = Random(name)
    recipe = {"rule": rule}
    if rule == "TinTin":
        recipe["margin"] = margin
    recipe |= {"start": start, "change": change, "milestones": list(milestones), "rounding": rounding, "loss": loss}
    if loss == "SquaredError":
        recipe["target_exponent"] = -7
    x, labels = class_samples(rng, shape, classes, samples, positive)
    model = o.Model(layers, shape, seed, input_exponent)
    first = model.digest()
    taken, order = [], []
    for _ in range(steps):
        if len(order) < batch:
            order = rng.sample(range(samples), samples)
        pick, order = order[:batch], order[batch:]
        step = {"samples": pick}
        if loss == "SquaredError":
            step["targets"] = wanted = [x[i] for i in pick]
        else:
            step["labels"] = wanted = [labels[i] for i in pick]
        value, correct = model.train_step([x[i] for i in pick], wanted, recipe, train_from)
        taken.append(step | {"loss": value, "correct": correct, "digest": f"0x{model.digest():016x}"})
    final = []
    for block in model.blocks:
        if block.w:
            entry = {"layer": block.index, "w_scale": block.w_scale, "w": [q for row in block.w for q in row]}
            if block.b:
                entry |= {"b_scale": block.b_scale, "b": block.b}
            final.append(entry)
    predict = []
    for i in range(predictions):
        # the last one is dim, so its peaks differ from those of any batch
        sample = x[i] if i < predictions - 1 else [q >> 4 for q in x[i]]
        q, scale = model.predict(sample)
        predict.append({"x": sample, "q": q, "scale": scale})
    return name, document(
        comment,
        input=shape,
        seed=seed,
        layers=layers,
        train_from=train_from,
        batch=batch,
        input_exponent=input_exponent,
        recipe=recipe,
        initial_digest=f"0x{first:016x}",
        samples=x,
        steps=taken,
        final=final,
        predict=predict,
    )


def lenet(bias):
    return [
        conv(4, (3, 3), (1, 1), (1, 1), bias),
        RELU,
        max_pool(),
        conv(6, (3, 3), (2, 2), (1, 1), bias),
        max_pool((2, 2), (1, 1)),
        RELU,
        FLATTEN,
        linear(10, bias),
        RELU,
        linear(4, bias),
    ]


def traces():
    mlp = [linear(10, True), RELU, linear(4, True)]
    wide = [linear(37), RELU, linear(18), RELU, linear(5)]
    yield trace(
        "TinTin, Nearest, biases, batch 1", "linear_nearest", (1, 1, 12), mlp, 1, 20, rounding="Nearest", classes=4
    )
    yield trace(
        "TinTin, Stochastic, odd widths, batch 4", "linear_stochastic", (1, 1, 70), wide, 4, 16, classes=5, seed=1
    )
    yield trace(
        "TinTin, Pseudo, biases, batch 3",
        "linear_pseudo",
        (1, 1, 12),
        mlp,
        3,
        20,
        rounding="Pseudo",
        classes=4,
        margin=3,
    )
    niti = {"rule": "Niti", "loss": "NitiCrossEntropy", "start": 3, "change": -1}
    yield trace("NITI, Pseudo, batch 4", "niti_pseudo", (1, 1, 20), wide, 4, 16, **niti, rounding="Pseudo", classes=5)
    yield trace(
        "NITI, Nearest, biases, batch 1", "niti_nearest", (1, 1, 12), mlp, 1, 20, **niti, rounding="Nearest", classes=4
    )
    yield trace(
        "NITI, Stochastic, biases, batch 3",
        "niti_stochastic",
        (1, 1, 12),
        mlp,
        3,
        20,
        **niti,
        classes=4,
        seed=2**32 - 1,
    )
    yield trace(
        "NITI with the table loss, conv net without biases, Pseudo",
        "niti_conv",
        (12, 12, 2),
        lenet(False),
        3,
        10,
        **(niti | {"loss": "CrossEntropy", "start": 5, "change": -3}),
        rounding="Pseudo",
        classes=4,
        positive=True,
    )
    comment = "TinTin with NITI's loss, conv net with biases"
    yield trace(comment, "conv_niti_loss", (10, 10, 1), lenet(True), 4, 10, loss="NitiCrossEntropy", classes=4)
    yield trace(
        "TinTin, conv net with biases and two pools taken over, batch 4",
        "conv",
        (12, 12, 2),
        lenet(True),
        4,
        14,
        classes=4,
    )
    yield trace(
        "TinTin, conv net, Nearest, batch 1, input exponent -5",
        "conv_single",
        (11, 13, 1),
        lenet(True),
        1,
        20,
        rounding="Nearest",
        classes=4,
        input_exponent=-5,
        positive=True,
    )
    standalone = [
        max_pool((3, 3), (2, 2)),
        RELU,
        conv(5, (3, 3), (1, 1), (1, 1), True),
        avg_pool((2, 2), (2, 2)),
        RELU,
        conv(7, (1, 1)),
        RELU,
        GLOBAL,
        linear(3, True),
    ]
    yield trace(
        "Stand-alone MaxPool2d and ReLU on the input, AvgPool2d, GlobalAvgPool2d",
        "standalone",
        (13, 13, 2),
        standalone,
        3,
        14,
    )
    pools = [
        conv(4, (3, 3), (1, 1), (1, 1), True),
        max_pool((3, 3), (2, 2)),
        max_pool((3, 3), (1, 1)),
        RELU,
        conv(5, (3, 3), (1, 1), (1, 1)),
        RELU,
        max_pool((3, 3), (2, 2)),
        RELU,
        FLATTEN,
        linear(3, True),
    ]
    comment = "Overlapping pools: taken over without a ReLU, stand-alone behind it with a stand-alone ReLU, taken over behind a ReLU"
    yield trace(comment, "pools", (13, 13, 1), pools, 3, 14)
    masked = [
        conv(4, (3, 3), (1, 1), (1, 1)),
        RELU,
        max_pool((1, 2), (1, 2)),
        max_pool((2, 1), (1, 1)),  # small windows, so that some hold nothing but zeros
        avg_pool((3, 3), (2, 2)),
        max_pool((2, 2), (1, 1)),
        FLATTEN,
        RELU,
        RELU,
        linear(3),
    ]
    comment = "A stand-alone MaxPool2d on the output of a ReLU (its dx is masked); an average that takes over a pool and two ReLUs"
    yield trace(comment, "pool_behind_relu", (14, 14, 1), masked, 3, 12)
    ties = [conv(1, (3, 3), (1, 1), (1, 1)), conv(3, (1, 1), bias=True), max_pool((3, 3), (2, 2)), FLATTEN, linear(3)]
    comment = "Equal maxima among sums: one channel of few values below a 1 x 1 convolution with a pool and no ReLU"
    yield trace(comment, "ties", (13, 13, 1), ties, 3, 12)
    signal = [
        conv(4, (1, 5), (1, 1), (0, 2), True),
        RELU,
        max_pool((1, 2), (1, 2)),
        conv(6, (1, 3), (1, 2)),
        RELU,
        avg_pool((1, 3), (1, 2)),
        FLATTEN,
        linear(3, True),
    ]
    yield trace("A signal: height 1, kernels (1, k)", "signal", (1, 32, 2), signal, 4, 16)
    wide_conv = [conv(17, (1, 1)), RELU, conv(33, (3, 3), (1, 1), (1, 1), True), RELU, max_pool(), FLATTEN, linear(9)]
    yield trace("Channel counts off any vector width", "wide_conv", (5, 5, 19), wide_conv, 2, 6, classes=9, samples=6)
    image = [
        conv(6, (5, 5), (1, 1), (2, 2)),
        RELU,
        max_pool(),
        conv(16, (5, 5)),
        RELU,
        max_pool(),
        FLATTEN,
        linear(30),
        RELU,
        linear(10),
    ]
    comment = "The shape of LeNet-5 on 20 x 20 pixels, no biases"
    yield trace(comment, "image", (20, 20, 1), image, 4, 6, classes=10, samples=10, positive=True)
    auto = [linear(6, True), RELU, linear(16, True)]
    yield trace(
        "Auto-encoder, squared error, linear output",
        "autoencoder",
        (1, 1, 16),
        auto,
        4,
        18,
        loss="SquaredError",
        start=1,
    )
    auto_relu = [conv(3, (1, 3), (1, 1), (0, 1)), RELU, FLATTEN, linear(16, True), RELU]
    yield trace(
        "Auto-encoder whose output comes from a ReLU",
        "autoencoder_relu",
        (1, 16, 1),
        auto_relu,
        4,
        18,
        loss="SquaredError",
        start=1,
        positive=True,
    )
    relu_out = [linear(9, True), RELU, linear(4, True), RELU]
    yield trace("Cross-entropy on outputs of a ReLU", "relu_output", (1, 1, 12), relu_out, 4, 12, classes=4)
    frozen = lenet(True)
    yield trace(
        "The first convolution is frozen (train_from 3)", "frozen", (12, 12, 1), frozen, 4, 10, classes=4, train_from=3
    )
    tiny = [linear(6, True), RELU, linear(3, True)]
    yield trace(
        "140 steps: N20 looks twice, four milestones pass",
        "long",
        (1, 1, 6),
        tiny,
        4,
        140,
        milestones=(20, 60, 100, 130),
        change=1,
    )
    yield trace(
        "Hot training: weights reach the rail, so D rises; margin 0, learning shift 0",
        "rail",
        (1, 1, 6),
        tiny,
        3,
        134,
        margin=0,
        start=0,
        change=0,
        milestones=(),
    )
    # the frozen tensor is one small weight, which N20 would scale up were it trained
    frozen_tiny = [conv(1, (1, 1)), FLATTEN, linear(5), RELU, linear(3, True)]
    yield trace(
        "70 steps with a frozen first layer: N20 leaves it alone",
        "frozen_long",
        (1, 6, 1),
        frozen_tiny,
        2,
        70,
        margin=0,
        start=0,
        change=0,
        milestones=(),
        train_from=1,
        seed=0,
    )

    separable = [
        conv(8, (3, 3), (1, 1), (1, 1), True),
        RELU,
        depthwise((3, 3), (2, 2), (1, 1), True),
        RELU,
        conv(12, (1, 1), bias=True),
        RELU,
        GLOBAL,
        linear(4, True),
    ]
    yield trace(
        "A depthwise separable block, as in DS-CNN",
        "depthwise",
        (9, 8, 1),
        separable,
        4,
        14,
        classes=4,
        start=0,
        change=1,
    )
    pooled = [
        depthwise((3, 2), (1, 1), (1, 1)),
        max_pool((3, 3), (2, 2)),
        RELU,
        depthwise((1, 3), (1, 2), (0, 1), True),
        max_pool((2, 2), (1, 1)),
        FLATTEN,
        linear(3),
    ]
    comment = (
        "Depthwise convolutions that take over pools, the first of them on the input; Pseudo, one odd channel count"
    )
    yield trace(comment, "depthwise_pooled", (12, 11, 3), pooled, 3, 12, rounding="Pseudo")


def build():
    """File name -> text."""
    documents = {
        "rounding": rounding(),
        "factor": factors(),
        "draws": draw_vectors(),
        "initial": initial(),
        "layers": layer_vectors(),
        "layers_depthwise": depthwise_vectors(),
        "narrow": narrowing(),
        "loss": losses(),
        "update": updates(),
    }
    for name, content in traces():
        documents[f"trace_{name}"] = content
    return {f"{name}.json": json.dumps(content, separators=(",", ":")) + "\n" for name, content in documents.items()}


def differences(files):
    """What a reader of --check wants to know."""
    found = [f"{path.name} is not generated" for path in sorted(VECTORS.glob("*.json")) if path.name not in files]
    for name, text in files.items():
        path = VECTORS / name
        if not path.exists():
            found.append(f"{name} is missing")
        elif path.read_text(encoding="utf-8") != text:
            found.append(f"{name} differs")
    return found


def main(arguments):
    if arguments not in ([], ["--check"]):
        print("usage: make_vectors.py [--check]", file=sys.stderr)
        return 2
    files = build()
    if arguments:
        found = differences(files)
        for line in found:
            print(line, file=sys.stderr)
        return 1 if found else 0
    VECTORS.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (VECTORS / name).write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
