"""`Sequential` as its users know it: learning, predicting, keeping, measuring."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tintin
from tintin import (
    AvgPool2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Niti,
    ReLU,
    Sequential,
    TinTin,
    datasets,
    models,
)

DATA = datasets.load("digits")
X, Y = DATA.x_train, DATA.y_train


def mlp(seed: int = 0) -> Sequential:
    return Sequential([Flatten(), Linear(16, bias=True), ReLU(), Linear(10)], input_shape=(8, 8, 1), seed=seed)


@pytest.fixture(scope="module")
def trained() -> Sequential:
    net = models.small(seed=3)
    net.fit(X, Y, epochs=2, batch_size=16)
    return net


# Learning


@pytest.mark.parametrize(
    ("layers", "fit", "least"),
    [
        # measured: 0.980, 0.961, 0.977, 0.966, 0.961, 0.817; a broken rule falls far below each floor
        (models.small().layers, {"epochs": 10, "batch_size": 16}, 0.95),
        (models.small().layers, {"epochs": 10, "batch_size": 16, "optimizer": Niti()}, 0.93),
        (models.small().layers, {"epochs": 3, "batch_size": 1}, 0.94),
        (
            [
                Conv2d(8, 3, padding=1, bias=True), ReLU(), AvgPool2d(2),
                Conv2d(16, 3, padding=1), ReLU(), MaxPool2d(2), Flatten(), Linear(10, bias=True),
            ],
            {"epochs": 10, "batch_size": 8}, 0.93,
        ),
        ([Flatten(), Linear(32, bias=True), ReLU(), Linear(10, bias=True)], {"epochs": 10, "batch_size": 10}, 0.93),
        (
            [
                Conv2d(16, 3, padding=1), ReLU(), MaxPool2d(2), Conv2d(32, 3, padding=1), ReLU(),
                GlobalAvgPool2d(), Linear(10),
            ],
            {"epochs": 10, "batch_size": 8}, 0.75,
        ),
    ],
    ids=["small", "niti", "batch 1", "average pool", "biases", "global average pool"],
)  # fmt: skip
def test_learns_digits(layers: list[tintin.Layer], fit: dict[str, Any], least: float) -> None:
    net = Sequential(layers, input_shape=(8, 8, 1), seed=0)
    history = net.fit(X, Y, **fit)
    assert net.score(DATA.x_test, DATA.y_test) >= least
    assert history.loss[-1] < 0.7 * history.loss[0]
    for tensor in net.tensors():
        if tensor["bias"]:
            assert tensor["mantissas"].any()


def test_auto_encoder_learns() -> None:
    net = Sequential([Linear(24, bias=True), ReLU(), Linear(64, bias=True)], input_shape=(64,), seed=1)
    x = X.reshape(-1, 64)
    before = net.evaluate(x, x, "squared_error")
    history = net.fit(x, x, epochs=12, batch_size=16, loss="squared_error", validation_data=(x[:50], x[:50]))
    assert before[1] == 0 and "accuracy" not in history and "val_accuracy" not in history
    assert history.loss[-1] < before[0] / 4
    assert net.score(x, x) == pytest.approx(-net.evaluate(x, x)[0]) and net.score(x, x) > -before[0] / 4
    # half the squared distance, by hand, from what the net says it answers
    distance = net.logits(x[:50]) - (x[:50] >> 1) / 128
    assert history.val_loss[-1] == pytest.approx((distance**2).sum(1).mean() / 2, rel=0.02)


def test_regression_learns() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.uniform(-1, 1, (600, 2))
    wanted = (0.7 * inputs[:, :1] - 0.4 * inputs[:, 1:]) ** 2
    x, y = tintin.quantize(inputs), tintin.quantize(wanted)
    net = Sequential([Linear(24, bias=True), ReLU(), Linear(1, bias=True)], input_shape=(2,), seed=0)
    net.fit(x[:500], y[:500], epochs=60, batch_size=10, loss="squared_error")
    error = net.logits(x[500:]) - wanted[500:]
    assert (error**2).mean() < 0.1 * wanted.var()


def test_one_dimensional_signals_learn() -> None:
    """Which of three frequencies, whatever the phase: a convolution of height 1."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 400)
    t = np.arange(32)
    waves = np.sin(2 * np.pi * (y[:, None] + 1) * t / 16 + rng.uniform(0, 7, (400, 1)))
    x = tintin.quantize(waves[..., None])
    net = Sequential(
        [Conv2d(8, (1, 7)), ReLU(), MaxPool2d((1, 2)), Flatten(), Linear(16), ReLU(), Linear(3)], (1, 32, 1), seed=0
    )
    net.fit(x[:300], y[:300], epochs=15, batch_size=10)
    assert net.score(x[300:], y[300:]) > 0.9


