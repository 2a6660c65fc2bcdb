"""`Sequential.adapt`: the oracle bit for bit, what every policy may touch, budgets that hold.

What is refused: test_bad_adapt.py.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from few import BY_HAND, POLICIES, ROWS, X, Y, adapted, net
from helpers import layer, refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_vectors import check_tensors, nets, oracle

import tintin
from tintin import Conv2d, Flatten, Linear, Niti, ReLU, Sequential, TinTin

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
#: one unit of an integer loss in nats
UNIT = math.log(2.0) * 2.0**-16
ONE = 1 << 15


# The oracle


def told_of(trace: dict[str, Any]) -> dict[str, Any]:
    """The settings of a trace, for `adapt`."""
    recipe, words = trace["recipe"], trace["settings"]
    milestones: tuple[float, ...] = ()
    assert recipe["milestones"] == [] and recipe["loss"] == "Prototypes"
    rounding = recipe["rounding"].lower()
    if recipe["rule"] == "TinTin":
        optimizer: TinTin | Niti = TinTin(recipe["start"], recipe["margin"], rounding, milestones)
    else:
        optimizer = Niti(recipe["start"], rounding, milestones)
    told = {
        "optimizer": optimizer, "temperature": 1 << words["temperature"], "shift": tuple(words["limits"]),
        "batch_size": words["batch"], "ratio": words["ratio"] / ONE, "inspect": 0,
    }  # fmt: skip
    if words["rows"] == "Information":
        choices = [(chosen["layer"], len(chosen["rows"])) for chosen in trace["passes"][0]["chosen"]]
        return {**told, "policy": "layers", "choices": choices}
    assert words["rows"] == "Drawn"  # the trace takes half of every layer, and so does a budget without limits
    return {**told, "policy": "random_channels", "compute_budget": 1.0}


@pytest.mark.parametrize("name", ["trace_adapt", "trace_adapt_niti"])
def test_trace(name: str) -> None:
    trace = json.loads((VECTORS / f"{name}.json").read_text())
    assert trace["numerics"] == tintin.NUMERICS
    base = Sequential([layer(words) for words in trace["layers"]], trace["input"], trace["seed"])
    assert base.digest() == int(trace["initial_digest"], 16)
    x = tintin.Quantized(np.array(trace["support"], np.int8), trace["input_exponent"])
    told, passes = told_of(trace), trace["passes"]
    prototypes = [done["prototypes"] for done in passes[1:]] + [trace["prototypes"]]
    for count, wanted in enumerate(prototypes, 1):  # a shorter run is the beginning of a longer one
        found = base.adapt(x, trace["labels"], steps=count, **told)
        assert found.prototypes.tolist() == wanted, f"after pass {count}"
    rows = {trained.layer: list(trained.rows) for trained in found.trained}
    assert rows == {chosen["layer"]: chosen["rows"] for chosen in passes[0]["chosen"]}
    steps = [step for done in passes for step in done["steps"]]
    assert found.digests == [int(step["digest"], 16) for step in steps]
    sizes = [len(step["samples"]) for step in steps]
    losses = [loss * size / UNIT for loss, size in zip(found.losses, sizes, strict=True)]
    assert losses == pytest.approx([step["loss"] for step in steps], rel=1e-12)
    assert found.accuracies == [step["correct"] / size for step, size in zip(steps, sizes, strict=True)]
    check_tensors(found.net, {entry["layer"]: entry for entry in trace["final"]})
    asked = tintin.Quantized(np.array([p["x"] for p in trace["predict"]], np.int8), trace["input_exponent"])
    mantissas, scales = found.net._engine.predict(asked.mantissas, asked.exponent)
    assert mantissas.tolist() == [p["f"] for p in trace["predict"]]
    assert scales.tolist() == [p["scale"] for p in trace["predict"]]
    assert found.predict(asked).tolist() == [p["class"] for p in trace["predict"]]


@st.composite
def residual_nets(draw: Any) -> tuple[list[dict[str, Any]], tuple[int, int, int]]:
    """A small chain, at times with a way around its last layers."""
    layers, first = draw(nets())
    shape = first
    for words in layers:
        shape = oracle.output_shape(words, shape)
    if layers[-1]["kind"] == "Flatten" or draw(st.booleans()):
        return layers, first
    here = len(layers) - 1

    def conv(extent: int) -> dict[str, Any]:
        size = {"kernel": [extent] * 2, "stride": [1, 1], "padding": [extent // 2] * 2}
        return {"kind": "Conv2d", "out_channels": shape[2], **size, "bias": draw(st.booleans())}

    way = draw(st.sampled_from(["same", "twice", "branch"]))
    layers = [*layers, conv(3)]
    if way == "branch":
        layers += [{"kind": "Branch", "from": here}, conv(1)]
    layers.append({"kind": "Add", "from": here + 1 if way == "branch" else here})
    if way == "twice":
        layers += [{"kind": "ReLU"}, conv(1), {"kind": "Add", "from": here}]
    return layers, first


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_random_adaptations_agree_with_the_oracle(data: Any) -> None:
    """All of it: information, scores, choice against the plans' prices, rows, moved queries, steps, prototypes."""
    draw = data.draw
    words, shape = draw(residual_nets())
    seed, exponent = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([-7, -12, 3]))
    base, other = Sequential([layer(one) for one in words], shape, seed), oracle.Model(words, shape, seed, exponent)
    classes, passes, batch = draw(st.integers(2, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 5))
    temperature, ratio = draw(st.integers(0, 6)), draw(st.integers(1, ONE))
    limits = [draw(st.integers(0, 2)), draw(st.integers(0, 2))]
    compute = draw(st.just(ONE) | st.integers(1, ONE))
    least, most = [base.memory(batch, training=training).total for training in (False, True)]
    memory = draw(st.none() | st.integers(least, 2 * most))
    rounding = draw(st.sampled_from(["nearest", "pseudo", "stochastic"]))
    recipe: dict[str, Any] = {"rounding": rounding.capitalize(), "change": 0, "milestones": []}
    recipe |= {"loss": "Prototypes", "temperature": temperature}
    marks = draw(st.sampled_from([(), (0.5,), (0.25, 0.8)]))
    if draw(st.booleans()):
        optimizer: TinTin | Niti = TinTin(draw(st.integers(0, 7)), draw(st.integers(0, 6)), rounding, marks)
        recipe |= {"rule": "TinTin", "start": optimizer.learning_shift, "margin": optimizer.margin}
    else:
        optimizer = Niti(draw(st.integers(-3, 7)), rounding, marks)
        recipe |= {"rule": "Niti", "start": optimizer.mu}
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.permutation(np.repeat(np.arange(classes), rng.integers(2, 4, classes))).tolist()
    x = rng.integers(-127, 128, (len(labels), math.prod(shape))).astype(np.int8)
    steps = passes * -(-len(labels) // batch)
    recipe["milestones"] = [int(mark * steps) for mark in marks]
    recipe["change"] = 0 if not marks else optimizer.decay if isinstance(optimizer, TinTin) else -optimizer.decay

    weighted = [i for i, one in enumerate(words) if oracle.is_weighted(one)]
    full = base._engine.plan_choice(1, [(t["layer"], len(t["mantissas"])) for t in weights(base)], None)
    budgets = [2**63 if memory is None else memory, (full["backward_products"] * compute) >> 15]

    policy = draw(st.sampled_from(["tinytrain", "random_channels"]))

    def price(taken: dict[int, int]) -> list[float]:
        named = [(weighted[i], rows) for i, rows in taken.items()]
        try:
            plan = base._engine.plan_choice(batch, named, memory, policy == "random_channels")
        except ValueError:
            return [math.inf, math.inf]
        return [plan["ram"], plan["backward_products"]]

    wanted = {
        "classes": classes, "temperature": temperature, "limits": limits, "batch": batch, "passes": passes,
        "ratio": ratio, "budgets": budgets, "rows": "Drawn" if policy == "random_channels" else "Information",
    }  # fmt: skip
    try:
        found = base.adapt(
            tintin.Quantized(x, exponent), labels, policy=policy, memory_budget=memory, compute_budget=compute / ONE,
            steps=passes, batch_size=batch, optimizer=optimizer, temperature=1 << temperature, shift=tuple(limits),
            ratio=ratio / ONE, inspect=0,
        )  # fmt: skip
    except ValueError as error:
        assert "no layer fits" in str(error)
        slots = other.inspect(x.tolist(), labels, other.prototypes(x.tolist(), labels, classes), recipe)
        if oracle.choose([s["score"] for s in slots], [s["d"] for s in slots], ratio, budgets, price):
            # then it is the inspection that does not fit
            least = re.findall(r"the smallest memory_budget is (\d+)", str(error))
            assert memory is not None and memory < int(least[0])
        return
    if not found.trained:
        slots = other.inspect(x.tolist(), labels, other.prototypes(x.tolist(), labels, classes), recipe)
        assert all(slot["score"] is None for slot in slots)
        assert found.digests == [] and found.net.to_bytes() == base.to_bytes()
        assert found.memory == base.memory(training=False).total and found.products == 0
        return
    _, done = other.adapt(x.tolist(), labels, wanted, recipe, price)
    assert {t.layer: list(t.rows) for t in found.trained} == done[0]["chosen"]
    assert found.digests == [int(step["digest"], 16) for each in done for step in each["steps"]]
    assert found.prototypes.tolist() == other.prototypes(x.tolist(), labels, classes)
    assert found.memory == price({weighted.index(t.layer): t.count for t in found.trained})[0] <= budgets[0]
    assert found.products <= budgets[1] and found.full_products == full["backward_products"]


# What may move


def weights(of: Sequential) -> list[dict[str, Any]]:
    return [tensor for tensor in of.tensors() if not tensor["bias"]]


def moved(before: Sequential, after: Sequential) -> dict[tuple[int, bool], set[int]]:
    """Rows that differ, by layer and whether of the bias; scales count as all rows."""
    found = {}
    for old, new in zip(before.tensors(), after.tensors(), strict=True):
        rows = np.flatnonzero((old["mantissas"] != new["mantissas"]).reshape(len(old["mantissas"]), -1).any(axis=1))
        found[old["layer"], old["bias"]] = set(range(len(old["mantissas"])) if old["scale"] != new["scale"] else rows)
    return found


@pytest.mark.parametrize("policy", POLICIES)
def test_only_what_is_said_learns(policy: str) -> None:
    base = net()
    before = base.to_bytes()
    found = adapted(policy, base, steps=25)  # 75 steps: N20 acts on the way
    assert base.to_bytes() == before
    assert found.net.step == len(found.losses) == len(found.digests) == len(found.accuracies) == 75
    assert found.digests[-1] == found.net.digest() != base.digest()
    assert all(trained.count <= ROWS[trained.layer] for trained in found.trained)
    changed = moved(base, found.net)
    told = {trained.layer: trained for trained in found.trained}
    assert set(told) <= {"full": {0, 2, 5, 8}, "last_layer": {8}}.get(policy, {2, 5, 8})
    for (index, bias), rows in changed.items():
        if index not in told:
            assert not rows
        elif told[index].count == 0:  # its bias alone, but that wholly
            assert bias or not rows
        elif policy in ("tinytrain", "sparse", "layers", "full", "last_layer"):
            assert len(told[index].rows) == told[index].count
            assert rows <= set(told[index].rows)
    assert any(changed.values())


def test_which_layers_the_plain_policies_take() -> None:
    assert adapted("full").choices == list(ROWS.items())
    assert adapted("last_layer").choices == [(8, 9)]
    assert adapted("bias_only").choices == [(2, 0), (5, 0), (8, 0)]
    assert adapted("dynamic", rows=(0.2, 0.5)).choices == [(2, 2), (5, 3), (8, 4)]
    assert adapted("sparse").choices == adapted("layers").choices == sorted(BY_HAND)
    for policy in ("tinytrain", "random_channels"):
        assert adapted(policy, inspect=8).choices == [(8, 5)]
        assert adapted(policy, inspect=1e-9).choices == [(8, 5)]


def test_sparse_takes_the_rows_of_the_largest_weights() -> None:
    base = net()
    for trained in adapted("sparse", base).trained:
        if trained.count:
            (w,) = (t["mantissas"] for t in weights(base) if t["layer"] == trained.layer)
            sizes = (w.astype(int) ** 2).sum(axis=1)
            assert set(trained.rows) == set(np.argsort(-sizes, kind="stable")[: trained.count])


def test_rows_by_information_whatever_is_inspected() -> None:
    """Layers before the inspected ones once got rows by the information of others."""
    choices = [(0, 2), (8, 3)]
    found = [adapted("layers", choices=choices, inspect=inspect) for inspect in (0, 0.5, 8)]
    assert all(other.trained == found[0].trained for other in found)
    assert all(other.digests == found[0].digests for other in found)


@pytest.mark.parametrize("policy", POLICIES)
def test_same_bits_again_and_on_any_number_of_threads(policy: str) -> None:
    before = tintin.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 1):
            tintin.set_num_threads(threads)
            found.append(adapted(policy))
    finally:
        tintin.set_num_threads(before)
    first = found[0]
    for other in found[1:]:
        assert other.net == first.net and other.digests == first.digests and other.losses == first.losses
        assert (other.prototypes == first.prototypes).all() and other.trained == first.trained
        assert (other.memory, other.products) == (first.memory, first.products)


