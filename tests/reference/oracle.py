"""The independent oracle of tintin: docs/numerics.md, version 1, in plain Python.

Obvious and slow. Integers are unbounded here, so every bound the rules claim is asserted instead of relied upon.
Arrays are flat lists in row-major (height, width, channel) order; a batch is a list of such lists; a scale is (S, U, D).
"""

from math import isqrt

NUMERICS = 1
MAX_SUM = 2**31 - 1 - 2**23  # N2
MAX_TERMS = 132_624  # N2: the most products of two mantissas in one sum
MAX_TERMS_WITH_BIAS = 66_052  # N2: the same when a bias of up to 2^30 starts the sum
MASK32 = 2**32 - 1
INITIAL_STEP = 2**32 - 1  # N9: the "step" of the draws of initial weights
LOSS_LAYER = 2**32 - 1  # N16: the "layer" of the loss's draws
SHUFFLE_LAYER = 2**32 - 2  # N23: the "layer" of the shuffle's draws


def bits(v):
    return abs(v).bit_length()


def clip(v):
    return min(127, max(-127, v))


def tdiv(a, b):
    """Division that truncates toward zero (N16)."""
    return a // b if a >= 0 else -(-a // b)


def times_power_of_two(v, e):
    """floor(v * 2^e) for v >= 0 and any e."""
    return v << e if e >= 0 else v >> -e


def fits_u32(v):
    assert 0 <= v < 2**32, "the rule claims 32 bits"
    return v


def checked_sums(values):
    """N2: every sum the engine keeps in i32 stays within MAX_SUM."""
    assert all(-MAX_SUM <= v <= MAX_SUM for v in values), "N2: a sum left MAX_SUM"
    return values


# ---------------------------------------------------------------- numbers and scales


def add_scales(a, b):
    """N3."""
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2])


def round_shift(v, s, mode, u=0):
    """N4, `round`."""
    assert -MAX_SUM <= v <= MAX_SUM and 0 <= s <= 31 and 0 <= u < 2**32
    if s == 0:
        return v
    if mode == "Nearest":
        assert abs(v) + 2 ** (s - 1) < 2**31
        return (v + 2 ** (s - 1)) >> s
    if mode == "Stochastic":
        assert abs(v) + 2**s <= 2**31 and s <= 30
        return (v + (u >> (32 - s))) >> s
    assert mode == "Pseudo"
    a = abs(v)
    f = a % 2**s
    h = s // 2
    p = f >> h
    t = f % 2**h
    if s % 2 == 1:
        t = t * 2
    magnitude = (a >> s) + (1 if p > t else 0)
    return -magnitude if v < 0 else magnitude


def narrow(arrays, scale):
    """N5 over a batch: all arrays share one peak. Returns (mantissa arrays, scale)."""
    for array in arrays:
        checked_sums(array)
    peak = max(abs(v) for array in arrays for v in array)
    k = max(0, bits(peak) - 7)
    q = [[clip(round_shift(v, k, "Nearest")) for v in array] for array in arrays]
    return q, (scale[0] + k, scale[1], scale[2])


def normalise(v, e):
    """N6, its last line."""
    assert v > 0
    while v >= 2**29:
        v, e = v >> 1, e + 1
    while v < 2**28:
        v, e = v << 1, e - 1
    return v, e


def factor28(u, d):
    """N6 with n = 1, before v is rounded to m: v * 2^e with 2^28 <= v < 2^29."""
    v, e = 2**28, -28
    for _ in range(abs(u)):
        v = fits_u32(v * 4) // 5 if u > 0 else fits_u32(v * 5) // 4
        v, e = normalise(v, e)
    for _ in range(abs(d)):
        v = fits_u32(v * 4) // 3 if d > 0 else fits_u32(v * 3) // 4
        v, e = normalise(v, e)
    assert 2**28 <= v < 2**29
    return v, e