def test_layers_of_signals_are_those_of_maps_of_height_one() -> None:
    layers = [
        tintin.Conv1d(8, 5, stride=2, padding=2, bias=True), ReLU(), tintin.DepthwiseConv1d(3, padding=1), ReLU(),
        tintin.MaxPool1d(3, stride=2), tintin.AvgPool1d(2), Linear(3),
    ]  # fmt: skip
    assert layers == [
        Conv2d(8, (1, 5), stride=(1, 2), padding=(0, 2), bias=True), ReLU(),
        tintin.DepthwiseConv2d((1, 3), padding=(0, 1)), ReLU(),
        MaxPool2d((1, 3), stride=(1, 2)), AvgPool2d((1, 2)), Linear(3),
    ]  # fmt: skip
    assert tintin.MaxPool1d(2) == MaxPool2d((1, 2)) and tintin.AvgPool1d(3, 1) == AvgPool2d((1, 3), stride=1)
    net = Sequential(layers, input_shape=(1, 40, 2), seed=1)
    assert Sequential.from_bytes(net.to_bytes()).layers == layers


def test_a_depthwise_separable_net_learns_signals() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 400)
    waves = np.sin(2 * np.pi * (y[:, None] + 1) * np.arange(32) / 16 + rng.uniform(0, 7, (400, 1)))
    x = tintin.quantize(waves[..., None])
    net = Sequential(
        [
            tintin.Conv1d(8, 5, padding=2), ReLU(), tintin.DepthwiseConv1d(5, stride=2, padding=2, bias=True), ReLU(),
            tintin.Conv1d(16, 1, bias=True), ReLU(), tintin.GlobalAvgPool2d(), Linear(3, bias=True),
        ],
        input_shape=(1, 32, 1),
        seed=0,
    )  # fmt: skip
    net.fit(x[:300], y[:300], epochs=25, batch_size=10)
    assert net.score(x[300:], y[300:]) > 0.9
    again = Sequential.from_bytes(net.to_bytes())
    assert again.layers == net.layers and again.digest() == net.digest()
    assert str(again.layers[2]) == "DepthwiseConv2d((1, 5), stride=(1, 2), padding=(0, 2), bias=True)"


def test_fit_is_a_function_of_its_seed() -> None:
    found = []
    for seed in (7, 7, 8):
        net = mlp(seed)
        net.fit(X[:200], Y[:200], epochs=2, batch_size=16)
        found.append(net.digest())
    assert found[0] == found[1] != found[2]


def test_global_random_state_does_not_matter() -> None:
    np.random.seed(1)
    one, two = mlp(), mlp()
    one.fit(X[:100], Y[:100], batch_size=10)
    np.random.rand(7)
    two.fit(X[:100], Y[:100], batch_size=10)
    assert one == two


def test_initialise_starts_again() -> None:
    net, fresh = mlp(5), mlp(5)
    start = net.digest()
    net.fit(X[:100], Y[:100], batch_size=10)
    assert net.digest() != start and net.step == 10
    net.initialise(5)
    assert net == fresh and net.step == 0
    net.initialise(6)
    assert net.digest() == mlp(6).digest() and net.seed == 6


