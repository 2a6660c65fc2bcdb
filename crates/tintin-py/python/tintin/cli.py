"""The `tintin` command: train, eval, report, demo, boards, audit, verify, doctor.

With `--json`, stdout carries exactly one JSON object and everything else goes to stderr. Exit codes: 0 done,
1 a check found something (audit, verify), 2 a mistake in the command or its input (one line on stderr), 3 emulator or
firmware missing (the line tells what to run), 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__

if TYPE_CHECKING:
    from .datasets import Dataset
    from .history import History

#: model trained when none is named; the others are too large for 8 x 8 pictures
DEFAULT_MODEL = {"digits": "small"}
FALLBACK_MODEL = "lenet5"
VALIDATION_SEED = 0x7177


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` and return the exit code."""
    arguments = _parser().parse_args(argv)
    out = sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr if arguments.json else out):
            result, text = arguments.run(arguments)
        if arguments.json:
            text = json.dumps(_plain(result), allow_nan=False)
        if text:
            print(text, file=out)
        out.flush()
        return int(arguments.exit_code)
    except KeyboardInterrupt:
        wrote = " and ".join(str(path) for path in arguments.wrote)
        print(f"\ntintin: interrupted; {f'written before: {wrote}' if wrote else 'nothing was saved'}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output went away, as in `tintin doctor | head -1`; nothing is left to tell anyone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except (ValueError, TypeError, OSError, ImportError, MemoryError, OverflowError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"tintin: {message}", file=sys.stderr)
        if arguments.json:
            print(json.dumps({"error": message}), file=out)
        return int(getattr(error, "exit_code", 2))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tintin", description="Train small neural networks in integers only, as a microcontroller does."
    )
    parser.add_argument("--version", action="version", version=f"tintin {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        sub.set_defaults(wrote=[])  # files that are there when Ctrl-C comes
        sub.set_defaults(exit_code=0)  # a command that only looked and found something sets 1
        sub.add_argument("--json", action="store_true", help="print one JSON object on stdout, all else on stderr")
        return sub

    train = command("train", _train, "Train a net on a data set, test it, and save it.")
    train.add_argument("--model", help="lenet5, mlp, small or one of tintin.zoo (default: the one that suits the data)")
    train.add_argument("--data", default="mnist", help="mnist, fashion_mnist or digits (default: %(default)s)")
    train.add_argument("--epochs", type=_positive, default=10, help="default: %(default)s")
    train.add_argument("--batch-size", type=_positive, default=64, help="default: %(default)s")
    train.add_argument("--optimizer", choices=("tintin", "niti"), default="tintin", help="default: %(default)s")
    train.add_argument("--learning-shift", type=int, help="TinTin: each step is divided by 2 to this power")
    train.add_argument("--mu", type=int, help="NITI: bits of a step (-5 to 7)")
    train.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    train.add_argument(
        "--validation-fraction", type=_fraction, default=0.0, metavar="F",
        help="share of the training samples held out and told after each epoch (default: none)",
    )  # fmt: skip
    train.add_argument("--out", type=Path, metavar="FILE", help="save the net here, and its history beside it")

    evaluate = command("eval", _eval, "Test a saved net.")
    evaluate.add_argument("model", type=Path, metavar="MODEL.tin")
    evaluate.add_argument("--data", required=True, help="mnist, fashion_mnist or digits")

    report = command("report", _report, "Write a page about a saved net: accuracy, confusion, memory.")
    report.add_argument("model", type=Path, metavar="MODEL.tin")
    report.add_argument("--data", required=True, help="mnist, fashion_mnist or digits")
    report.add_argument("--out", type=Path, required=True, metavar="FILE.html")
    report.add_argument("--batch-size", type=_positive, default=1, help="batch of the training memory told")

    demo = command("demo", _demo, "Train LeNet-5 on MNIST (or a small net on digits) and show what came of it.")
    demo.add_argument("--data", choices=("mnist", "fashion_mnist", "digits"), help="default: mnist, else digits")
    demo.add_argument("--epochs", type=_positive, help="default: 3, on digits 30")
    demo.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    demo.add_argument("--out-dir", type=Path, default=Path("tintin-demo"), help="default: %(default)s")

    audit = command("audit", _audit, "Prove what a firmware image is free of, and tell its stack, flash and RAM.")
    audit.add_argument("image", type=Path, metavar="FIRMWARE.elf", help="as linked for a Cortex-M, not stripped")
    audit.add_argument("--whole", action="store_true", help="hold the whole image to the rules, not the trainer alone")
    audit.add_argument(
        "--budget", type=Path, metavar="FILE.toml", help="limits to hold the image to, see docs/audit.md"
    )
    audit.add_argument("--firmware", metavar="NAME", help="name of the image in the budget (default: the file's)")

    verify = command(
        "verify", _verify,
        "Train a net here and on emulated microcontrollers, and compare digest and loss after every step. "
        "Needs qemu-system-arm. Exit code 0: equal, 1: they differ, 3: emulator or firmware is missing.",
    )  # fmt: skip
    verify.add_argument(
        "model", type=Path, nargs="?", metavar="MODEL.tin",
        help="goes on as it was trained last (default: a new LeNet-5 for mnist, or a small net for digits)",
    )  # fmt: skip
    verify.add_argument("--core", default="all", help="m0, m3, m4, m7, m33 or all (default: %(default)s)")
    verify.add_argument("--steps", type=_positive, default=100, help="default: %(default)s")
    verify.add_argument("--batch-size", type=_positive, default=1, help="default: %(default)s")
    verify.add_argument(
        "--data", help="mnist, fashion_mnist or digits (default: mnist or digits, where at hand and fit, else noise)"
    )
    verify.add_argument("--seed", type=_seed, default=0, help="of a new net and of noise (default: %(default)s)")
    verify.add_argument(
        "--portable", action="store_true", help="firmware without the kernels written for each core, to compare them"
    )

    boards = command("boards", _boards, "Tell the boards there is firmware for, and which of them a saved net fits.")
    boards.add_argument("model", type=Path, nargs="?", metavar="MODEL.tin")
    boards.add_argument("--batch-size", type=_positive, default=1, help="samples of a step (default: %(default)s)")
    boards.add_argument("--inference", action="store_true", help="the net is used there, not trained")

    command("doctor", _doctor, "Tell versions, optional packages, data sets and tools, found or missing.")
    return parser


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return value


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) < 2**32):
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 2^32 - 1, got {text!r}")
    return int(text)


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be a number of at least 0 and less than 1, got {text!r}")
    return value