def factor(u, d, n):
    """N6: (4/5)^u * (4/3)^d / n as m * 2^e."""
    assert n >= 1
    v, e = factor28(u, d)
    if n > 1:
        v, e = normalise(fits_u32(v << 2) // n, e - 2)
    m, e = (v + 2**20) >> 21, e + 21
    if m == 256:
        m, e = 128, e + 1
    assert 128 <= m <= 255
    return m, e


def align(v, s, limit):
    """N7."""
    assert abs(v) < 2**16
    if s > 31:
        t = 0
    elif s >= 1:
        t = round_shift(v, s, "Nearest")
    else:
        t = v * 2**-s
    return min(limit, max(-limit, t))


# ---------------------------------------------------------------- draws


def mix(h):
    """N8."""
    h ^= h >> 16
    h = h * 0x85EBCA6B & MASK32
    h ^= h >> 13
    h = h * 0xC2B2AE35 & MASK32
    h ^= h >> 16
    return h


def absorb(h, v):
    """N8."""
    return mix(h ^ v) + 0x9E3779B9 & MASK32


def key(seed, step, layer, row):
    """N8."""
    for part in (seed, step, layer, row):
        fits_u32(part)
    return absorb(absorb(absorb(absorb(0x9E3779B9, seed), step), layer), row)


def draws(seed, step, layer, row, count):
    """N8: u_0 .. u_(count-1) of one row."""
    s = key(seed, step, layer, row)
    result = []
    for _ in range(count):
        s = s * 0x93D765DD + 0x9E3779B9 & MASK32
        result.append(s)
    return result


def shuffle(seed, epoch, n):
    """N23."""
    order = list(range(n))
    us = draws(seed, epoch, SHUFFLE_LAYER, 0, max(0, n - 1))
    for u, i in zip(us, range(n - 1, 0, -1)):
        j = (u * (i + 1)) >> 32
        order[i], order[j] = order[j], order[i]
    return order


# ---------------------------------------------------------------- start


def initial_weights(fan_in, fan_out, outputs, seed, layer_index):
    """N9: (rows of mantissas, scale)."""
    a = isqrt(6 * 2**46 // (fan_in + fan_out))
    k = bits(a) - 7
    t = a >> k
    scale_u = 0
    while t <= 101:
        t, scale_u = (5 * t + 2) >> 2, scale_u + 1
    assert 101 < t <= 127
    rows = []
    for o in range(outputs):
        us = draws(seed, INITIAL_STEP, layer_index, o, fan_in)
        rows.append([((u * (2 * t + 1)) >> 32) - t for u in us])
    return rows, (-23 + k, scale_u, 0)


def input_uint8(x):
    """N10: one pixel; its scale is (-7, 0, 0)."""
    return x >> 1


def input_int8(x):
    """N10: one int8 value; its scale is (-7, 0, 0)."""
    return clip(x)


# ---------------------------------------------------------------- geometry of the layers


def out_size(size, kernel, stride, padding=0):
    """N11, N13: output length along one side."""
    assert size + 2 * padding >= kernel
    return (size + 2 * padding - kernel) // stride + 1


def output_shape(layer, shape):
    """Shape (h, w, c) of what the layer makes from `shape`."""
    h, w, c = shape
    kind = layer["kind"]
    if kind == "Linear":
        assert h == 1 and w == 1, "a Linear reads a flat array"
        return (1, 1, layer["out_features"])
    if kind == "Flatten":
        return (1, 1, h * w * c)
    if kind == "ReLU":
        return shape
    if kind == "GlobalAvgPool2d":
        return (1, 1, c)
    (kh, kw), (sh, sw) = layer["kernel"], layer["stride"]
    if kind == "Conv2d":
        ph, pw = layer["padding"]
        return (out_size(h, kh, sh, ph), out_size(w, kw, sw, pw), layer["out_channels"])
    if kind == "DepthwiseConv2d":
        ph, pw = layer["padding"]
        return (out_size(h, kh, sh, ph), out_size(w, kw, sw, pw), c)
    assert kind in ("MaxPool2d", "AvgPool2d")
    return (out_size(h, kh, sh), out_size(w, kw, sw), c)


def is_weighted(layer):
    return layer["kind"] in ("Linear", "Conv2d", "DepthwiseConv2d")


def fans(layer, shape):
    """N9: (fan_in, fan_out) of a weighted layer."""
    if layer["kind"] == "Linear":
        return shape[2], layer["out_features"]
    kh, kw = layer["kernel"]
    if layer["kind"] == "DepthwiseConv2d":
        return kh * kw, kh * kw  # N27
    return kh * kw * shape[2], kh * kw * layer["out_channels"]


def taps(layer, shape):
    """N11: per output position, the pairs (place in the weight row, place in x) whose products are summed."""
    h, w, c = shape
    if layer["kind"] == "Linear":
        return [[(i, i) for i in range(c)]]
    (kh, kw), (sh, sw), (ph, pw) = layer["kernel"], layer["stride"], layer["padding"]
    oh, ow, _ = output_shape(layer, shape)
    positions = []
    for i in range(oh):
        for j in range(ow):
            pairs = []
            for a in range(kh):
                for b in range(kw):
                    y, x = i * sh + a - ph, j * sw + b - pw
                    if 0 <= y < h and 0 <= x < w:  # terms outside x are 0
                        for ch in range(c):
                            pairs.append(((a * kw + b) * c + ch, (y * w + x) * c + ch))
            positions.append(pairs)
    return positions


def depthwise_terms(layer, shape):
    """N27: per output element, its channel c and the pairs (a * kw + b, place in x) whose products are summed."""
    h, w, channels = shape
    (kh, kw), (sh, sw), (ph, pw) = layer["kernel"], layer["stride"], layer["padding"]
    oh, ow, _ = output_shape(layer, shape)
    terms = []
    for i in range(oh):
        for j in range(ow):
            for c in range(channels):
                pairs = []
                for a in range(kh):
                    for b in range(kw):
                        y, x = i * sh + a - ph, j * sw + b - pw
                        if 0 <= y < h and 0 <= x < w:  # terms outside x are 0
                            pairs.append((a * kw + b, (y * w + x) * channels + c))
                terms.append((c, pairs))
    return terms


def windows(layer, shape):
    """N13, N14: per output element, the places in x of its window, in row-major order."""
    h, w, c = shape
    (kh, kw), (sh, sw) = ((h, w), (1, 1)) if layer["kind"] == "GlobalAvgPool2d" else (layer["kernel"], layer["stride"])
    oh, ow, _ = output_shape(layer, shape)
    return [
        [((i * sh + a) * w + j * sw + b) * c + ch for a in range(kh) for b in range(kw)]
        for i in range(oh)
        for j in range(ow)
        for ch in range(c)
    ]


# ---------------------------------------------------------------- one layer, one sample


def product_forward(layer, shape, x, w, start=None):
    """N11, N27: the sums of a weighted layer; start[o] is the bias's share (N12)."""
    outputs = len(w)
    start = start or [0] * outputs
    if layer["kind"] == "DepthwiseConv2d":
        terms = depthwise_terms(layer, shape)
        return checked_sums([start[c] + sum(w[c][k] * x[i] for k, i in pairs) for c, pairs in terms])
    acc = []
    for pairs in taps(layer, shape):
        for o in range(outputs):
            row = w[o]
            acc.append(start[o] + sum(row[k] * x[i] for k, i in pairs))
    return checked_sums(acc)


def product_input_error(layer, shape, dy, w):
    """N18: the adjoint of N11 or N27 with respect to x."""
    outputs = len(w)
    dx = [0] * (shape[0] * shape[1] * shape[2])
    if layer["kind"] == "DepthwiseConv2d":
        for d, (c, pairs) in zip(dy, depthwise_terms(layer, shape), strict=True):
            for k, i in pairs:
                dx[i] += d * w[c][k]
        return checked_sums(dx)
    for position, pairs in enumerate(taps(layer, shape)):
        for o in range(outputs):
            d = dy[position * outputs + o]
            if d != 0:  # only saves time
                row = w[o]
                for k, i in pairs:
                    dx[i] += d * row[k]
    return checked_sums(dx)


def product_gradient(layer, shape, x, dy, gw):
    """N18: adds one sample's share to the gradient rows gw."""
    outputs = len(gw)
    if layer["kind"] == "DepthwiseConv2d":
        for d, (c, pairs) in zip(dy, depthwise_terms(layer, shape), strict=True):
            for k, i in pairs:
                gw[c][k] += d * x[i]
        return
    for position, pairs in enumerate(taps(layer, shape)):
        for o in range(outputs):
            d = dy[position * outputs + o]
            if d != 0:  # only saves time
                row = gw[o]
                for k, i in pairs:
                    row[k] += d * x[i]


def average_factor(layer, shape):
    """N14: the odd m (or 1) and e of an average over a window."""
    h, w, _ = shape
    kh, kw = (h, w) if layer["kind"] == "GlobalAvgPool2d" else layer["kernel"]
    m, e = factor(0, 0, kh * kw)
    while m % 2 == 0:
        m, e = m // 2, e + 1
    assert kh * kw <= MAX_SUM // (127 * m)
    return m, e


def average_forward(layer, shape, x):
    """N14."""
    m, _ = average_factor(layer, shape)
    return checked_sums([m * sum(x[i] for i in window) for window in windows(layer, shape)])


def average_input_error(layer, shape, dy):
    """N18: the adjoint of N14."""
    m, _ = average_factor(layer, shape)
    dx = [0] * (shape[0] * shape[1] * shape[2])
    for d, window in zip(dy, windows(layer, shape)):
        for i in window:
            dx[i] += m * d
    return checked_sums(dx)


def max_forward(layer, shape, x):
    """N13: (maxima, place in x of each window's first maximum)."""
    where = []
    for window in windows(layer, shape):
        best = window[0]
        for i in window:
            if x[i] > x[best]:  # strict: the first maximum wins
                best = i
        where.append(best)
    return [x[i] for i in where], where


def max_input_error(size, dy, where):
    """N18: an error goes to the place of its window's first maximum; overlapping windows add up."""
    dx = [0] * size
    for d, i in zip(dy, where):
        dx[i] += d
    return checked_sums(dx)


def bias_start(b, b_scale, acc_scale):
    """N12: the bias in units of the sums."""
    m, e = factor(b_scale[1] - acc_scale[1], b_scale[2] - acc_scale[2], 1)
    return [align(v * m, acc_scale[0] - b_scale[0] - e, 2**30) for v in b]


# ---------------------------------------------------------------- loss


def _table():
    """N15: T[f] is the integer nearest to 2^(15 - f/256), found by exact comparison (it is never a tie)."""
    table = []
    t = 32768
    for f in range(256):
        while (2 * t - 1) ** 256 > 2 ** (256 * 16 - f):
            t -= 1
        table.append(t)
    return table


T = _table()


def log2q16(z):
    """N15."""
    n = bits(z) - 1
    x = z >> (n - 15) if n >= 15 else z << (15 - n)
    r = n * 65536
    for i in range(15, -1, -1):
        x = fits_u32(x * x) >> 15
        if x >= 2**16:
            x, r = x >> 1, r + 2**i
    return r


def first_largest(z):
    return z.index(max(z))


def cross_entropy(z, scale, label):
    """N15: (E in 2^-15, loss in 2^-16 bits, correct)."""
    v, e = factor28(scale[1], scale[2])
    m = fits_u32((v >> 13) * 47274) >> 15
    top = max(z)
    t = [min(65535, times_power_of_two(fits_u32((top - q) * m), scale[0] + e + 21)) for q in z]
    p = [T[ti % 256] >> (ti // 256) if ti // 256 < 16 else 0 for ti in t]
    total = fits_u32(sum(p))
    prob = [fits_u32((pi << 15) + total // 2) // total for pi in p]
    error = list(prob)
    error[label] = -sum(prob[i] for i in range(len(z)) if i != label)
    assert sum(error) == 0
    loss = t[label] * 256 + log2q16(total) - 15 * 65536
    return checked_sums(error), loss, int(first_largest(z) == label)


def niti_cross_entropy(z, scale, label, seed, step, sample):
    """N16: (E in 2^-7, already narrow, loss, correct)."""
    assert len(z) <= 1024
    m, e = factor(scale[1], scale[2], 1)
    v = [q * m for q in z]
    k = max(0, bits(max(abs(q) for q in v)) - 7)
    x = [round_shift(q, k, "Nearest") for q in v]
    e0 = min(scale[0] + e + k, 8)
    if e0 < -9:
        shift = -9 - e0
        x = [round_shift(q, shift, "Nearest") if shift <= 31 else 0 for q in x]
        e0 = -9
    if e0 > -7:
        s = [tdiv(q * 47274, 2**15) for q in x]
        s = [q * 2**e0 if e0 >= 0 else tdiv(q, 2**-e0) for q in s]
        top = max(s)
        s = [max(q - (top - 10), 0) for q in s]
        n = [2**q - 1 for q in s]
    else:
        n = [2 ** (1 - 2 * e0) + q * 2 ** (1 - e0) + q * q for q in x]
    assert sum(n) < 2**31 and all(0 <= 2**11 * q < 2**31 for q in n)
    c = [2**11 * q // sum(n) for q in n]
    c[label] = c[label] - sum(c)
    us = draws(seed, step, LOSS_LAYER, sample, len(z))
    error = [clip(round_shift(q, 4, "Stochastic", u)) for q, u in zip(c, us)]
    _, loss, correct = cross_entropy(z, scale, label)
    return error, loss, correct


def squared_error(z, scale, target, target_exponent):
    """N17: (E in 2^-15, loss in 2^-16, 0)."""
    m, e = factor(scale[1], scale[2], 1)
    a = [align(q * m, -(scale[0] + e + 15), 2**21) for q in z]
    b = [align(q, -(target_exponent + 15), 2**21) for q in target]
    assert len(a) == len(b)
    error = [p - q for p, q in zip(a, b)]
    square = sum(q * q for q in error)
    assert square < 2**64
    return checked_sums(error), square >> 15, 0


# ---------------------------------------------------------------- update


def update_tintin_row(w, g, w_scale, g_scale, batch, learning_shift, margin, mode, seed, step, layer, row):
    """N19: one row of weights (or the bias) after its update."""
    checked_sums(g)
    assert 0 <= margin <= 6
    m, e = factor(g_scale[1] - w_scale[1], g_scale[2] - w_scale[2], batch)
    h = w_scale[0] - g_scale[0] - e + learning_shift
    peak = max(abs(v) for v in g)
    if peak == 0:
        return list(w)
    p = max(0, bits(peak) - 22, h - 30)
    if p > 23:
        return list(w)
    small = [round_shift(v, p, "Nearest") for v in g]
    small_peak = round_shift(peak, p, "Nearest")
    if small_peak == 0:
        return list(w)
    s = max(h - p, bits(small_peak * m) - (7 - margin))
    assert 1 <= s <= 30
    us = draws(seed, step, layer, row, len(w))
    steps = [round_shift(v * m, s, mode, u) for v, u in zip(small, us)]
    assert all(abs(v) <= 2 ** (7 - margin) for v in steps)
    return [clip(q - v) for q, v in zip(w, steps)]


def update_niti(rows, gradient, mu, mode, seed, step, layer, first_row):
    """N21: all rows of one tensor; the draws are keyed as in N19."""
    assert -5 <= mu <= 7
    for g in gradient:
        checked_sums(g)
    peak = max(abs(v) for g in gradient for v in g)
    if peak == 0:
        return [list(w) for w in rows]
    p = max(0, bits(peak) - 24)
    small_peak = round_shift(peak, p, "Nearest")
    k = max(0, bits(small_peak) - mu)
    assert k <= 30
    result = []
    for number, (w, g) in enumerate(zip(rows, gradient)):
        us = draws(seed, step, layer, first_row + number, len(w))
        steps = [round_shift(round_shift(v, p, "Nearest"), k, mode, u) for v, u in zip(g, us)]
        result.append([clip(q - v) for q, v in zip(w, steps)])
    return result


def adjust(rows, scale):
    """N20 for one tensor: (rows, scale)."""
    s, u, d = scale
    flat = [q for row in rows for q in row]
    at_rail = sum(1 for q in flat if abs(q) == 127)
    peak = max(abs(q) for q in flat)
    if 64 * at_rail > len(flat) and d < 120:
        rows, d = [[(3 * q + 2) >> 2 for q in row] for row in rows], d + 1
    elif 4 <= peak < 64 and u < 120:
        rows, u = [[(5 * q + 2) >> 2 for q in row] for row in rows], u + 1
    if u >= 9 and d >= 7:
        u, d = u - 9, d - 7
    assert all(abs(q) <= 127 for row in rows for q in row)
    return [list(row) for row in rows], (s, u, d)


def schedule(recipe, step):
    """N22: the learning shift (TinTin) or mu (Niti) of a step."""
    assert len(recipe["milestones"]) <= 4
    value = recipe["start"] + recipe["change"] * sum(1 for at in recipe["milestones"] if at <= step)
    low, high = (0, 24) if recipe["rule"] == "TinTin" else (-5, 7)
    return min(high, max(low, value))


def fnv1a(data):
    """N24."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


# ---------------------------------------------------------------- a network


class Block:
    """A layer with what it takes over (N13), or a stand-alone ReLU or MaxPool2d."""

    def __init__(self, index, layer, shape):
        self.index = index  # in the user's list
        self.layer = layer
        self.shape = shape  # of x
        self.sum_shape = output_shape(layer, shape)  # before a pool that is taken over
        self.has_sums = is_weighted(layer) or layer["kind"] in ("AvgPool2d", "GlobalAvgPool2d")
        self.relu = layer["kind"] == "ReLU"  # does what this block makes end in a ReLU?
        self.pool = None
        self.w = self.w_scale = self.b = self.b_scale = None


def plan(layers, shape):
    """N13: the blocks of a list of layers, and the output shape."""
    blocks = []
    taking_over = flat = False
    for index, layer in enumerate(layers):
        kind = layer["kind"]
        if kind == "Flatten":
            flat = True  # renames the shape, nothing else
        elif kind == "ReLU" and taking_over:
            blocks[-1].relu = True
        elif kind == "MaxPool2d" and taking_over and blocks[-1].pool is None and not flat:
            blocks[-1].pool = layer
        else:
            blocks.append(Block(index, layer, shape))
            taking_over, flat = blocks[-1].has_sums, False
        shape = output_shape(layer, shape)
    return blocks, shape


class Model:
    def __init__(self, layers, input_shape, seed, input_exponent=-7):
        self.seed = fits_u32(seed)
        self.step = 0
        self.input_exponent = input_exponent
        self.blocks, self.output_shape = plan(layers, tuple(input_shape))
        for block in self.blocks:
            if is_weighted(block.layer):
                fan_in, fan_out = fans(block.layer, block.shape)
                assert fan_in <= (MAX_TERMS_WITH_BIAS if block.layer["bias"] else MAX_TERMS)
                outputs = block.sum_shape[2]
                block.w, block.w_scale = initial_weights(fan_in, fan_out, outputs, seed, block.index)
                if block.layer["bias"]:
                    block.b, block.b_scale = [0] * outputs, (-7, 0, 0)

    def forward(self, batch):
        """N11 to N14: (outputs, scale, what each block needs on the way back)."""
        x, scale = [list(sample) for sample in batch], (self.input_exponent, 0, 0)
        assert all(-127 <= q <= 127 for sample in x for q in sample)
        trail = []
        for block in self.blocks:
            layer, shape = block.layer, block.shape
            kept = {"x": x, "scale": scale, "where": None}
            if is_weighted(layer):
                scale = add_scales(scale, block.w_scale)  # N3
                start = bias_start(block.b, block.b_scale, scale) if block.b else None
                y = [product_forward(layer, shape, sample, block.w, start) for sample in x]
            elif block.has_sums:
                _, e = average_factor(layer, shape)
                scale = add_scales(scale, (e, 0, 0))
                y = [average_forward(layer, shape, sample) for sample in x]
            elif layer["kind"] == "MaxPool2d":
                pooled = [max_forward(layer, shape, sample) for sample in x]
                y, kept["where"] = [values for values, _ in pooled], [where for _, where in pooled]
            else:  # a stand-alone ReLU, done below
                y = x
            if block.pool:
                pooled = [max_forward(block.pool, block.sum_shape, sample) for sample in y]
                y, kept["where"] = [values for values, _ in pooled], [where for _, where in pooled]
            if block.relu:
                y = [[max(v, 0) for v in sample] for sample in y]
            if block.has_sums:
                y, scale = narrow(y, scale)  # N5
            x = y
            trail.append(kept)
        return x, scale, trail

    def predict(self, sample):
        """(output mantissas, scale) of one sample: its peaks are its own (N5)."""
        z, scale, _ = self.forward([sample])
        return z[0], scale

    def output_error(self, z, scale, wanted, recipe):
        """N15 to N17 over the batch: (dy, its scale, loss, correct)."""
        errors, loss, correct = [], 0, 0
        for place, (sample, want) in enumerate(zip(z, wanted, strict=True)):
            if recipe["loss"] == "CrossEntropy":
                e, value, hit = cross_entropy(sample, scale, want)
            elif recipe["loss"] == "NitiCrossEntropy":
                e, value, hit = niti_cross_entropy(sample, scale, want, self.seed, self.step, place)
            else:
                e, value, hit = squared_error(sample, scale, want, recipe["target_exponent"])
            if self.blocks[-1].relu:
                e = [v if q > 0 else 0 for v, q in zip(e, sample)]
            errors.append(e)
            loss, correct = loss + value, correct + hit
        if recipe["loss"] == "NitiCrossEntropy":
            return errors, (-7, 0, 0), loss, correct
        dy, dy_scale = narrow(errors, (-15, 0, 0))
        return dy, dy_scale, loss, correct

    def input_error(self, position, dy, dy_scale, kept):
        """N18: dx of one block; dy is already at the place of its sums."""
        block = self.blocks[position]
        layer, shape = block.layer, block.shape
        if layer["kind"] == "ReLU":  # what it receives was masked by its own output
            return dy, dy_scale
        if is_weighted(layer):
            dx = [product_input_error(layer, shape, d, block.w) for d in dy]
            scale = add_scales(dy_scale, block.w_scale)
        elif block.has_sums:
            dx = [average_input_error(layer, shape, d) for d in dy]
            scale = add_scales(dy_scale, (average_factor(layer, shape)[1], 0, 0))
        else:
            size = shape[0] * shape[1] * shape[2]
            dx = [max_input_error(size, d, where) for d, where in zip(dy, kept["where"])]
            scale = dy_scale
        if self.blocks[position - 1].relu:  # the mask comes before the narrowing
            dx = [[v if q > 0 else 0 for v, q in zip(d, x)] for d, x in zip(dx, kept["x"])]
        return narrow(dx, scale)

    def update(self, block, dy, dy_scale, kept, recipe):
        """N18 gradient, then N19 or N21."""
        x, outputs = kept["x"], len(block.w)
        gw = [[0] * len(row) for row in block.w]
        for sample, d in zip(x, dy):
            product_gradient(block.layer, block.shape, sample, d, gw)
        gb = [sum(d[i] for d in dy for i in range(o, len(d), outputs)) for o in range(outputs)]
        gw_scale = add_scales(dy_scale, kept["scale"])
        value, mode = schedule(recipe, self.step), recipe["rounding"]
        at = (self.seed, self.step, block.index)
        if recipe["rule"] == "TinTin":
            rest = (len(x), value, recipe["margin"], mode, *at)
            block.w = [
                update_tintin_row(w, g, block.w_scale, gw_scale, *rest, o) for o, (w, g) in enumerate(zip(block.w, gw))
            ]
            if block.b:
                block.b = update_tintin_row(block.b, gb, block.b_scale, dy_scale, *rest, outputs)
        else:
            assert recipe["rule"] == "Niti"
            block.w = update_niti(block.w, gw, value, mode, *at, 0)
            if block.b:
                block.b = update_niti([block.b], [gb], value, mode, *at, outputs)[0]

    def train_step(self, batch_x, labels_or_targets, recipe, train_from=0):
        """N25: (loss summed over the batch, correct)."""
        z, scale, trail = self.forward(batch_x)
        dy, dy_scale, loss, correct = self.output_error(z, scale, labels_or_targets, recipe)
        trained = [i for i, b in enumerate(self.blocks) if is_weighted(b.layer) and b.index >= train_from]
        no_error, before = not any(v for d in dy for v in d), self.digest()
        for i in range(len(self.blocks) - 1, trained[0] - 1, -1):
            block, kept = self.blocks[i], trail[i]
            if block.pool:  # epilogue
                size = block.sum_shape[0] * block.sum_shape[1] * block.sum_shape[2]
                dy = [max_input_error(size, d, where) for d, where in zip(dy, kept["where"])]
            if i > trained[0]:
                dx, dx_scale = self.input_error(i, dy, dy_scale, kept)  # with the weights before their update
            if i in trained:
                self.update(block, dy, dy_scale, kept, recipe)
            if i > trained[0]:
                dy, dy_scale = dx, dx_scale
        assert not no_error or self.digest() == before  # N25: an all-zero output error changes no weight
        if recipe["rule"] == "TinTin" and (self.step + 1) % 64 == 0:  # N20
            for i in trained:
                block = self.blocks[i]
                block.w, block.w_scale = adjust(block.w, block.w_scale)
                if block.b:
                    rows, block.b_scale = adjust([block.b], block.b_scale)
                    block.b = rows[0]
        self.step += 1
        return loss, correct

    def digest(self):
        """N24."""
        data = bytearray()

        def put(scale, values):
            for part in scale:
                data.extend(part.to_bytes(2, "little", signed=True))
            data.extend(q & 255 for q in values)

        for block in self.blocks:
            if block.w:
                put(block.w_scale, [q for row in block.w for q in row])
                if block.b:
                    put(block.b_scale, block.b)
        return fnv1a(data)