def test_without_shuffle_fit_is_partial_fit_batch_by_batch() -> None:
    rule = TinTin(learning_shift=2, milestones=())
    one, two = mlp(), mlp()
    history = one.fit(X[:96], Y[:96], epochs=2, batch_size=16, optimizer=rule, shuffle=False)
    told = [two.partial_fit(X[i : i + 16], Y[i : i + 16], rule) for _ in range(2) for i in range(0, 96, 16)]
    assert one.digest() == two.digest() and one.step == two.step == 12
    losses, accuracies = np.array(told).reshape(2, 6, 2).mean(axis=1).T
    assert history.loss == pytest.approx(losses) and history.accuracy == pytest.approx(accuracies)
    three = mlp()
    three.fit(X[:96], Y[:96], epochs=2, batch_size=16, optimizer=rule)
    assert three.digest() != one.digest()


@pytest.mark.parametrize(("n", "batch_size"), [(100, 100), (100, 33), (101, 16), (7, 4), (1, 1), (5000, 1)])
def test_every_sample_counts_once_an_epoch(n: int, batch_size: int) -> None:
    net = Sequential([Linear(2)], input_shape=(3,))
    x = np.random.default_rng(0).integers(-127, 128, (n, 3)).astype(np.int8)
    # a rate of 2^-24 changes nothing, so that the mean over the epoch is that of `evaluate`, but for the batch peaks
    history = net.fit(x, x[:, 0] > 0, batch_size=batch_size, optimizer=TinTin(24, rounding="nearest"))
    loss, accuracy = net.evaluate(x, x[:, 0] > 0)
    assert net.step == -(-n // batch_size)
    assert history.loss[0] == pytest.approx(loss, rel=0.05)
    assert history.accuracy[0] == pytest.approx(accuracy, abs=0.02)


def test_history_and_validation(trained: Sequential) -> None:
    net = mlp()
    history = net.fit(X, Y, epochs=3, batch_size=32, validation_data=(DATA.x_test, DATA.y_test))
    assert history.epoch == [1, 2, 3]
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "seconds", "learning_shift"} <= set(history.keys())
    loss, accuracy = net.evaluate(DATA.x_test, DATA.y_test)
    assert (history.val_loss[-1], history.val_accuracy[-1]) == (loss, accuracy)
    assert net.score(DATA.x_test, DATA.y_test) == accuracy
    # looking does not change what is learned
    blind = mlp()
    blind.fit(X, Y, epochs=3, batch_size=32)
    assert blind == net


def test_history_plot_writes_a_file(tmp_path: Path) -> None:
    history = mlp().fit(X[:100], Y[:100], epochs=2, batch_size=10, validation_data=(X[:10], Y[:10]))
    for name, start in (("h.png", b"\x89PNG"), ("h.svg", b"<?xml")):
        history.plot(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)


def test_schedule_follows_the_milestones() -> None:
    rule = TinTin(learning_shift=1, milestones=(0.5, 0.75), decay=3)
    history = mlp().fit(X[:40], Y[:40], epochs=4, batch_size=10, optimizer=rule)
    assert history.learning_shift == [1, 1, 4, 7]
    history = mlp().fit(X[:40], Y[:40], epochs=4, batch_size=10, optimizer=Niti(mu=3, milestones=(0.5,)))
    assert history.mu == [3, 3, 2, 2] and "learning_shift" not in history


def test_callbacks_see_every_epoch_and_may_stop() -> None:
    seen: list[tuple[int, int]] = []

    class Stop(Exception):
        pass

    def watch(net: Sequential, record: dict[str, Any]) -> None:
        seen.append((record["epoch"], net.step))
        record.clear()  # a copy: the history keeps its own
        if len(seen) == 3:
            raise Stop

    net = mlp()
    history = net.fit(X[:20], Y[:20], epochs=2, batch_size=10, callbacks=[watch])
    assert seen == [(1, 2), (2, 4)] and history.epoch == [1, 2]
    with pytest.raises(Stop):
        net.fit(X[:20], Y[:20], epochs=2, batch_size=10, callbacks=(watch,))
    assert net.step == 6


