"""What a training step of LeNet-5 costs on Cortex-M, batch 1: tintin beside float32 in C (rival/), as Markdown tables.

Run by scripts/bench-device.sh, which builds the firmware. Instructions are counted on emulated cores by SysTick under
`-icount shift=0` (crates/tintin-mcu/src/bin/bench.rs) and once more, by phase, by calltree_plugin.c; both must agree.
Cycles are modelled (cycles.toml), milliseconds and millijoules estimated from them (boards.toml).
"""

import argparse
import hashlib
import json
import re
import shutil
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import calltree
import elf
from instructions import Instruction
from tables import grouped, millijoules, milliseconds, ratio, table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RIVAL = HERE / "rival"

WARM_UP, STEPS = 20, 5  # as in both benches
FORWARD_MACS, STEP_MACS = 416_520, 1_131_960  # dense: forward once, dX for every layer but the first, dW once
# SysTick's resolution is 40 instructions; the calls that read it are inside its section and outside the profiler's.
TOLERANCE = 80
TIMEOUT = 600  # seconds for a run that takes one minute at most

# Without -fno-schedule-insns GCC 12 copies sums between float registers: 6 % more instructions on the M4F.
FLAGS = ["-mthumb", "-O3", "-fno-schedule-insns", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Werror"]
LINK = ["-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections", "-nostartfiles", "-T"]
VARIANTS = {
    "blocked": ["blocked.c"],
    "skip": ["loops_forward.c", "skip_backward.c"],
    "plain": ["loops_forward.c", "plain_backward.c"],
}
# What float32 in C is called in tables, best first.
RIVALS = {"blocked": "float32 blocked", "skip": "float32 skip", "plain": "float32 plain"}
LOSS_TOLERANCE = 100  # millionths: the variants add in different orders


@dataclass(frozen=True)
class Core:
    """An emulated core: its Rust target, QEMU machine, table of cycles, and flags of GCC."""

    name: str
    target: str
    machine: str
    cycles: tuple[str, ...]
    flags: tuple[str, ...]


HARD_FLOAT = ("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")

# QEMU's one M0 has too little memory, so an M3 runs the code of an M0+.
CORES = (
    Core("M4F", "thumbv7em-none-eabihf", "mps2-an386", ("m4f",), HARD_FLOAT),
    Core("M3", "thumbv7m-none-eabi", "mps2-an385", ("m3",), ("-mcpu=cortex-m3",)),
    Core("M0+", "thumbv6m-none-eabi", "mps2-an385", ("m0plus", "m0plus_slow"), ("-mcpu=cortex-m0plus",)),
)


# Gives the phase of a call stack.
Phase = Callable[[Iterable[str]], str]


class BenchError(Exception):
    """What went wrong and what to do about it."""


def median(values: Sequence[int]) -> int:
    """Place of the median of an odd number of values."""
    return sorted(range(len(values)), key=lambda i: values[i])[len(values) // 2]


@dataclass
class Run:
    """What one program did on one core. Counts are of the five measured steps."""

    steps: list[dict[str, int]]
    profile: calltree.Profile  # of the median step
    flash: int
    ram: int  # static
    stack: int
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> int:
        """Place of the median step."""
        return median([step["instructions"] for step in self.steps])

    @property
    def instructions(self) -> int:
        """Of the median step, by SysTick."""
        return self.steps[self.median]["instructions"]

    @property
    def forward(self) -> int:
        """Of the median prediction, by SysTick."""
        return int(statistics.median(step["forward"] for step in self.steps))

    def cycles(self, name: str) -> float:
        """Modelled cycles of the median step."""
        return sum(self.profile.cycles[name].values())


def run(command: Sequence[str | Path], what: str) -> str:
    """Output of a command, or a BenchError that shows how it ended."""
    try:
        words = [str(word) for word in command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{what} did not end within {TIMEOUT} s") from error
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
        raise BenchError(f"{what} failed with status {done.returncode}:\n{tail}")
    return done.stdout


def load_cycles() -> dict[str, dict[str, Any]]:
    """The tables of cycles.toml, each with what its base says besides."""
    raw = tomllib.loads((HERE / "cycles.toml").read_text())

    def whole(name: str) -> dict[str, Any]:
        base = raw[name].get("base")
        return {**(whole(base) if base else {}), **raw[name]}

    return {name: whole(name) for name in raw}


def load_boards() -> list[dict[str, Any]]:
    """The boards of boards.toml."""
    boards: list[dict[str, Any]] = tomllib.loads((HERE / "boards.toml").read_text())["board"]
    return boards


def read_steps(text: str, name: str) -> list[dict[str, int]]:
    """The lines `NAME step N key value key value ...` of a bench's output."""
    steps = []
    for line in text.splitlines():
        words = line.split()
        if words[:2] == [name, "step"]:
            pairs = dict(zip(words[3::2], words[4::2], strict=True))
            steps.append({"step": int(words[2]), **{key: int(value, 0) for key, value in pairs.items()}})
    return steps


def build_plugin(out: Path) -> Path:
    """Compiles the profiler's plugin for the QEMU that is installed."""
    major = re.search(r"version (\d+)", run(["qemu-system-arm", "--version"], "qemu-system-arm --version"))
    # QEMU 9 refuses the first version of the plugin interface. What is used of it is the same in the second.
    api = 2 if major and int(major[1]) >= 9 else 1
    compiler = next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
    if compiler is None:
        raise BenchError("no C compiler for this machine; Debian, Ubuntu: apt-get install build-essential")
    plugin = out / "calltree.so"
    command = [compiler, "-O2", "-shared", "-fPIC", "-fvisibility=hidden", f"-DPLUGIN_API={api}"]
    run([*command, "-o", plugin, HERE / "calltree_plugin.c"], "the compiler of the profiler's plugin")
    return plugin


def build_rival(core: Core, variant: str, out: Path) -> tuple[Path, Path]:
    """Compiles a variant of the rival: its bench, and the program that is weighed."""
    made = []
    for main in ("bench.c", "weigh.c"):
        target = out / f"rival-{variant}-{main.removesuffix('.c')}.elf"
        extra = ["start.c", "images.c"] if main == "bench.c" else ["start.c"]
        sources = [RIVAL / name for name in ("lenet5.c", *VARIANTS[variant], *extra, main)]
        run(
            ["arm-none-eabi-gcc", *core.flags, *FLAGS, *LINK, RIVAL / "mps2.ld", *sources, "-lm", "-o", target],
            f"arm-none-eabi-gcc for {core.name}, {variant}",
        )
        made.append(target)
    return made[0], made[1]


@dataclass(frozen=True)
class Setting:
    """What measurements on one core share."""

    core: Core
    plugin: Path
    out: Path
    tables: dict[str, dict[str, Any]]


Code = dict[int, Instruction]  # by address


def measure(setting: Setting, program: Path, code: Code, what: str) -> tuple[str, list[calltree.Tree]]:
    """Runs a bench with the profiler: its output, and its measured steps."""
    core, stem = setting.core, setting.out / what.replace(" ", "-")
    returns, tree = stem.with_suffix(".returns"), stem.with_suffix(".tree")
    returns.write_text("\n".join(f"{address:x}" for address in elf.returns(code)))
    options = f"root={elf.function(program, 'step'):#x},skip={WARM_UP},take={STEPS},returns={returns},out={tree}"
    qemu = ["-icount", "shift=0,sleep=off", "-plugin", f"{setting.plugin},{options}"]
    text = run([ROOT / "scripts/qemu-arm.sh", core.machine, program, *qemu], f"{what} on {core.name}")
    stem.with_suffix(".txt").write_text(text)
    return text, calltree.parse(tree.read_text())


def gather(setting: Setting, program: Path, weighed: Path, what: str, name: str, phase: Phase) -> tuple[Run, str]:
    """Measures a program and profiles its steps; refuses when the two counts differ."""
    code, where = elf.disassemble(program), f"{what} on {setting.core.name}"
    text, trees = measure(setting, program, code, what)
    every = read_steps(text, name)
    steps = every[-STEPS:]
    if len(steps) != STEPS or len(trees) != STEPS:
        raise BenchError(f"{where}: {len(steps)} measured steps and {len(trees)} profiled, expected {STEPS}")
    for step, tree in zip(steps, trees, strict=True):
        if abs(step["instructions"] - tree.instructions()) > TOLERANCE:
            raise BenchError(
                f"{where}, step {step['step']}: SysTick counts {step['instructions']:,} instructions, the profiler "
                f"{tree.instructions():,}; they may differ by {TOLERANCE}"
            )
    addresses = sorted(code)
    place = {address: i for i, address in enumerate(addresses)}
    tree = trees[median([step["instructions"] for step in steps])]
    wanted = {path[1] for path in tree.paths.values() if path}
    for _, start, count, _, _ in tree.blocks:
        wanted.update(addresses[place[start] : place[start] + count])
    stacks = elf.inline_stacks(program, sorted(wanted))
    used = {table: setting.tables[table] for table in setting.core.cycles}
    profile = calltree.profile(tree, code, stacks.__getitem__, phase, used)
    flash, ram = elf.weigh(weighed)
    stack = re.search(rf"^{name} .*stack (\d+)$", text, re.M)
    if not stack:
        raise BenchError(f"{where} did not tell its stack; see {setting.out}")
    return Run(steps, profile, flash, ram, int(stack[1]), {"every": every}), text


def engine(setting: Setting, firmware: Path) -> Run:
    """tintin on a core, with what its bench says of the net without pools."""
    core, release = setting.core, firmware / setting.core.target / "release"
    for name in ("bench", "lenet5"):
        if not (release / name).exists():
            raise BenchError(f"{release / name} is not built; run scripts/bench-device.sh")
    found, text = gather(setting, release / "bench", release / "lenet5", "tintin", "lenet5", calltree.engine_phase)
    for net in ("lenet5", "strided"):
        line = re.search(rf"^{net} median forward (\d+) macs (\d+) step (\d+) macs (\d+) stack (\d+)$", text, re.M)
        if not line:
            raise BenchError(f"tintin on {core.name} printed no medians for {net}; see {setting.out / 'tintin.txt'}")
        keys = ("forward", "forward_macs", "step", "step_macs", "stack")
        found.extra[net] = dict(zip(keys, map(int, line.groups()), strict=True))
    if (found.extra["lenet5"]["forward_macs"], found.extra["lenet5"]["step_macs"]) != (FORWARD_MACS, STEP_MACS):
        raise BenchError("tintin's bench and this one count multiply-accumulates differently")
    return found


def rivals(setting: Setting) -> dict[str, Run]:
    """Every variant of the rival on a core; they must learn the same."""
    core, found = setting.core, {}
    for variant in VARIANTS:
        program, weighed = build_rival(core, variant, setting.out)
        found[variant], _ = gather(setting, program, weighed, f"rival {variant}", "rival", calltree.rival_phase)
    losses = {variant: [step["microloss"] for step in one.extra["every"]] for variant, one in found.items()}
    for variant, values in losses.items():
        worst = max(abs(a - b) for a, b in zip(values, losses["plain"], strict=True))
        if worst > LOSS_TOLERANCE:
            raise BenchError(f"float32 on {core.name}: the losses of {variant} and plain differ by {worst / 1e6}")
    return found


def non_zeros(cache: Path) -> subprocess.Popen[str] | None:
    """Starts the oracle in a process of its own, unless `cache` holds its answer."""
    if cache.exists():
        return None
    command = [sys.executable, str(HERE / "nonzeros.py"), str(WARM_UP + STEPS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


Results = dict[str, tuple[Run, dict[str, Run]]]  # by core: tintin, and the rival's variants


def cost_table(core: Core, ours: Run, theirs: dict[str, Run], tables: dict[str, dict[str, Any]]) -> str:
    """Instructions and modelled cycles of a step, and memory, program by program."""
    head = [core.name, "step", "per MAC", "float32 / tintin"]
    for name in core.cycles:
        title = "modelled cycles" if len(core.cycles) == 1 else f"cycles, multiplier of {tables[name]['multiply']}"
        head += [title, "float32 / tintin"]
    head += ["forward", "per MAC", "static RAM", "flash"]
    rows = []
    for label, one in (("**tintin**", ours), *((RIVALS[v], theirs[v]) for v in RIVALS if v in theirs)):
        row = [label, grouped(one.instructions), f"{one.instructions / STEP_MACS:.2f}"]
        row.append("" if one is ours else ratio(ours.instructions, one.instructions))
        for name in core.cycles:
            row += [grouped(one.cycles(name)), "" if one is ours else ratio(ours.cycles(name), one.cycles(name))]
        row += [grouped(one.forward), f"{one.forward / FORWARD_MACS:.2f}", grouped(one.ram), grouped(one.flash)]
        rows.append(row)
    return table(head, rows)


def split_table(results: Results, cores: list[Core]) -> str:
    """tintin's median step by phase: instructions, and modelled cycles."""
    rows = []
    for core in cores:
        ours = results[core.name][0]
        counts = [ours.profile.instructions.get(phase, 0) for phase in calltree.PHASES]
        rows.append([f"{core.name}, instructions", *map(grouped, [*counts, sum(counts), ours.instructions])])
        spent = ours.profile.cycles[core.cycles[0]]
        cells = [spent.get(phase, 0) for phase in calltree.PHASES]
        rows.append([f"{core.name}, modelled cycles", *map(grouped, [*cells, sum(cells)]), ""])
    return table(["", *calltree.PHASES, "sum", "SysTick"], rows)


def memory_table(results: Results, cores: list[Core]) -> str:
    """Static RAM of tintin over that of float32 with immediate update."""
    rows = []
    for core in cores:
        ours, theirs = results[core.name]
        cells = [f"{grouped(one.ram)} ({ours.ram / one.ram:.3f})" for one in theirs.values()]
        rows.append([core.name, grouped(ours.ram), *cells, *(grouped(one.stack) for one in (ours, *theirs.values()))])
    names = [RIVALS[variant] for variant in results[cores[0].name][1]]
    head = [f"{name} (tintin / it)" for name in names]
    return table(["static RAM", "tintin", *head, "stack of a step, tintin", *names], rows)


def strided_table(results: Results, cores: list[Core]) -> str:
    """tintin's step of the net with strides in place of pools."""
    rows = []
    for core in cores:
        net = results[core.name][0].extra["strided"]
        rows.append([core.name, grouped(net["step"]), f"{net['step'] / net['step_macs']:.2f}"])
        rows[-1] += [grouped(net["forward"]), f"{net['forward'] / net['forward_macs']:.2f}"]
    return table(["without pools, tintin", "step", "per MAC", "forward", "per MAC"], rows)


def non_zero_table(ours: Run, oracle: list[dict[str, Any]], theirs: dict[str, Run]) -> str:
    """Non-zero gradients in the median steps."""
    keys = (("pool1", 1176), ("pool2", 400), ("fc1", 120), ("fc2", 84))
    step = ours.steps[ours.median]["step"]
    counts = oracle[step - 1]
    for measured in ours.steps:
        if int(oracle[measured["step"] - 1]["digest"], 16) != measured["digest"]:
            raise BenchError(
                f"step {measured['step']}: the oracle's digest is another; nonzeros.py trains something else"
            )
    rows = [[f"tintin, step {step}", *(f"{counts[k]} of {n}" for k, n in keys)]]
    for variant, one in theirs.items():
        other = one.steps[one.median]
        rows.append([f"{RIVALS[variant]}, step {other['step']}", *(f"{other[k]} of {n}" for k, n in keys)])
    head = [
        "non-zero gradients of the median step",
        "behind pool 1",
        "behind pool 2",
        "behind 400-120",
        "behind 120-84",
    ]
    return table(head, rows)


def board_table(results: Results) -> str:
    """Estimated time and energy of a step on boards."""
    rows = []
    for board in load_boards():
        if board["code"] not in results:
            continue
        ours, theirs = results[board["code"]]
        fitting = [one for one in theirs.values() if one.ram + one.stack <= board["ram"]]
        best = min(fitting or theirs.values(), key=lambda one: one.cycles(board["cycles"]), default=None)
        row = [f"{board['name']} ({board['chip']}, {board['megahertz']} MHz)"]
        for one in (ours, best):
            if one is None:
                row += ["", ""]
                continue
            spent = one.cycles(board["cycles"])
            need = one.ram + one.stack
            time = f"{milliseconds(spent, board['megahertz']):.1f}"
            fits = need <= board["ram"]
            row.append(time if fits else f"({time}; {grouped(need)} bytes do not fit {grouped(board['ram'])})")
            current = board.get("microamperes_per_megahertz")
            row.append("–" if current is None else f"{millijoules(spent, current, board['volts']):.2f}")
        row.append(board.get("note", ""))
        rows.append(row)
    return table(["board, estimates", "tintin, ms", "mJ", "best float32, ms", "mJ", "note"], rows)


def summary(results: Results) -> dict[str, Any]:
    """The figures as JSON."""

    def one(run: Run) -> dict[str, Any]:
        return {
            "instructions": run.instructions,
            "forward": run.forward,
            "phases": run.profile.instructions,
            "cycles": {name: run.cycles(name) for name in run.profile.cycles},
            "flash": run.flash,
            "ram": run.ram,
            "stack": run.stack,
        }

    return {
        core: {
            "tintin": {**one(ours), "strided": ours.extra["strided"]},
            "float32": {variant: one(run) for variant, run in theirs.items()},
        }
        for core, (ours, theirs) in results.items()
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [core.name for core in CORES]
    parser.add_argument("--firmware", type=Path, required=True, help="cargo's target folder, bench and lenet5 built")
    parser.add_argument("--cores", nargs="+", choices=names, default=names, help="these cores only")
    parser.add_argument("--no-rival", action="store_true", help="tintin alone")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    cores = [core for core in CORES if core.name in arguments.cores]
    out = arguments.firmware.resolve() / "bench-device"
    out.mkdir(parents=True, exist_ok=True)

    sources = [HERE / "nonzeros.py", ROOT / "tests/reference/oracle.py"]
    key = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    cache = out / f"nonzeros-{key}.json"
    oracle = non_zeros(cache)
    tables = load_cycles()
    plugin = build_plugin(out)
    results: Results = {}
    for core in cores:
        folder = out / core.name
        folder.mkdir(exist_ok=True)
        print(f"bench-device: {core.name}", file=sys.stderr)
        setting = Setting(core, plugin, folder, tables)
        ours = engine(setting, arguments.firmware.resolve())
        results[core.name] = ours, {} if arguments.no_rival else rivals(setting)
    if oracle is not None:
        answer, complaint = oracle.communicate(timeout=TIMEOUT)
        if oracle.returncode != 0:
            raise BenchError(f"nonzeros.py failed:\n{complaint}")
        cache.write_text(answer)

    for core in cores:
        print(cost_table(core, *results[core.name], tables) + "\n")
    print(split_table(results, cores) + "\n")
    print(memory_table(results, cores) + "\n")
    ours, theirs = results[cores[0].name]
    print(non_zero_table(ours, json.loads(cache.read_text()), theirs) + "\n")
    print(strided_table(results, cores) + "\n")
    if set(results) & {board["code"] for board in load_boards()}:
        print(board_table(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(summary(results), indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(f"bench-device: {error}")