def test_a_shift_of_one_number_leaves_signals_at_their_height() -> None:
    signal = Sequential([Conv2d(4, (1, 3)), ReLU(), Flatten(), Linear(5)], input_shape=(1, 16, 4), seed=2)
    x = X.reshape(12, 1, 16, 4)
    assert signal.adapt(x, Y, steps=2, shift=2).digests == signal.adapt(x, Y, steps=2, shift=(0, 2)).digests
    assert net().adapt(X, Y, steps=2, shift=2).digests == net().adapt(X, Y, steps=2, shift=(2, 2)).digests
    assert net().adapt(X, Y, steps=2, shift=[0, 2]).digests != net().adapt(X, Y, steps=2, shift=(2, 2)).digests


def test_labels_of_any_numbers() -> None:
    plain = adapted("tinytrain")
    assert plain.classes.tolist() == [0, 1, 2]
    for names in ([-7, 0, 4_000_000_000], [10, 11, 255], [False, True, 2]):
        found = net().adapt(X, [names[y] for y in Y], steps=3, inspect=0.75)
        assert found.digests == plain.digests and found.classes.tolist() == names
        assert found.predict(X).tolist() == [names[y] for y in plain.predict(X)]
        assert found.score(X, found.predict(X)) == 1.0
    assert net().adapt(X, Y.astype(np.uint8), steps=3, inspect=0.75).digests == plain.digests