@pytest.mark.parametrize("yes", [True, np.True_])
def test_a_callback_that_returns_true_ends_the_training(yes: Any) -> None:
    net, seen = mlp(), []
    stops = [lambda net, record: yes if record["epoch"] == 3 else 1.0, lambda net, record: seen.append(record["epoch"])]
    history = net.fit(X[:20], Y[:20], epochs=9, batch_size=10, callbacks=stops)
    assert history.epoch == seen == [1, 2, 3] and net.step == 6
    assert history.loss_name == ["cross_entropy"] * 3


def test_progress(capfd: pytest.CaptureFixture[str]) -> None:
    mlp().fit(X[:20], Y[:20], batch_size=10)
    assert capfd.readouterr() == ("", "")
    mlp().fit(X[:20], Y[:20], batch_size=10, progress=True)
    out, err = capfd.readouterr()
    assert out == "" and "epoch 1/1 100%" in err and "loss " in err and "accuracy " in err and "val" not in err
    history = mlp().fit(X[:20], Y[:20], batch_size=10, progress=True, validation_data=(X[:9], Y[:9]))
    last = capfd.readouterr().err.rstrip("\n").split("\r")[-1]
    shown = f"loss {history.loss[0]:.4f}, accuracy {history.accuracy[0]:.2%}"
    assert f"{shown}; val {history.val_loss[0]:.4f}, {history.val_accuracy[0]:.2%}" in last
    assert len(last) - 10 < 80  # the bar itself, here of 10 columns, takes what is left
    mlp().fit(X[:20], Y[:20], batch_size=10, progress=False)
    assert capfd.readouterr() == ("", "")


def test_train_from_leaves_the_prefix_alone(trained: Sequential) -> None:
    net = copy.deepcopy(trained)
    last = len(net.layers) - 1
    before = {tensor["layer"]: tensor["mantissas"] for tensor in net.tensors()}
    net.fit(X[:100], Y[:100], batch_size=4, train_from=last)
    for tensor in net.tensors():
        same = np.array_equal(tensor["mantissas"], before[tensor["layer"]])
        assert same == (tensor["layer"] != last)
    assert net.memory(train_from=last).total < 0.7 * net.memory().total


# Using


def test_prediction_depends_on_the_sample_alone(trained: Sequential) -> None:
    x = DATA.x_test[:60]
    classes, logits = trained.predict(x), trained.logits(x)
    assert classes.dtype == np.int64 and classes.shape == (60,)
    assert logits.dtype == np.float32 and logits.shape == (60, 10)
    assert (logits.argmax(axis=1) == classes).all()
    for size in (1, 7, 59):
        parts = [x[i : i + size] for i in range(0, 60, size)]
        assert (np.concatenate([trained.logits(part) for part in parts]) == logits).all()
    assert (trained.logits(x[::-1]) == logits[::-1]).all()
    # the same under a loud neighbour, and after the plan of another batch size
    loud = np.concatenate([np.full((1, 8, 8), 255, np.uint8), x])
    copy.copy(trained).partial_fit(x, DATA.y_test[:60])
    assert (trained.logits(loud)[1:] == logits).all()
    assert (trained.predict(x[..., None]) == classes).all()
    assert (trained.predict(x.reshape(60, 64)) == classes).all()


