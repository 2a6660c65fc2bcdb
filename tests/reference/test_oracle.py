"""Self-tests of the oracle: values computed by hand from the rules, and identities that must hold."""

import json
import math
import sys
from fractions import Fraction
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import make_vectors
import oracle as o


@pytest.mark.parametrize(
    "v, s, mode, u, r",
    [
        (5, 0, "Nearest", 0, 5),
        (5, 1, "Nearest", 0, 3),
        (-5, 1, "Nearest", 0, -2),  # ties go up
        (-6, 2, "Nearest", 0, -1),
        (5, 2, "Stochastic", 0, 1),
        (5, 2, "Stochastic", 3 << 30, 2),
        (-5, 2, "Stochastic", 0, -2),
        (5, 3, "Pseudo", 0, 0),  # p = 2 is not above t = 1 doubled
        (-7, 3, "Pseudo", 0, -1),  # p = 3 is above t = 1 doubled
        (1, 1, "Pseudo", 0, 1),
        (0b1001, 4, "Pseudo", 0, 1),  # p = 2, t = 1
        (0b0110, 4, "Pseudo", 0, 0),  # p = 1, t = 2
    ],
)
def test_rounding_by_hand(v, s, mode, u, r):
    assert o.round_shift(v, s, mode, u) == r


@pytest.mark.parametrize("s", [1, 3, 6])
def test_stochastic_rounding_is_unbiased(s):
    for v in range(-200, 201):
        values = [o.round_shift(v, s, "Stochastic", r << (32 - s)) for r in range(2**s)]
        assert Fraction(sum(values), 2**s) == Fraction(v, 2**s)


def test_constants_of_sums():
    assert o.MAX_TERMS == o.MAX_SUM // 127**2
    assert o.MAX_TERMS_WITH_BIAS == (o.MAX_SUM - 2**30) // 127**2
    with pytest.raises(AssertionError):
        o.narrow([[o.MAX_SUM + 1]], (0, 0, 0))


def test_narrow_by_hand():
    assert o.narrow([[128, -3]], (-7, 1, 2)) == ([[64, -1]], (-6, 1, 2))
    assert o.narrow([[255], [-255]], (0, 0, 0)) == ([[127], [-127]], (1, 0, 0))
    assert o.narrow([[127, 0]], (0, 0, 0)) == ([[127, 0]], (0, 0, 0))


def test_factor_by_hand():
    assert o.factor(0, 0, 1) == (128, -7)
    assert o.factor(1, 0, 1) == (205, -8)  # 0.8 * 256 = 204.8
    assert o.factor(0, 1, 1) == (171, -7)  # 4/3 * 128 = 170.7
    assert o.factor(0, 0, 3) == (171, -9)
    assert o.factor(0, 0, 1024) == (128, -17)
    assert o.factor28(0, 0) == (2**28, -28)
    assert o.average_factor({"kind": "AvgPool2d", "kernel": [3, 3]}, (9, 9, 1)) == (
        57,
        -9,
    )  # 1/9 * 2^11 = 227.6, 228 = 4 * 57
    assert o.average_factor({"kind": "GlobalAvgPool2d"}, (4, 4, 7)) == (1, -4)


@pytest.mark.parametrize("n", [1, 3, 7, 100, 65535])
def test_factor_is_within_its_claim(n):
    for u in range(-20, 21, 2):
        for d in range(-20, 21, 2):
            m, e = o.factor(u, d, n)
            exact = Fraction(4, 5) ** u * Fraction(4, 3) ** d / n
            assert abs(Fraction(m) * Fraction(2) ** e / exact - 1) < Fraction(4, 1000)


def test_mixer_draws_and_digest():
    assert o.mix(0) == 0
    assert o.mix(1) == 0x514E28B7  # MurmurHash3's finaliser of 1
    assert o.fnv1a(b"") == 0xCBF29CE484222325
    assert o.fnv1a(b"a") == 0xAF63DC4C8601EC8C
    first, second = o.draws(1, 2, 3, 4, 2)
    assert first == (o.key(1, 2, 3, 4) * 0x93D765DD + 0x9E3779B9) % 2**32
    assert second == (first * 0x93D765DD + 0x9E3779B9) % 2**32


def test_digest_bytes():
    model = o.Model([{"kind": "Linear", "out_features": 1, "bias": True}], (1, 1, 2), 0)
    block = model.blocks[0]
    block.w, block.w_scale, block.b, block.b_scale = [[1, -2]], (-9, 2, 0), [3], (-7, 0, 1)
    expected = bytes([0xF7, 0xFF, 2, 0, 0, 0, 1, 0xFE, 0xF9, 0xFF, 0, 0, 1, 0, 3])
    assert model.digest() == o.fnv1a(expected)


def test_shuffle_is_a_permutation():
    assert sorted(o.shuffle(3, 1, 50)) == list(range(50))
    assert o.shuffle(3, 1, 50) != o.shuffle(3, 2, 50)


def test_initial_weights():
    # fan 3 + 3: a = 2^23 exactly, k = 17, t = 64 -> 80 -> 100 -> 125
    rows, scale = o.initial_weights(3, 3, 400, 7, 0)
    assert scale == (-6, 3, 0)
    flat = [q for row in rows for q in row]
    assert min(flat) >= -125 and max(flat) <= 125
    assert abs(sum(flat) / len(flat)) < 8
    for n in range(2, 3000, 7):  # the range filled is the Xavier bound
        a = math.sqrt(6 / (n + n))
        _, (s, u, d) = o.initial_weights(n, n, 0, 0, 0)
        assert d == 0 and 100 < a / (2.0**s * 0.8**u) < 129


