"""One net and several threads, nets in threads, and signals while a net is at work."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tintin
from tintin import (
    Flatten,
    Linear,
    ReLU,
    Sequential,
    datasets,
    models,
)

DATA = datasets.load("digits")
X, Y = DATA.x_train, DATA.y_train


def mlp(seed: int = 0) -> Sequential:
    return Sequential([Flatten(), Linear(16, bias=True), ReLU(), Linear(10)], input_shape=(8, 8, 1), seed=seed)


def at_once(*functions: Callable[[], Any]) -> list[Any]:
    results: list[Any] = [None] * len(functions)

    def run(i: int, function: Callable[[], Any]) -> None:
        try:
            results[i] = function()
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive(), "a lock is held for ever"
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def test_two_threads_on_one_net() -> None:
    net = mlp()

    def use() -> None:
        for _ in range(10):
            net.predict(X[:50])
            net.evaluate(X[:20], Y[:20])
            net.digest(), net.tensors(), net.summary(), net.to_bytes()

    def fit(batch_size: int) -> None:
        net.fit(X[:400], Y[:400], epochs=5, batch_size=batch_size)

    at_once(use, lambda: fit(16), lambda: fit(10), use)
    assert net.step == 5 * 25 + 5 * 40
    assert tintin.Sequential.from_bytes(net.to_bytes()) == net


def test_nets_in_threads_do_not_mix() -> None:
    def fit(seed: int) -> int:
        net = models.small(seed=seed)
        net.fit(X[:300], Y[:300], epochs=2, batch_size=8)
        return net.digest()

    alone = [fit(seed) for seed in range(3)]
    assert at_once(*(lambda seed=seed: fit(seed) for seed in range(3))) == alone


def test_the_interpreter_is_free_while_a_batch_is_computed() -> None:
    """One long step: with the interpreter locked this thread could not count before the step is over."""
    net = models.lenet5()
    x = np.random.default_rng(0).integers(0, 256, (600, 28, 28), dtype=np.uint8)
    started, done = threading.Event(), threading.Event()

    def step() -> None:
        started.set()
        net.partial_fit(x, np.zeros(600, np.uint8))
        done.set()

    counts = []
    for _ in range(3):
        done.clear()
        thread = threading.Thread(target=step)
        thread.start()
        started.wait()
        count = 0
        while not done.is_set():
            time.sleep(0.0005)
            count += 1
        thread.join()
        counts.append(count)
    assert max(counts) >= 5


def run(source: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: signals go to its main thread."""
    before = """
import os, signal, threading, time
import numpy as np, tintin
data = tintin.datasets.load("digits")
x, y = data.x_train, data.y_train
net = tintin.models.small()

def soon(number, seconds=0.2):
    threading.Timer(seconds, os.kill, (os.getpid(), number)).start()
"""
    return subprocess.run([sys.executable, "-c", before + source], capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_interrupt_leaves_a_usable_net() -> None:
    done = run("""
soon(signal.SIGINT)
try:
    net.fit(x, y, epochs=10**6, batch_size=16, progress=True)
except KeyboardInterrupt:
    pass
steps, digest = net.step, net.digest()
assert steps > 0 and digest != tintin.models.small().digest()
assert tintin.Sequential.from_bytes(net.to_bytes()).digest() == digest
net.predict(x[:10])
net.fit(x, y, batch_size=16)
assert net.step == steps + 91
many = np.concatenate([x] * 1000)
soon(signal.SIGINT)
try:
    while True:
        net.predict(many)
except KeyboardInterrupt:
    print("interrupted twice")
net.predict(x)
""")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "interrupted twice\n"


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_a_signal_handler_may_save_the_net_that_trains(tmp_path: Path) -> None:
    path = tmp_path / "m.tin"
    done = run(f"""
class Enough(Exception):
    pass

def save(*_):
    net.save({str(path)!r})
    raise Enough

signal.signal(signal.SIGTERM, save)
soon(signal.SIGTERM)
try:
    net.fit(x, y, epochs=10**6, batch_size=16)
except Enough:
    print(tintin.load({str(path)!r}) == net)

# while it predicts, the net cannot be asked from below; it says so instead of waiting for itself
def ask(*_):
    net.digest()
    soon(signal.SIGTERM)  # it came between two predictions: again

signal.signal(signal.SIGTERM, ask)
many = np.concatenate([x] * 1000)
soon(signal.SIGTERM)
try:
    while True:
        net.predict(many)
except ValueError as error:
    print(error)
net.predict(x)
""")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True\nthis net is at work"), done.stdout


def test_signals_are_as_before() -> None:
    mlp().fit(X[:20], Y[:20], batch_size=10)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
