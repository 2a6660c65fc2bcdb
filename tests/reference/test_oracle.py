"""Self-tests of the oracle: values computed by hand from the rules, and identities that must hold."""

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


def test_vectors_are_up_to_date():
    files = make_vectors.build()
    assert make_vectors.differences(files) == []
    assert sum(len(text) for text in files.values()) < 1_500_000