def test_evaluate_is_the_mean_over_samples(trained: Sequential) -> None:
    x, y = DATA.x_test[:40], DATA.y_test[:40]
    loss, accuracy = trained.evaluate(x, y)
    one_by_one = np.array([trained.evaluate(x[i : i + 1], y[i : i + 1]) for i in range(40)])
    assert (loss, accuracy) == pytest.approx(tuple(one_by_one.mean(axis=0)))
    assert accuracy == (trained.predict(x) == y).mean()
    # the loss in nats, from the logits in floats
    z = trained.logits(x).astype(np.float64)
    exact = (np.log(np.exp(z - z.max(1, keepdims=True)).sum(1)) + z.max(1) - z[np.arange(40), y]).mean()
    assert loss == pytest.approx(exact, abs=0.01)
    assert trained.evaluate(x, y, "niti_cross_entropy") == (loss, accuracy)


def test_input_forms_agree(trained: Sequential) -> None:
    """uint8 is halved; int8 and quantised values count as they are."""
    halves = (X[:9] >> 1).astype(np.int8)
    wanted = trained.logits(X[:9])
    assert (trained.logits(halves) == wanted).all()
    assert (trained.logits(tintin.Quantized(halves, -7)) == wanted).all()
    # no bias in this net, so twice the input is twice the output
    assert (trained.logits(tintin.Quantized(halves, -6)) == 2 * wanted).all()


def test_quantize_and_back() -> None:
    values = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    made = tintin.quantize(values)
    assert made.mantissas.dtype == np.int8 and made.shape == (50, 4) and len(made[:7]) == 7
    assert np.abs(made.dequantize() - values).max() <= 2.0 ** (made.exponent - 1) * 1.01
    assert tintin.quantize(values / 4, exponent=made.exponent).exponent == made.exponent
    assert tintin.quantize([0.0]).exponent == -7 and repr(made[3]) == f"Quantized(shape=(4,), exponent={made.exponent})"


def test_logits_are_what_the_tensors_say() -> None:
    """One linear layer in floats: mantissas times scale, the whole of N1."""
    net = Sequential([Linear(3, bias=True)], input_shape=(4,), seed=2)
    net.fit(np.eye(4, dtype=np.int8) * 127, [0, 1, 2, 0], epochs=80, batch_size=2)
    weights, bias = [
        tensor["mantissas"] * 2.0**s * 0.8**u * (4 / 3) ** d
        for tensor in net.tensors()
        for s, u, d in [tensor["scale"]]
    ]
    x = np.random.default_rng(0).integers(-127, 128, (20, 4)).astype(np.int8)
    exact = x / 128 @ weights.T + bias
    assert np.abs(net.logits(x) - exact).max() <= np.abs(exact).max() / 100


# What it is


def test_description(trained: Sequential) -> None:
    net = models.small(seed=3)
    assert net.layers == trained.layers and net.layers[0] == Conv2d(8, 3, padding=1)
    assert (net.input_shape, net.outputs, net.seed, net.step) == ((8, 8, 1), 10, 3, 0)
    rebuilt = eval(repr(net), {**vars(tintin)})
    assert rebuilt == net
    text = trained.summary()
    for part in ("0 Conv2d(8, kernel_size=3, padding=1)", "8 x 8 x 8", "1,864 weights", f"step {trained.step}"):
        assert part in text
    for training in (True, False):
        memory = net.memory(training=training)
        for roles, total in ((memory.by_role, memory.total), (memory.flash_by_role, memory.flash)):
            for role, size in roles.items():
                assert any(line.startswith(f"  {role}  ") and f" {size:,}" in line for line in text.split("\n"))
            assert any(line.startswith("  in all, bytes") and f" {total:,}" in line for line in text.split("\n"))


def test_summary_of_a_net_that_cannot_be_trained() -> None:
    net = Sequential([MaxPool2d(2), Flatten(), ReLU()], input_shape=(4, 4, 1))
    assert "not possible (no layer is left to train)" in net.summary()
    assert net.predict(np.zeros((2, 4, 4), np.uint8)).tolist() == [0, 0]


# Keeping


def same(one: Sequential, two: Sequential) -> None:
    assert one == two and one is not two and one.digest() == two.digest()
    assert (one.layers, one.step, one.seed) == (two.layers, two.step, two.seed)
    assert (one.logits(X[:5]) == two.logits(X[:5])).all()