def test_loss_table_is_exact():
    assert o.T[0] == 32768 and len(o.T) == 256
    for f, t in enumerate(o.T):
        assert (2 * t - 1) ** 256 <= 2 ** (16 * 256 - f) < (2 * t + 1) ** 256


def test_log2():
    for n in range(20):
        assert o.log2q16(2**n) == n * 65536
    for z in (3, 1000, 40000, 10**6):
        assert abs(o.log2q16(z) / 65536 - math.log2(z)) < 2e-4


def test_cross_entropy_by_hand():
    assert o.cross_entropy([0, 0], (-7, 0, 0), 0) == ([-16384, 16384], 65536, 1)
    assert o.cross_entropy([0, 0], (-7, 0, 0), 1) == ([16384, -16384], 65536, 0)
    assert o.cross_entropy([127, -127], (0, 0, 0), 0) == ([0, 0], 0, 1)
    assert o.cross_entropy([127, -127], (0, 0, 0), 1) == ([32768, -32768], 65535 * 256, 0)


def test_cross_entropy_is_softmax():
    rng = Random(1)
    for _ in range(200):
        z = [rng.randint(-127, 127) for _ in range(rng.randint(2, 12))]
        scale = (rng.randint(-9, -5), rng.randint(0, 3), rng.randint(0, 3))
        label = rng.randrange(len(z))
        error, loss, _ = o.cross_entropy(z, scale, label)
        assert sum(error) == 0
        unit = 2.0 ** scale[0] * 0.8 ** scale[1] * (4 / 3) ** scale[2]
        weight = [math.exp((q - max(z)) * unit) for q in z]
        for i, w in enumerate(weight):
            assert abs(error[i] / 2**15 - (w / sum(weight) - (i == label))) < 0.003
        assert abs(loss / 65536 + math.log2(weight[label] / sum(weight))) < 0.02


def test_niti_cross_entropy_by_hand():
    # equal outputs: n is the same for all, c = 2^11 / 4 = 512 each, c_y = 512 - 2048; 512 / 16 is whole, so no draw matters
    for s in (-30, -8, 0):
        error, loss, correct = o.niti_cross_entropy([5, 5, 5, 5], (s, 0, 0), 2, 9, 9, 9)
        assert (error, loss, correct) == ([32, 32, -96, 32], 131072, 0)


def test_squared_error_by_hand():
    # 64 * 2^-7 = 0.5 against 0: E = 0.5, loss = 0.125
    assert o.squared_error([64], (-7, 0, 0), [0], -7) == ([16384], 8192, 0)
    assert o.squared_error([64], (-7, 0, 0), [64], -7) == ([0], 0, 0)


def test_tintin_by_hand():
    rest = (3, 2, "Nearest", 0, 0, 0, 0)  # learning shift 3, margin 2
    # 100 * 2^-9 / 8 is 3.125 units of 2^-7
    assert o.update_tintin_row([10, 0], [100, -100], (-7, 0, 0), (-9, 0, 0), 1, *rest) == [7, 3]
    assert o.update_tintin_row([10, 0], [100, -100], (-7, 0, 0), (-7, 0, 0), 4, *rest) == [7, 3]
    assert o.update_tintin_row([10], [100], (-7, 0, 0), (-14, 0, 0), 1, *rest) == [10]
    # far too large: capped by s = bits(12800) - 5 = 9
    assert o.update_tintin_row([10], [100], (-7, 0, 0), (5, 0, 0), 1, *rest) == [-15]
    assert o.update_tintin_row([10], [0], (-7, 0, 0), (5, 0, 0), 1, *rest) == [10]


def test_niti_by_hand():
    # peak 100 has 7 bits, mu 3: k = 4
    assert o.update_niti([[10, -10]], [[100, -50]], 3, "Nearest", 0, 0, 0, 0) == [[4, -7]]
    assert o.update_niti([[10], [126]], [[100], [-50]], 3, "Nearest", 0, 0, 0, 0) == [[4], [127]]


def test_adjust_by_hand():
    assert o.adjust([[127, -127, 10]], (-9, 1, 0)) == ([[95, -95, 8]], (-9, 1, 1))
    assert o.adjust([[63, -63, 0]], (-9, 1, 0)) == ([[79, -79, 0]], (-9, 2, 0))
    assert o.adjust([[64, 0]], (-9, 1, 0)) == ([[64, 0]], (-9, 1, 0))
    assert o.adjust([[0, 0]], (-9, 1, 0)) == ([[0, 0]], (-9, 1, 0))
    assert o.adjust([[127, 1]], (-9, 10, 6)) == ([[95, 1]], (-9, 1, 0))
    assert abs(0.8**9 * (4 / 3) ** 7 - 1.0055) < 5e-5


def test_schedule():
    recipe = {"rule": "Niti", "start": 3, "change": -4, "milestones": [2, 5, 6]}
    assert [o.schedule(recipe, step) for step in (0, 1, 2, 5, 6)] == [3, 3, -1, -5, -5]


def test_bias_start_keeps_the_real_value():
    # 64 * 2^-7 = 0.5; in units of 2^-14 that is 8192
    assert o.bias_start([64, -64], (-7, 0, 0), (-14, 0, 0)) == [8192, -8192]
    assert o.bias_start([127], (30, 0, 0), (-14, 0, 0)) == [2**30]
    assert o.bias_start([127], (-60, 0, 0), (-14, 0, 0)) == [0]


