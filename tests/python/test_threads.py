"""One net and several threads, nets in threads, and signals while a net is at work."""

from __future__ import annotations

import os
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
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
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
    convolutions = [layer for _ in range(2) for layer in (Conv2d(32, 5, padding=2), ReLU(), MaxPool2d(2))]
    net = Sequential([*convolutions, Flatten(), Linear(10)], (28, 28, 1))
    x = np.random.default_rng(0).integers(0, 256, (600, 28, 28), dtype=np.uint8)
    started, done = threading.Event(), threading.Event()

    def step() -> None:
        started.set()
        try:
            net.partial_fit(x, np.zeros(600, np.uint8))
        finally:
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


def threads_are(n: int) -> Callable[[], None]:
    before = tintin.get_num_threads()
    tintin.set_num_threads(n)
    return lambda: tintin.set_num_threads(before)


def test_one_digest_for_any_number_of_threads() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (400, 28, 28), dtype=np.uint8), rng.integers(0, 10, 400)
    found = []
    for n in (1, 2, 3, 8):
        back = threads_are(n)
        try:
            assert tintin.get_num_threads() == n
            net = models.lenet5()
            net.fit(x, y, epochs=2, batch_size=100)
            found.append((net.digest(), net.evaluate(x, y), net.predict(x).tolist(), net.logits(x).tolist()))
        finally:
            back()
    assert all(other == found[0] for other in found[1:])


@pytest.mark.parametrize("n", [0, -1, 1025, 2.5, "2"])
def test_numbers_of_threads_that_cannot_be(n: Any) -> None:
    before = tintin.get_num_threads()
    with pytest.raises((ValueError, OverflowError, TypeError)):
        tintin.set_num_threads(n)
    assert tintin.get_num_threads() == before


@pytest.mark.parametrize(
    ("variable", "text", "told"),
    [
        ("TINTIN_NUM_THREADS", "0", "TINTIN_NUM_THREADS must be a whole number from 1 to 1024, got '0'"),
        ("TINTIN_NUM_THREADS", "two", "TINTIN_NUM_THREADS must be a whole number from 1 to 1024, got 'two'"),
        ("TINTIN_KERNELS", "sse9", "TINTIN_KERNELS is 'sse9'; this machine has portable"),
    ],
)
def test_environments_that_cannot_be(variable: str, text: str, told: str) -> None:
    environment = os.environ | {variable: text}
    done = subprocess.run([sys.executable, "-c", "import tintin"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert told in done.stderr.splitlines()[-1]


def test_the_environment_sets_the_number_of_threads() -> None:
    environment = os.environ | {"TINTIN_NUM_THREADS": "3", "TINTIN_KERNELS": "portable"}
    source = "import tintin; print(tintin.get_num_threads(), tintin.kernels())"
    done = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "3 portable\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_training_goes_on_in_a_forked_child() -> None:
    """The pool's threads do not come along: the child makes its own and ends on the digest of its parent."""
    done = run("""
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads, which is what is tried here
tintin.set_num_threads(2)
x, y = np.random.default_rng(0).integers(0, 256, (600, 28, 28), dtype=np.uint8), np.zeros(600, np.uint8)
def train():
    net = tintin.models.lenet5()
    net.fit(x, y, batch_size=200)
    net.predict(x)
    return net.digest()
first = train()
child = os.fork()
if child == 0:
    os._exit(0 if train() == first else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert train() == first
print("both")
""")
    assert done.stdout == "both\n", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_epochs() -> None:
    done = run("""
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")
def epochs(n):
    net.fit(x, y, epochs=n, batch_size=16, validation_data=(x[:100], y[:100]))
epochs(20)
before = resident()
epochs(200)
print(resident() - before)
""")
    assert int(done.stdout) < 1 << 20, done.stderr