def _train(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from . import datasets, models

    optimizer = _optimizer(arguments.optimizer, arguments.learning_shift, arguments.mu)
    if arguments.out is not None:
        _check_writable(arguments.out)
    data = datasets.load(arguments.data)
    model = arguments.model or DEFAULT_MODEL.get(data.name, FALLBACK_MODEL)
    net = models.build(model, data.input_shape, len(data.classes), arguments.seed)
    history, result = _fit(net, data, arguments.epochs, arguments.batch_size, optimizer, arguments.validation_fraction)
    result = {
        "model": model, "data": data.name, "optimizer": arguments.optimizer, "seed": arguments.seed,
        "epochs": arguments.epochs, "batch_size": arguments.batch_size, **result,
    }  # fmt: skip
    if arguments.out is not None:
        _save(arguments, net, history, arguments.out)
        result["out"] = str(arguments.out)
    lines = [repr(history), _verdict(result)]
    if arguments.out is not None:
        lines.append(f"saved {arguments.out}")
    return result, "\n".join(lines)


def _eval(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    net, data = _load(arguments.model, arguments.data)
    result = {"model": str(arguments.model), "data": data.name, **_test(net, data), "digest": _digest(net)}
    return result, _verdict(result)


def _report(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from . import _extras
    from .report import write_report

    _extras.require("matplotlib", "a report")
    _check_writable(arguments.out)
    net, data = _load(arguments.model, arguments.data)
    history = _load_history(arguments.model, net)
    result = write_report(net, history, data, arguments.out, batch_size=arguments.batch_size)
    result = {"model": str(arguments.model), **result, "out": str(arguments.out)}
    return result, f"{_verdict(result)}\nwrote {arguments.out}"


def _demo(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    import tintin

    from . import _extras, models
    from .report import confusion_matrix, plot_training

    _extras.require("matplotlib", "the demo's picture")
    folder: Path = arguments.out_dir
    folder.mkdir(parents=True, exist_ok=True)
    data = _demo_data(arguments.data)
    model = DEFAULT_MODEL.get(data.name, FALLBACK_MODEL)
    epochs = arguments.epochs or (30 if data.name == "digits" else 3)
    net = models.build(model, data.input_shape, len(data.classes), arguments.seed)
    print(f"{data}\n\n{net.summary()}\n")
    history, result = _fit(net, data, epochs, 64, tintin.TinTin(), 0.1)
    model_path, picture = folder / f"{model}-{data.name}.tin", folder / "training.png"
    _save(arguments, net, history, model_path)
    memory = net.memory(batch_size=1, training=True)
    result = {
        "model": model, "data": data.name, "seed": arguments.seed, "epochs": epochs, "batch_size": 64, **result,
        "out": str(model_path), "picture": str(picture),
    }  # fmt: skip
    title = f"{model} on {data.name}: {result['test_accuracy']:.2%} of the test samples right, in 8-bit integers"
    confusion = confusion_matrix(data.y_test, net.predict(data.x_test), data.classes)
    plot_training(history, confusion, data.classes, picture, title)
    text = [
        repr(history), "", "RAM to train on a microcontroller, one sample at a time:", str(memory), "",
        _verdict(result), f"model   {model_path}", f"picture {picture}",
    ]  # fmt: skip
    return result, "\n".join(text)


def _audit(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from . import audit

    try:
        result = audit.audit(
            arguments.image, whole=arguments.whole, budgets=arguments.budget, firmware=arguments.firmware
        )  # fmt: skip
    except audit.NotProvable as error:
        print(audit.text(error.result))
        raise
    arguments.exit_code = 1 if result["findings"] else 0
    return result, audit.text(result)


def _verify(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    import tintin

    from . import device

    names = list(device.CORES) if arguments.core == "all" else [arguments.core]
    net = device.default(arguments.seed) if arguments.model is None else tintin.load(arguments.model)
    recipe = device.recipe_of(net, arguments.batch_size)
    emulators = [(name, device.Emulator(name, arguments.portable)) for name in names]  # all, before any trains
    given = device.choose_samples(net, recipe.loss, arguments.data, arguments.seed)
    steps, batch = arguments.steps, arguments.batch_size
    about = arguments.model or f"a new net of {net.memory(training=False).weights:,} weights"
    print(
        f"{about}: rule {recipe.rule}, {recipe.rounding} rounding, loss {recipe.loss}, batch {batch}, {given.source}",
        file=sys.stderr,
    )
    cores = []
    for name, emulator in emulators:
        with emulator as runner:
            try:
                outcome = device.compare(runner, net, given, recipe, steps, batch)
            except device.DoesNotFit as error:
                print(error.table, file=sys.stderr)
                raise
        cores.append(_core(name, emulator, outcome))
        if not arguments.json:
            print(_core_line(cores[-1]), flush=True)
    equal = all(core["equal"] for core in cores)
    arguments.exit_code = 0 if equal else 1
    result = {
        "model": None if arguments.model is None else str(arguments.model), "samples": given.source, "steps": steps,
        "batch_size": batch, "seed": arguments.seed, "rule": recipe.rule, "rounding": recipe.rounding,
        "loss": recipe.loss, "numerics": tintin.NUMERICS, "equal": equal, "cores": cores,
    }  # fmt: skip
    return result, ""


def _core(name: str, emulator: Any, outcome: Any) -> dict[str, Any]:
    """What comparing with one core came to, as plain values."""
    core, difference = emulator.core, outcome.difference
    return {
        "core": name, "name": core.name, "machine": core.machine, "note": core.note, "target": outcome.hello.target,
        "kernels": outcome.hello.kernels, "firmware": str(emulator.image), "equal": outcome.equal,
        "steps": outcome.steps, "digest": f"{outcome.digest:#018x}",
        "difference": None if difference is None else {
            "step": difference.step, "tensors": difference.tensors, "text": str(difference),
        },
    }  # fmt: skip


def _core_line(core: dict[str, Any]) -> str:
    about = f"{core['name']}, {core['kernels']} kernels" + (f"; {core['note']}" if core["note"] else "")
    if core["equal"]:
        return f"{core['core']}: {core['steps']} steps, equal, digest {core['digest']} ({about})"
    return f"{core['core']}: DIFFERS after {core['steps']} equal steps at {core['difference']['text']} ({about})"


def _boards(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    import tintin

    from . import boards

    fits = None
    if arguments.model is not None:
        net = tintin.load(arguments.model)
        fits = boards.fit(net, batch_size=arguments.batch_size, training=not arguments.inference)
    elif arguments.batch_size != 1 or arguments.inference:
        raise ValueError("--batch-size and --inference say how a model is used: name its file (tintin boards m.tin)")
    return {"boards": boards.facts(fits)}, boards.text(fits)


def _doctor(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from . import doctor

    found = doctor.facts()
    return found, "" if arguments.json else doctor.text(found)


def _optimizer(name: str, learning_shift: int | None, mu: int | None) -> Any:
    import tintin

    if name == "niti":
        if learning_shift is not None:
            raise ValueError("--learning-shift belongs to the optimizer tintin; niti takes --mu")
        return tintin.Niti() if mu is None else tintin.Niti(mu=mu)
    if mu is not None:
        raise ValueError("--mu belongs to the optimizer niti; tintin takes --learning-shift")
    return tintin.TinTin() if learning_shift is None else tintin.TinTin(learning_shift=learning_shift)


def _fit(
    net: Any, data: Dataset, epochs: int, batch_size: int, optimizer: Any, fraction: float
) -> tuple[History, dict[str, Any]]:
    """Train with a bar on a terminal and a line per epoch elsewhere, then test."""
    x, y, held_out = _hold_out(data, fraction)
    bar = sys.stderr.isatty()
    start = time.perf_counter()
    history = net.fit(
        x, y, epochs=epochs, batch_size=batch_size, optimizer=optimizer, validation_data=held_out,
        callbacks=[] if bar else [_tell], progress=bar,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    memory = net.memory(batch_size=1, training=True)
    return history, {
        **_test(net, data),
        "seconds": seconds,
        "training_bytes": memory.total,
        "weight_bytes": memory.weights,
        "digest": _digest(net),
        "history": history.epochs,
    }


def _tell(net: Any, record: dict[str, Any]) -> None:
    """Callback of `fit`: one line on stderr after each epoch."""
    from .history import History

    head, row = History([record]).table()
    print(", ".join(f"{name} {cell}" for name, cell in zip(head, row, strict=True)), file=sys.stderr, flush=True)


def _hold_out(data: Dataset, fraction: float) -> tuple[Any, Any, tuple[Any, Any] | None]:
    """Training samples, labels, and the share held out, always the same one for a data set and fraction."""
    import numpy as np

    count = round(len(data.x_train) * fraction)
    if count == 0:
        return data.x_train, data.y_train, None
    order = np.random.Generator(np.random.PCG64(VALIDATION_SEED)).permutation(len(data.x_train))
    held, kept = np.sort(order[:count]), np.sort(order[count:])
    return data.x_train[kept], data.y_train[kept], (data.x_train[held], data.y_train[held])


def _test(net: Any, data: Dataset) -> dict[str, Any]:
    loss, accuracy = net.evaluate(data.x_test, data.y_test)
    return {"test_loss": loss, "test_accuracy": accuracy, "test_samples": len(data.x_test)}


def _digest(net: Any) -> str:
    return f"0x{net.digest():016x}"


def _verdict(result: dict[str, Any]) -> str:
    return (
        f"{result['data']}: {result['test_accuracy']:.2%} of {result['test_samples']} test samples right, "
        f"loss {result['test_loss']:.4f}, digest {result['digest']}"
    )


def _load(path: Path, name: str) -> tuple[Any, Dataset]:
    import tintin

    from . import datasets

    net = tintin.load(path)  # first: a wrong file name shall not wait for a download
    if net._loss() == "squared_error":
        raise ValueError(
            f"{path} was trained with squared_error, so its outputs are values and not classes; "
            "eval and report tell accuracies of classes: use Sequential.evaluate in Python"
        )
    return net, datasets.load(name)


def _demo_data(name: str | None) -> Dataset:
    from . import datasets

    if name is not None:
        return datasets.load(name)
    try:
        return datasets.load("mnist")
    except OSError as error:
        print(f"MNIST is not at hand ({error}); taking scikit-learn's digits instead\n", file=sys.stderr)
        return datasets.load("digits")


def _check_writable(path: Path) -> None:
    """Tell before a long training, not after it, that its result cannot be saved."""
    folder = path.parent
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a file name")
    if not folder.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"cannot write {path}: the folder {folder} is not writable")


def _history_path(model: Path) -> Path:
    return model.with_name(f"{model.name}.history.json")


def _save(arguments: argparse.Namespace, net: Any, history: History, model: Path) -> None:
    """Write the net and the history beside it, and remember what is written."""
    from ._files import write_atomically

    net.save(model)
    arguments.wrote.append(model)
    text = json.dumps(_plain({"digest": _digest(net), "epochs": history.epochs}), allow_nan=False)
    write_atomically(_history_path(model), lambda stream: stream.write(text.encode()))
    arguments.wrote.append(_history_path(model))


def _load_history(model: Path, net: Any) -> History | None:
    """The history `train` left beside the model, if it is this model's."""
    from .history import History

    try:
        record = json.loads(_history_path(model).read_text(encoding="utf-8"))
        return History(record["epochs"]) if record["digest"] == _digest(net) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _plain(value: Any) -> Any:
    """Only what JSON has: numpy scalars become numbers, and numbers that are not finite become null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