def test_save_and_load(trained: Sequential, tmp_path: Path) -> None:
    path = tmp_path / "m.tin"
    mlp().save(path)
    trained.save(path)  # over an old file
    assert [p.name for p in tmp_path.iterdir()] == ["m.tin"]
    assert path.stat().st_size == trained.memory().flash
    same(trained, tintin.load(path))
    same(trained, tintin.load(str(path)))
    assert tintin.load(path)._engine.recipe == trained._engine.recipe


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(trained: Sequential, protocol: int) -> None:
    same(trained, pickle.loads(pickle.dumps(trained, protocol)))


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy])
def test_copies_are_independent(trained: Sequential, clone: Callable[[Sequential], Sequential]) -> None:
    before = trained.to_bytes()
    twin = clone(trained)
    same(trained, twin)
    twin.partial_fit(X[:4], Y[:4])
    assert twin != trained and trained.to_bytes() == before


def test_equality() -> None:
    net, other = mlp(), mlp()
    assert net == other and net != mlp(1) and net != "net" and (net == 3) is False
    assert net != Sequential(net.layers, input_shape=(64,))
    with pytest.raises(TypeError):
        hash(net)
    tensor = other.tensors()[0]
    other.set_tensor(1, tensor["mantissas"], (tensor["scale"][0] + 1, *tensor["scale"][1:]))
    assert net != other


@pytest.mark.parametrize("rule", [TinTin(learning_shift=3), Niti(), TinTin(rounding="nearest")])
def test_resumed_training_is_uninterrupted_training(rule: TinTin | Niti, tmp_path: Path) -> None:
    net = other = mlp(4)
    other = copy.deepcopy(net)
    for step in range(70):  # past an adjustment of the scales
        at = 7 * step
        net.partial_fit(X[at : at + 7], Y[at : at + 7], rule)
        other.partial_fit(X[at : at + 7], Y[at : at + 7], rule)
        if step % 9 == 0:
            other.save(tmp_path / "m.tin")
            other = tintin.load(tmp_path / "m.tin")
    assert net == other


def test_two_fits_from_a_file_go_on_as_without(tmp_path: Path) -> None:
    net = mlp()
    net.fit(X[:300], Y[:300], batch_size=10)
    net.save(tmp_path / "m.tin")
    other = tintin.load(tmp_path / "m.tin")
    for one in (net, other):
        one.fit(X[:300], Y[:300], batch_size=10)
    assert net == other and net.step == 60
    # the second epoch has an order of its own
    assert (net._engine.recipe, net.step) == (other._engine.recipe, 60)


def test_set_tensor_and_tensors(trained: Sequential) -> None:
    net = models.small(seed=99)
    tensors = trained.tensors()
    assert [(t["layer"], t["bias"], t["mantissas"].shape) for t in tensors] == [
        (0, False, (8, 9)), (3, False, (16, 72)), (7, False, (10, 64)),
    ]  # fmt: skip
    assert all(t["mantissas"].dtype == np.int8 for t in tensors)
    for tensor in tensors:
        net.set_tensor(tensor["layer"], tensor["mantissas"], tensor["scale"], bias=tensor["bias"])
    assert net.digest() == trained.digest()
    tensors[0]["mantissas"][:] = 0  # a copy of ours
    assert trained.tensors()[0]["mantissas"].any()
    small = mlp()
    small.set_tensor(1, np.arange(16, dtype=np.int8), (-5, 1, 2), bias=True)
    assert small.tensors()[1]["mantissas"].tolist() == list(range(16)) and small.tensors()[1]["scale"] == (-5, 1, 2)
    square = np.arange(16 * 64, dtype=np.int64).astype(np.int8).reshape(64, 16).T
    small.set_tensor(1, np.maximum(square, -127), (0, 0, 0))  # transposed memory, its own order
    assert (small.tensors()[0]["mantissas"] == np.maximum(square, -127)).all()