def test_batches_differ_by_one_sample() -> None:
    found = adapted("last_layer", batch_size=5, steps=2)
    assert len(found.losses) == 6  # 12 samples: three of 4 a pass, not 5, 5 and 2
    assert all(4 * share == round(4 * share) for share in found.accuracies)
    whole = adapted("last_layer", batch_size=100, steps=2)
    assert len(whole.losses) == 2 and all(12 * share == pytest.approx(round(12 * share)) for share in whole.accuracies)


def test_adapted_is_a_net_to_keep(tmp_path: Path) -> None:
    found = adapted("tinytrain", steps=5)
    found.net.save(tmp_path / "a.tin")
    again = tintin.load(tmp_path / "a.tin")
    assert again == found.net and again.digest() == found.digests[-1]
    assert found.classes[again.nearest(X, found.prototypes)].tolist() == found.predict(X).tolist()
    assert (again.nearest(X, np.asfortranarray(found.prototypes)) == again.nearest(X, found.prototypes)).all()
    assert "3 classes" in repr(found) and f"{found.memory:,} bytes" in repr(found)
    # a second task goes on from there
    second = found.net.adapt(X[::-1].copy(), Y, steps=2)
    assert second.net.step == found.net.step + len(second.losses)


# Budgets


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("budget", [None, 12_000, 16_000])
def test_memory_is_the_plan_of_the_choice(policy: str, budget: int | None) -> None:
    base = net()
    try:
        found = adapted(policy, base, memory_budget=budget, compute_budget=1.0)
    except ValueError as error:
        assert policy in ("full", "sparse", "layers", "bias_only", "dynamic") and str(budget) in str(error)
        return
    assert budget is None or found.memory <= budget
    redrawn = policy if policy in ("random_channels", "dynamic") else None
    memory = base.memory(5, policy=redrawn, choices=found.choices, limit=budget)
    assert memory.total == found.memory == sum(memory.by_role.values())
    assert {row["layer"] for row in memory.by_layer if row["weights_ram"]} == {t.layer for t in found.trained}
    learning = [t for t in found.trained if 0 < t.count < ROWS[t.layer]]
    assert memory.by_role.get("chosen rows", 0) == sum(-(-ROWS[t.layer] // 8) for t in learning)
    assert found.full_products == adapted("full").products >= found.products > 0
    if policy in ("full", "last_layer", "bias_only", "dynamic"):
        rows = {"rows": POLICIES[policy]["rows"]} if policy == "dynamic" else {}
        if not rows:
            assert base.memory(5, policy=policy, inspect=0.75, limit=budget).total == found.memory
    else:
        assert base.memory(5, policy=policy, choices=found.choices, limit=budget).total == found.memory


def test_of_fixed_rows_those_alone_lie_in_ram() -> None:
    base = Sequential([Linear(40, bias=True), ReLU(), Linear(20, bias=True)], (1, 1, 30), seed=1)
    apart = base.memory(1, choices=[(0, 7), (2, 20)])
    whole = base.memory(1, policy="random_channels", choices=[(0, 7), (2, 20)])
    biases = base.memory(1, policy="bias_only", inspect=0)
    for memory, first, second in ((apart, 7 * 30 + 40, 820), (whole, 1240, 820), (biases, 40, 20)):
        assert [row["weights_ram"] for row in memory.by_layer[1:]] == [first, second]
        assert [row["weights_flash"] for row in memory.by_layer[1:]] == [1240 - first, 820 - second]
        assert memory.by_role["weights"] == first + second
        assert memory.total == sum(memory.by_role.values())
        assert memory.flash_by_role["weights copied to RAM"] == first + second
    # the sums of the 7 rows and the words of their kernel fit into the workspace of the wider layer
    assert whole.total - apart.total == 33 * 30


def test_full_is_the_plan_of_training() -> None:
    base = net()
    for batch in (1, 5):
        assert base.memory(batch, policy="full").total == base.memory(batch).total
    assert adapted("full").memory == base.memory(5).total


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
def test_budgets_hold_and_larger_ones_take_no_less(ratio: float) -> None:
    base = tintin.zoo.resnet8((8, 8, 1), None, width=8)
    full = adapted("full", base)
    for given_budgets in (
        [{"memory_budget": int(full.memory * share)} for share in (0.3, 0.45, 0.6, 0.8, 1.0, 1.5)],
        [{"compute_budget": share} for share in (0.01, 0.05, 0.15, 0.4, 1.0)],
    ):
        taken = []
        for budget in given_budgets:
            found = adapted("tinytrain", base, **{"compute_budget": 1.0, **budget}, inspect=0, ratio=ratio)
            assert found.memory <= budget.get("memory_budget", math.inf)
            assert found.products <= budget.get("compute_budget", 1.0) * full.products
            assert all(t.count <= math.ceil(ratio * rows_of(base, t.layer)) for t in found.trained)
            taken.append(len(found.trained))
        assert taken == sorted(taken) and taken[0] < taken[-1] == len(weights(base)), taken


def rows_of(of: Sequential, index: int) -> int:
    return next(len(t["mantissas"]) for t in weights(of) if t["layer"] == index)


@pytest.mark.parametrize("policy", ["tinytrain", "random_channels"])
@pytest.mark.parametrize(
    ("budgets", "name"),
    [
        ({"memory_budget": 1}, "memory_budget"),
        ({"compute_budget": 1e-6}, "compute_budget"),
        ({"compute_budget": 1e-6, "memory_budget": 20_000}, "compute_budget"),
    ],
)
def test_a_budget_too_small_tells_the_smallest_that_works(policy: str, budgets: dict[str, Any], name: str) -> None:
    base = net()
    before = base.to_bytes()
    with pytest.raises(ValueError) as caught:
        adapted(policy, base, **budgets)
    (told,) = re.findall(rf"the smallest {name} is ([\d.]*\d)", str(caught.value))
    least = type(budgets[name])(told)
    found = adapted(policy, base, **{**budgets, name: least})
    assert len(found.trained) == 1
    if name == "memory_budget":
        assert found.memory <= least  # the inspection may need more
        refused(ValueError, f"is {least}", call=lambda: adapted(policy, base, memory_budget=least - 1))
    else:
        assert found.products <= least * found.full_products
        refused(ValueError, f"is {told}", call=lambda: adapted(policy, base, **{**budgets, name: least - 2e-4}))
    assert base.to_bytes() == before


def test_both_budgets_too_small() -> None:
    refused(ValueError, "both", call=lambda: adapted("tinytrain", memory_budget=1, compute_budget=1e-6))


def test_a_policy_that_does_not_choose_must_fit() -> None:
    with pytest.raises(ValueError, match="does not fit") as caught:
        adapted("full", memory_budget=5_000)
    (least,) = re.findall(r"(\d+) bytes needed", str(caught.value))
    assert adapted("full", memory_budget=int(least)).memory == int(least)
    refused(ValueError, "5000 allowed", call=lambda: adapted("sparse", choices=[(0, 1)], memory_budget=5_000))


# Episodes


def test_fit_episodes_learns() -> None:
    data = tintin.datasets.load("digits")
    base, new = data.y_train < 6, data.y_test >= 6
    one = tintin.zoo.resnet8((8, 8, 1), None, width=8)
    history = one.fit_episodes(data.x_train[base], data.y_train[base], 200, progress=False)
    assert history["epoch"] == list(range(1, 11)) and set(history["loss_name"]) == {"prototypes"}
    assert history["accuracy"][-1] > 0.9 > history["accuracy"][0]  # of five classes
    assert history["loss"][-1] < history["loss"][0] / 2
    assert one.step == 200
    support = np.concatenate([np.flatnonzero(data.y_train == digit)[:10] for digit in range(6, 10)])
    found = one.adapt(data.x_train[support], data.y_train[support], policy="full", steps=20)
    assert found.score(data.x_test[new], data.y_test[new]) > 0.7  # of four classes it has never seen
    again = tintin.zoo.resnet8((8, 8, 1), None, width=8)
    again.fit_episodes(data.x_train[base], data.y_train[base].astype(int) * 7 - 3, 200, progress=False)
    assert again == one  # names of classes do not matter
    other = tintin.zoo.resnet8((8, 8, 1), None, width=8)
    other.fit_episodes(data.x_train[base], data.y_train[base], 200, seed=1, progress=False)
    assert other.digest() != one.digest()