def dot(a, b):
    return sum(p * q for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize(
    "layer, shape",
    [
        (make_vectors.linear(7), (1, 1, 11)),
        (make_vectors.conv(4, (3, 3), (1, 1), (1, 1)), (6, 5, 3)),
        (make_vectors.conv(3, (3, 2), (2, 1), (0, 1)), (7, 6, 2)),
        (make_vectors.conv(3, (1, 5), (1, 2), (0, 2)), (1, 17, 2)),
        (make_vectors.depthwise((3, 2), (2, 1), (2, 1)), (7, 6, 3)),
    ],
)
def test_adjoints_of_products(layer, shape):
    rng = Random(str(layer))
    fan_in, outputs = o.fans(layer, shape)[0], o.output_shape(layer, shape)[2]
    x = make_vectors.mantissas(rng, math.prod(shape))
    dy = make_vectors.mantissas(rng, math.prod(o.output_shape(layer, shape)))
    w = [make_vectors.mantissas(rng, fan_in) for _ in range(outputs)]
    gw = [[0] * fan_in for _ in range(outputs)]
    o.product_gradient(layer, shape, x, dy, gw)
    value = dot(o.product_forward(layer, shape, x, w), dy)
    assert value == dot(x, o.product_input_error(layer, shape, dy, w))
    assert value == sum(dot(a, b) for a, b in zip(w, gw))


def test_conv_by_hand():
    layer = make_vectors.conv(1, (3, 3), (1, 1), (1, 1))
    w = [[0, 0, 0, 0, 1, 2, 0, 0, 0]]  # centre and its right neighbour
    assert o.product_forward(layer, (2, 2, 1), [1, 2, 3, 4], w) == [5, 2, 11, 4]


def test_depthwise_by_hand():
    layer = make_vectors.depthwise((1, 2), (1, 1), (0, 1))
    w = [[1, 2], [10, 20]]  # two channels, each with its left neighbour and itself
    x = [1, 3, 2, 4]  # two places
    assert o.output_shape(layer, (1, 2, 2)) == (1, 3, 2)
    assert o.product_forward(layer, (1, 2, 2), x, w) == [2, 60, 1 + 4, 30 + 80, 2, 40]
    assert o.product_forward(layer, (1, 2, 2), x, w, [100, 1000])[:2] == [102, 1060]


def test_depthwise_is_a_conv_of_each_channel():
    rng, shape = Random(8), (5, 6, 3)
    one = make_vectors.conv(1, (3, 2), (2, 1), (1, 1))
    layer = make_vectors.depthwise((3, 2), (2, 1), (1, 1))
    x, w = make_vectors.mantissas(rng, 90), [make_vectors.mantissas(rng, 6) for _ in range(3)]
    y = o.product_forward(layer, shape, x, w)
    for c in range(3):
        assert y[c::3] == o.product_forward(one, (5, 6, 1), x[c::3], [w[c]])


@pytest.mark.parametrize("layer", [make_vectors.avg_pool((3, 3), (2, 2)), make_vectors.GLOBAL])
def test_adjoint_of_averages(layer):
    rng, shape = Random(3), (7, 7, 2)
    x = make_vectors.mantissas(rng, math.prod(shape))
    dy = make_vectors.mantissas(rng, math.prod(o.output_shape(layer, shape)))
    assert dot(o.average_forward(layer, shape, x), dy) == dot(x, o.average_input_error(layer, shape, dy))


def test_first_maximum_wins():
    y, where = o.max_forward(make_vectors.max_pool(), (2, 4, 1), [1, 5, -3, -3, 5, 5, -3, -3])
    assert (y, where) == ([5, -3], [1, 2])
    assert o.max_input_error(8, [7, -9], where) == [0, 7, -9, 0, 0, 0, 0, 0]


def test_what_is_taken_over():
    conv, pool, relu, flat = (
        make_vectors.conv(2, (3, 3)),
        make_vectors.max_pool(),
        make_vectors.RELU,
        make_vectors.FLATTEN,
    )
    blocks, shape = o.plan([conv, relu, pool, relu, flat, relu, make_vectors.linear(3), relu], (10, 10, 1))
    assert [(b.index, b.relu, b.pool is not None) for b in blocks] == [(0, True, True), (6, True, False)]
    assert shape == (1, 1, 3)
    blocks, _ = o.plan([relu, conv, pool, pool, relu, flat], (14, 14, 1))
    expected = [(0, True, False), (1, False, True), (3, False, False), (4, True, False)]
    assert [(b.index, b.relu, b.pool is not None) for b in blocks] == expected


def test_pool_and_relu_commute():
    """N13: the order of a ReLU and a pool that are taken over does not change a training run."""
    rng = Random(4)
    recipe = {
        "rule": "TinTin",
        "margin": 2,
        "start": 2,
        "change": 0,
        "milestones": [],
        "rounding": "Stochastic",
        "loss": "CrossEntropy",
    }
    conv, pool = make_vectors.conv(3, (3, 3), (1, 1), (1, 1)), make_vectors.max_pool((3, 3), (2, 2))
    models = []
    for pair in ([make_vectors.RELU, pool], [pool, make_vectors.RELU]):
        models.append(o.Model([conv, *pair, make_vectors.FLATTEN, make_vectors.linear(3)], (7, 7, 1), 5))
    for _ in range(4):
        x, labels = [make_vectors.mantissas(rng, 49) for _ in range(2)], [rng.randrange(3) for _ in range(2)]
        assert models[0].train_step(x, labels, recipe) == models[1].train_step(x, labels, recipe)
        assert models[0].digest() == models[1].digest()


def test_prediction_is_a_batch_of_one():
    model = o.Model(make_vectors.lenet(True), (12, 12, 1), 1)
    rng = Random(5)
    batch = [make_vectors.mantissas(rng, 144), make_vectors.mantissas(rng, 144, 9)]
    z, scale, _ = model.forward(batch[1:])
    assert model.predict(batch[1]) == (z[0], scale)


def test_frozen_layers_stay():
    rng = Random(6)
    recipe = {"rule": "Niti", "start": 3, "change": 0, "milestones": [], "rounding": "Pseudo", "loss": "CrossEntropy"}
    model = o.Model(make_vectors.lenet(True), (12, 12, 1), 1)
    before = [[list(row) for row in block.w] for block in model.blocks]
    model.train_step([make_vectors.mantissas(rng, 144) for _ in range(3)], [0, 1, 2], recipe, train_from=3)
    assert [block.w != w for block, w in zip(model.blocks, before)] == [False, True, True, True]


def real(scale):
    return 2.0 ** scale[0] * 0.8 ** scale[1] * (4 / 3) ** scale[2]


def test_sum_by_hand():
    # X = -14, T = -14 + bits(127 * 128) = 0: both are shifted up to 2^-24, where 127 * 2^-7 is 127 * 2^17
    sums, scale = o.add_tensors([[127, -127]], (-7, 0, 0), [[127, 0]], (-7, 0, 0))
    assert (sums, scale) == ([[254 << 17, -127 << 17]], (-24, 0, 0))
    assert o.narrow(sums, scale) == ([[127, -63]], (-6, 0, 0))
    assert o.narrow(*o.add_tensors([[127, -3]], (-7, 0, 0), [[0, 0]], (99, 0, 0))) == ([[127, -3]], (-7, 0, 0))
    assert o.narrow(*o.add_tensors([[127, -3]], (-7, 0, 0), [[127, 127]], (-40, 0, 0))) == ([[127, -3]], (-7, 0, 0))
    assert o.add_tensors([[0]], (-7, 0, 0), [[0]], (9, 0, 0)) == ([[0]], (-38, 0, 0))


def test_sum_is_the_real_sum():
    rng = Random(7)
    for _ in range(300):
        a, b = make_vectors.mantissas(rng, 5), make_vectors.mantissas(rng, 5, rng.choice((3, 127)))
        a_scale, b_scale = ((rng.randint(-12, -4), rng.randint(-9, 9), rng.randint(-7, 7)) for _ in range(2))
        (q,), scale = o.narrow(*o.add_tensors([a], a_scale, [b], b_scale))
        for v, x, y in zip(q, a, b):
            parts = x * real(a_scale), y * real(b_scale)
            slack = 0.004 * sum(map(abs, parts)) + (0.5 + 2**-10) * real(scale)
            assert abs(v * real(scale) - sum(parts)) <= slack or abs(v) == 127


def test_plan_with_branches():
    conv, relu, pool = make_vectors.conv(2, (3, 3), (1, 1), (1, 1)), make_vectors.RELU, make_vectors.max_pool()
    add, branch = make_vectors.add, make_vectors.branch
    blocks, shape = o.plan(make_vectors.residual(), (8, 8, 2))
    assert [(b.index, b.sources, b.relu) for b in blocks] == [
        (0, [-1], True),
        (2, [0], True),
        (4, [1], False),
        (5, [2, 0], True),
        (7, [3], True),
        (9, [4], False),
        (11, [3], False),
        (12, [6, 5], True),
        (14, [7], False),
        (15, [8], False),
    ]
    assert shape == (1, 1, 3)
    # a layer that is named is the last of its block, so the ReLU stands alone; Add takes over no pool
    blocks, _ = o.plan([conv, relu, add(0), pool, relu], (8, 8, 1))
    assert [(b.index, b.sources, b.relu, b.pool is not None) for b in blocks] == [
        (0, [-1], False, False),
        (1, [0], True, False),
        (2, [1, 0], False, False),
        (3, [2], False, False),
        (4, [3], True, False),
    ]
    for wrong in (
        [conv, add(1)],  # not an earlier one
        [conv, make_vectors.FLATTEN, branch(1), relu],
        [conv, branch(0), conv, add(1)],
        [conv, conv, branch(0), conv],  # the second output is not used
        [conv, conv, branch(0)],
        [conv, pool, add(0)],  # of another shape
    ):
        with pytest.raises(AssertionError):
            o.plan(wrong, (8, 8, 1))


def users(bias):
    """The net of trace_residual_users."""
    return [
        layer | ({"bias": bias} if "bias" in layer else {})
        for layer in json.loads((make_vectors.VECTORS / "trace_residual_users.json").read_text())["layers"]
    ]


@pytest.mark.parametrize(
    "layers, shape", [(make_vectors.residual(False), (8, 8, 2)), (users(False), (9, 9, 1))], ids=["residual", "users"]
)
def test_backward_of_branches_is_the_adjoint(layers, shape, monkeypatch):
    """A net of ReLUs, maxima and products without biases is J·h, J its derivative at h: <z, dy> = <h, Jᵀ dy>, exactly
    so where nothing is rounded. And the rounded error is near the exact one."""
    rng = Random(8)
    model = o.Model(layers, shape, 3)
    x = [make_vectors.mantissas(rng, math.prod(shape)) for _ in range(2)]
    dy = [[40, -127, 9], [-3, 100, 64]]

    def errors():
        z, scale, trail = model.forward(x)
        found = {
            i: ([[Fraction(v) * exact(s) for v in d] for d in g], s)
            for i, g, _, s in model.backward(dy, (0, 0, 0), trail, {0})
        }
        return z, scale, trail, found

    def exact(scale):
        return Fraction(2) ** scale[0] * Fraction(4, 5) ** scale[1] * Fraction(4, 3) ** scale[2]

    def unrounded(arrays, scale):
        return [[v * exact(scale) for v in array] for array in arrays], (0, 0, 0)

    def exact_sum(a, a_scale, b, b_scale):
        left, right = unrounded(a, a_scale)[0], unrounded(b, b_scale)[0]
        return [[p + q for p, q in zip(*pair)] for pair in zip(left, right)], (0, 0, 0)

    rounded = errors()[3]
    monkeypatch.setattr(o, "narrow", unrounded)
    monkeypatch.setattr(o, "add_tensors", exact_sum)
    z, scale, trail, found = errors()
    assert scale == (0, 0, 0) and found[0][1] == (0, 0, 0)
    value = sum(dot(p, q) for p, q in zip(z, dy))
    assert value != 0
    assert value == sum(dot(p, q) for p, q in zip(trail[0]["made"][0], found[0][0]))
    for i, (g, _) in found.items():
        exactly, roughly = ([float(v) for d in batch for v in d] for batch in (g, rounded[i][0]))
        assert dot(exactly, roughly) > 0.9 * math.sqrt(dot(exactly, exactly) * dot(roughly, roughly))
        assert 0.8 < math.sqrt(dot(roughly, roughly) / dot(exactly, exactly)) < 1.25


def test_errors_only_where_a_trained_block_lies_behind():
    rng = Random(9)
    model = o.Model(make_vectors.residual(), (8, 8, 2), 3)
    _, _, trail = model.forward([make_vectors.mantissas(rng, 128)])

    def visited(trained):
        return [i for i, _, _, _ in model.backward([[5, -9, 4]], (0, 0, 0), trail, trained)]

    assert visited({0}) == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert visited({2}) == [9, 8, 7, 6, 5, 4, 3, 2]
    assert visited({6, 9}) == [9, 8, 7, 6]  # the way around alone
    assert visited({5}) == [9, 8, 7, 5]
    assert visited({9}) == [9]


@pytest.mark.parametrize("rule", ["TinTin", "Niti"])
def test_chosen_rows(rule):
    rng = Random(10)
    recipe = {"rule": rule, "margin": 1, "start": 1, "change": 0, "milestones": [], "loss": "CrossEntropy"}
    recipe["rounding"] = "Stochastic" if rule == "TinTin" else "Pseudo"
    chosen = {0: [1, 3], 3: None, 7: [], 9: [0, 1, 2, 3]}
    x, labels = [make_vectors.mantissas(rng, 144) for _ in range(3)], [0, 1, 3]
    start, part, whole = (o.Model(make_vectors.lenet(True), (12, 12, 1), 1) for _ in range(3))
    part.train_step(x, labels, recipe, chosen=chosen)
    whole.train_step(x, labels, recipe)
    for before, some, every in zip(start.blocks, part.blocks, whole.blocks):
        rows = chosen[some.index]
        for o_ in range(len(some.w)):
            if rows is None or o_ not in rows:
                assert some.w[o_] == before.w[o_]
            elif rule == "TinTin":  # each row on its own, so they move as they would together
                assert some.w[o_] == every.w[o_] != before.w[o_]
            assert some.b[o_] == before.b[o_] or rows is None or o_ in rows
    assert part.blocks[1].b == whole.blocks[1].b != start.blocks[1].b
    assert (part.blocks[3].w, part.blocks[3].b) == (whole.blocks[3].w, whole.blocks[3].b)
    if rule == "Niti":  # the peak is that of the chosen rows: with the largest gradient out, the others move further
        g = [[100, -7], [9, 3]]
        assert o.update_niti([[0, 0], [0, 0]], g, 3, "Nearest", 0, 0, 0, 0)[1] == [-1, 0]
        assert o.update_niti([[0, 0], [0, 0]], [[0, 0], [9, 3]], 3, "Nearest", 0, 0, 0, 0)[1] == [-5, -2]


def test_scales_of_what_is_trained_in_part_stay():
    final = json.loads((make_vectors.VECTORS / "trace_chosen_long.json").read_text())["final"]
    at_rail = [sum(abs(q) == 127 for q in entry["w"]) * 64 > len(entry["w"]) for entry in final]
    assert at_rail[0] and final[0]["w_scale"] == [-7, 1, 0] and final[0]["b_scale"] == [-7, 0, 0]
    assert final[1]["w_scale"] == [-7, 1, 0] and final[1]["b_scale"] == [-7, 2, 0]  # the lone bias grew
    assert final[3]["w_scale"] == [-7, 0, 2]  # the whole layer shrank, twice


def test_unit_by_hand():
    assert o.unit([3, 4]) == ([9830, 13107], 5)
    assert o.unit([-3, 4]) == ([-9830, 13107], 5)  # floor((-98304 + 5) / 10)
    assert o.unit([0, 0]) == ([0, 0], 0)
    assert o.unit([1, 1, 1]) == ([16384] * 3, 1)  # isqrt(3) = 1
    assert o.unit([-32767]) == ([-16384], 32767)
    assert o.unit_feature([0, -5]) == ([0, -16384], 1280)


def test_prototypes_by_hand():
    # û are (2^14, 0) and (0, 2^14); 2^14 / sqrt(2) = 11585.2
    assert o.prototypes([[1, 0], [0, 9], [-4, 0]], [0, 0, 1], 3) == [[11585, 11585], [-16384, 0], [0, 0]]
    centres = o.prototypes([[1, 0], [0, 9], [-4, 0]], [0, 0, 1], 2)
    assert o.dots([16384, 0], centres) == [11585 << 14, -(2**28)]
    assert [o.nearest(f, centres) for f in ([5, 1], [-5, 1], [0, 0])] == [0, 1, 0]
    # 2^15 samples are as many as there may be: 2^29 is rounded to 15 bits
    assert o.prototypes([[3]] * 2**15, [0] * 2**15, 1) == [[16384]]


def test_prototype_is_the_mean_direction():
    rng = Random(11)
    for _ in range(20):
        features, labels = make_vectors.feature_sets(rng, 12, 9, 2)
        for k, c in enumerate(o.prototypes(features, labels, 2)):
            mean = [0.0] * 9
            for f in (f for f, y in zip(features, labels) if y == k):
                mean = [m + v / math.sqrt(dot(f, f)) for m, v in zip(mean, f)]
            length = math.sqrt(dot(mean, mean))
            assert all(abs(v / 2**14 - m / length) < 0.001 for v, m in zip(c, mean))


def prototype_loss_in_float(f, centres, label, j):
    """The loss in nats of TinyTrain's eq. 1: cosines times the temperature, through a softmax."""
    logits = [2**j * dot(f, c) / math.sqrt(dot(f, f) * dot(c, c)) for c in centres]
    top = max(logits)
    return top - logits[label] + math.log(sum(math.exp(v - top) for v in logits))


@pytest.mark.parametrize("j", range(7))
def test_prototype_error_is_the_gradient(j):
    rng = Random(j)
    for _ in range(25):
        width, classes = rng.choice((4, 9, 20)), rng.choice((2, 5))
        features, labels = make_vectors.feature_sets(rng, 2 * classes, width, classes)
        centres = o.prototypes(features, labels, classes)
        f = [o.clip(v + rng.randint(-60, 60)) for v in features[0]]
        scale = (rng.randint(-12, 0), rng.randint(0, 9), rng.randint(0, 9))
        label = rng.randrange(classes)
        error, error_scale, e, loss, correct = o.prototype_loss(f, scale, label, centres, j)
        x = [v * real(scale) for v in f]
        bits = prototype_loss_in_float(x, centres, label, j) / math.log(2)
        # t is cut to 2^-8 bits, 369 / 256 is 0.09 % short of log2 e, a dot is cut to 2^-15
        assert abs(loss / 65536 - bits) < 0.008 + 0.001 * bits + 0.0003 * 2**j
        gradient = []
        for i in range(width):
            h = 1e-5 * real(scale) * 64
            up, down = ([v + (k == i) * d for k, v in enumerate(x)] for d in (h, -h))
            values = (prototype_loss_in_float(v, centres, label, j) for v in (up, down))
            gradient.append((lambda a, b: (a - b) / (2 * h))(*values))
        short = min(1, math.sqrt(dot(f, f)) / 64)  # a feature shorter than 64 mantissas counts as 64 long
        gradient = [v * short for v in gradient]
        found = [v * real(error_scale) for v in error]
        # E is exact to about 0.3 % of a probability (N15), which a high temperature scales up
        slack = 0.01 * max(map(abs, gradient)) + 0.006 * 2**j / math.sqrt(dot(x, x))
        assert all(abs(p - q) < slack for p, q in zip(found, gradient))
        # cosines know no length; a is a whole number of 2^-14 and dot is cut, which is up to 2^14 · 64 · 3 / 2 here
        assert abs(dot(error, f)) < 0.001 * math.sqrt(dot(error, error) * dot(f, f)) + 1.5 * 2**20
        assert sum(e) == 0 and correct in (0, 1)


def test_prototype_loss_by_hand():
    # two classes at right angles, a feature between them: both probabilities are 1/2, E = ±2^14
    centres = [[16384, 0], [0, 16384]]
    error, scale, e, loss, correct = o.prototype_loss([64, 64], (-7, 0, 0), 0, centres, 0)
    assert (e, loss, correct) == ([-16384, 16384], 65536, 1)
    # h = (-2^28, 2^28), a = 0; q = isqrt(2 * 2^28) = 23170, r = 2^30 / 23170 = 46341
    assert error == [(-(2**28) * 46341) >> 16, (2**28 * 46341) >> 16]
    assert scale == (-28, 0, 0)
    # p - y is 1/2, over |f| = 0.707: 0.707 in size
    assert abs(error[1] * 2.0**-28 - 0.5 / math.sqrt(0.5)) < 1e-4
    assert o.prototype_loss([0, 0], (-7, 0, 0), 1, centres, 6)[0] == [0, 0]


def test_moves():
    x = list(range(1, 7))  # 2 rows of 3
    assert o.moved(x, (2, 3, 1), 0, 0) == x
    assert o.moved(x, (2, 3, 1), 1, 0) == [0, 0, 0, 1, 2, 3]
    assert o.moved(x, (2, 3, 1), 0, 1) == [0, 1, 2, 0, 4, 5]
    assert o.moved(x, (2, 3, 1), -1, -1) == [5, 6, 0, 0, 0, 0]
    assert o.moved(x, (1, 3, 2), 0, -1) == [3, 4, 5, 6, 0, 0]
    assert o.moved(x, (2, 3, 1), 2, 0) == [0] * 6
    found = [o.drawn_move(3, 5, place, (1, 2)) for place in range(900)]
    for v in (-1, 0, 1):
        for w in (-2, -1, 0, 1, 2):
            assert 30 < found.count((v, w)) < 95


def test_batches_are_those_of_fit():
    found = o.batches(5, 9, 10, 4)
    assert [len(b) for b in found] == [3, 3, 4] and [i for b in found for i in b] == o.shuffle(5, 9, 10)
    assert o.batches(5, 9, 3, 8) == [o.shuffle(5, 9, 3)]


def test_fisher_by_hand():
    # two channels, two places: v = (1 * 5 + 3 * 7, 2 * 6 + 4 * 8) = (26, 44)
    sums = o.fisher(([0, 0], None), [1, 2, 3, 4], -7, [5, 6, 7, 8], -20)
    assert sums == ([676, 1936], -27)
    assert o.fisher(sums, [0] * 4, 9, [5, 6, 7, 8], 9) == sums
    assert o.fisher(sums, [1, 2, 3, 4], -7, [5, 6, 7, 8], -21) == ([676 + 169, 1936 + 484], -27)
    assert o.fisher(sums, [1, 2, 3, 4], -7, [5, 6, 7, 8], -18) == ([(676 >> 4) + 676, (1936 >> 4) + 1936], -25)
    assert o.fisher(sums, [1, 2, 3, 4], -7, [5, 6, 7, 8], 40) == ([676, 1936], 33)
    # 9 * 127 * 127 = 145161 has 18 bits: k = 3
    assert o.fisher(([0], None), [127] * 9, -7, [127] * 9, -20) == ([18145**2], -24)


def test_fisher_is_the_sum_of_squares():
    rng = Random(12)
    for places in (1, 10, 60):
        sums, exact = ([0] * 3, None), [0.0] * 3
        for _ in range(12):
            a, g = (make_vectors.mantissas(rng, 3 * places) for _ in range(2))
            a_s, g_s = rng.randint(-9, -5), rng.randint(-24, -16)
            sums = o.fisher(sums, a, a_s, g, g_s)
            for c in range(3):
                exact[c] += (dot(a[c::3], g[c::3]) * 2.0 ** (a_s + g_s)) ** 2
        for d, v in zip(sums[0], exact):
            assert abs(d * 4.0 ** sums[1] - v) < 0.001 * max(exact)


def test_score_is_the_logarithm():
    assert [o.log2q8(v) for v in (1, 2, 3, 2**63, 2**64 - 1)] == [0, 256, 405, 63 * 256, 64 * 256 - 1]
    assert o.score([4, 12], 0, (0, 0, 0), 2, 8) == 0  # 16 / 2 / 8
    assert o.score([0, 0], 3, (0, 0, 0), 2, 8) is None
    rng = Random(13)
    for _ in range(100):
        d, r = [rng.getrandbits(40) + 1 for _ in range(3)], rng.randint(-40, 9)
        u, down, parameters, products = (
            rng.randint(0, 9),
            rng.randint(0, 7),
            rng.randint(1, 9999),
            rng.randint(1, 10**8),
        )
        size = math.log2(sum(d)) + 2 * (r + math.log2(0.8) * u + math.log2(4 / 3) * down)
        exact = 256 * (size - math.log2(parameters) - math.log2(products))
        assert abs(o.score(d, r, (7, u, down), parameters, products) - exact) < 4 + u + down


def test_choice_by_hand():
    d = [[5, 9, 9, 1, 7], [1, 1, 1], [8, 8, 8, 8]]

    def price(rows):
        return 10 + sum(rows.values()), 100 * len(rows)

    # the order is 1, 2, 0; ⌈3 / 2⌉ = 2, ⌈4 / 2⌉ = 2, ⌈5 / 2⌉ = 3
    assert o.choose([1, 6, 3], d, 2**14, (99, 999), price) == {0: [1, 2, 4], 1: [0, 1], 2: [0, 1]}
    assert o.choose([1, 6, 3], d, 2**14, (16, 999), price) == {0: [1, 2], 1: [0, 1], 2: [0, 1]}  # half of 3 is 2
    assert o.choose([1, 6, 3], d, 2**14, (15, 999), price) == {0: [1], 1: [0, 1], 2: [0, 1]}
    assert o.choose([1, 6, 3], d, 2**14, (99, 200), price) == {1: [0, 1], 2: [0, 1]}  # the second budget
    assert o.choose([1, 6, None], d, 2**15, (13, 999), price) == {1: [0, 1, 2]}
    assert o.choose([4, 4, 4], d, 2**15, (11, 999), price) == {0: [1]}  # a tie, and an eighth of 5 is 1
    assert o.choose([1, 6, 3], d, 2**15, (10, 999), price) == {}


def test_rows():
    u = o.draws(3, 4, 5, o.CHOICE_ROW, 20)
    rows = o.drawn_rows(3, 4, 5, 20, 6)
    assert len(rows) == 6 and min(u[i] for i in rows) > max(u[i] for i in range(20) if i not in rows)
    counts = [0] * 8
    for step in range(400):
        for i in o.drawn_rows(3, step, 5, 8, 2):
            counts[i] += 1
    assert min(counts) > 60 and max(counts) < 140
    # the first error is the largest so far: l_max of 8 rows
    assert o.rows_by_error([1, 9, 0, 9, 5, 0, 2, 6], (-20, 0, 0), None, 2**12, 2**14) == (
        [1, 3, 4, 7],
        5 * 256 - 20 * 256,
    )
    # half as large: 2^12 + (2^14 - 2^12) / 2 = 10240, 8 * 10240 / 2^15 = 2.5
    assert o.rows_by_error([1, 9, 0, 9, 5, 0, 2, 6], (-21, 0, 0), -3840, 2**12, 2**14) == ([1, 3], -3840)
    assert o.rows_by_error([0, 0, 3, 3], (-99, 0, 0), 0, 0, 2**15) == ([2], 0)  # never none
    assert o.rows_by_error([0, 0], (-20, 0, 0), -7, 2**15, 2**15) == ([], -7)


def few_shot(layers, shape, settings):
    recipe = {"rule": "TinTin", "margin": 2, "start": 2, "change": 0, "milestones": [], "rounding": "Stochastic"}
    recipe |= {"loss": "Prototypes", "temperature": 3}
    rng = Random(14)
    x, labels = make_vectors.class_samples(rng, shape, 3, 12, False)
    model = o.Model(layers, shape, 2)
    settings = {"classes": 3, "limits": [0, 0], "batch": 4, "ratio": 2**15, "rows": "Information"} | settings
    return model, x, labels, settings, recipe


def test_inspection_is_that_of_single_errors():
    """The output slot's Fisher sums from its features and errors, sample by sample; the first's from the adjoint."""
    model, x, labels, _, recipe = few_shot(
        [make_vectors.linear(6), make_vectors.RELU, make_vectors.linear(5)], (1, 1, 8), {}
    )
    centres = model.prototypes(x, labels, 3)
    found = model.inspect(x, labels, centres, recipe)
    exact = [[0.0] * 6, [0.0] * 5]
    for sample, label in zip(x, labels):
        f, scale = model.predict(sample)
        (g,), g_scale = o.narrow(*(lambda e, s, *_: ([e], s))(*o.prototype_loss(f, scale, label, centres, 3)))
        (h,), h_scale = model.forward([sample])[2][0]["made"]
        back = [sum(d * row[i] for d, row in zip(g, model.blocks[1].w)) if h[i] > 0 else 0 for i in range(6)]
        size = real(o.add_scales(g_scale, model.blocks[1].w_scale)) * real(h_scale)
        exact[0] = [v + (a * d * size) ** 2 for v, a, d in zip(exact[0], h, back)]
        exact[1] = [v + (a * d * real(scale) * real(g_scale)) ** 2 for v, a, d in zip(exact[1], f, g)]
    for slot, values, parameters in zip(found, exact, (48, 30)):
        unit = real((slot["r"], slot["u"], slot["down"])) ** 2
        assert all(abs(d * unit - v) < 0.03 * max(values) for d, v in zip(slot["d"], values))
        assert (slot["parameters"], slot["products"]) == (parameters, parameters)
    assert [slot["layer"] for slot in found] == [0, 2]


def test_adaptation_moves_what_is_chosen_and_learns():
    layers = [make_vectors.linear(12, True), make_vectors.RELU, make_vectors.linear(8, True)]
    model, x, labels, settings, recipe = few_shot(layers, (1, 1, 10), {"passes": 12, "budgets": (14, 0)})
    before = [[list(row) for row in block.w] for block in model.blocks]
    _, passes = model.adapt(x, labels, settings, recipe, lambda rows: (sum(rows.values()), 0))
    chosen = passes[0]["chosen"]
    assert sum(map(len, chosen.values())) <= 14 and all(done["chosen"] == chosen for done in passes)
    for block, rows in zip(model.blocks, before):
        moved = [o_ for o_, (a, b) in enumerate(zip(block.w, rows)) if a != b]
        assert moved and set(moved) <= set(chosen[block.index])
    assert model.step == 12 * 3
    loss = [sum(step["loss"] for step in done["steps"]) for done in passes]
    assert loss[-1] < 0.7 * loss[0]
    assert passes[0]["steps"][0]["samples"] == o.batches(2, 0, 12, 4)[0]
    assert passes[1]["steps"][0]["samples"] == o.batches(2, 3, 12, 4)[0]


def test_drawn_rows_change_from_pass_to_pass():
    settings = {"passes": 3, "budgets": (0, 0), "ratio": 2**14, "rows": "Drawn"}
    model, x, labels, settings, recipe = few_shot([make_vectors.linear(12, True)], (1, 1, 10), settings)
    _, passes = model.adapt(x, labels, settings, recipe, lambda rows: (0, 0))
    assert [done["chosen"] for done in passes] == [{0: o.drawn_rows(2, step, 0, 12, 6)} for step in (0, 3, 6)]


def test_vectors_are_up_to_date():
    files = make_vectors.build()
    assert make_vectors.differences(files) == []
    assert sum(len(text) for text in files.values()) < 1_500_000
