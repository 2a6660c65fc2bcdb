"""Instructions of a training step of LeNet-5, counted by valgrind and compared with what instructions.toml says.

    python3 benchmarks/instructions.py             # fails when a step takes over 3 % more than recorded
    python3 benchmarks/instructions.py --record    # writes the present figures; commit them with their cause

valgrind knows no AVX-512 and tells the program so: these are the counts of the avx2 and the portable kernels alone.
A count is the difference of two runs of training_steps.rs, divided by their difference in steps, so what comes before
the first step is not in it; the same program gives the same count, whatever else the machine does. Each instruction
goes to a group by the innermost function of its inlined calls that names one.
"""

import argparse
import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORD = Path(__file__).with_suffix(".toml")
KERNELS = ("avx2", "portable")
#: batch size: steps of the shorter and of the longer run
BATCHES = {1: (4, 20), 64: (1, 3)}
MOST_GROWTH = 0.03
SKIPPED = 77  # to ci.sh: cannot be run here
#: the first that is found in a function's name; from the innermost function to the outermost
GROUPS = {
    "memory": r"^_*(mem(set|cpy|move)|malloc|calloc|free|realloc)|_int_(malloc|free)",
    "loss": r"::loss::",
    "narrowing": r"::rescale::|::narrow|::peak\b",
    "update": r"::update::|::optim::|::rng::|::adjust\b|::descend\b",
    "pooling": r"max_pool2d|avg_pool2d|MaxPool2d|pool_2x2|relu",
    "input errors": r"backward|input_errors|transposed",
    "weight gradient": r"gradient|correlate|::Outer|outer",
    "forward": r"forward|matmul|conv2d|::pack\b|::widen\b|::multiply\b|::gather\b",
}
OTHER = "other"


def build():
    """The program to count, and the compiler it was made by."""
    command = ["cargo", "build", "--quiet", "--release", "--package", "tintin-core", "--features", "std"]
    subprocess.run([*command, "--example", "training_steps"], cwd=ROOT, check=True)
    target = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
    version = subprocess.run(["rustc", "--version"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return target / "release" / "examples" / "training_steps", version.strip()


def count(program, kernels, batch, steps):
    """Instructions by (object, address, function)."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind.out"
        command = ["valgrind", "--tool=callgrind", "--dump-instr=yes", "--compress-strings=no", "--compress-pos=no"]
        command += [f"--callgrind-out-file={out}", str(program), str(batch), str(steps)]
        # nothing but this: the environment's size moves the stack
        environment = {"TINTIN_KERNELS": kernels, "TINTIN_NUM_THREADS": "1", "PATH": os.environ.get("PATH", "")}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True)
        if ran.returncode:
            sys.exit(f"valgrind failed:\n{ran.stderr[-2000:]}")
        return read(out.read_text(encoding="utf-8", errors="replace"))


def read(text):
    """Own cost of every instruction, from lines "address line cost"; one after `calls=` is the callee's."""
    costs, at_object, function, is_call = collections.Counter(), "", "", False
    for line in text.splitlines():
        if line.startswith("0x"):
            if not is_call:
                address, _, cost = line.split()
                costs[at_object, int(address, 16), function] += int(cost)
            is_call = False
        elif line.startswith("ob="):
            at_object = line[3:]
        elif line.startswith("fn="):
            function = line[3:]
        elif line.startswith("calls="):
            is_call = True
    return costs


def functions_of(program, addresses):
    """For each address of the program its functions, innermost first."""
    lines = "\n".join(f"{address:#x}" for address in addresses)
    command = ["addr2line", "--exe", str(program), "--functions", "--inlines", "--demangle", "--addresses"]
    told = subprocess.run(command, input=lines, check=True, capture_output=True, text=True).stdout.splitlines()
    found, current = {}, []
    for line in told:
        if re.fullmatch(r"0x[0-9a-f]+", line):
            current = found.setdefault(int(line, 16), [])
            is_function = True
        else:
            if is_function:
                current.append(line)
            is_function = not is_function
    return found


def group_of(functions):
    for function in functions:
        for group, pattern in GROUPS.items():
            if re.search(pattern, function):
                return group
    return OTHER


def step(program, kernels, batch):
    """Instructions of one step by group, and their total."""
    short, long = BATCHES[batch]
    costs = count(program, kernels, batch, long)
    costs.subtract(count(program, kernels, batch, short))
    own = sorted({address for at_object, address, _ in costs if at_object == str(program)})
    inlined = functions_of(program, own)
    groups = collections.Counter()
    for (at_object, address, function), cost in costs.items():
        functions = inlined.get(address, []) if at_object == str(program) else []
        groups[group_of([*functions, function])] += cost
    figures = {group: round(groups[group] / (long - short)) for group in [*GROUPS, OTHER]}
    return {"total": round(sum(groups.values()) / (long - short))} | figures


def write(figures, version):
    lines = [
        "# Instructions of one training step of LeNet-5: written by `python3 benchmarks/instructions.py --record`."
    ]
    lines += [f'rustc = "{version}"']
    for name, values in figures.items():
        lines += ["", f"[{name}]", *(f'"{group}" = {value}' for group, value in values.items())]
    RECORD.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--record", action="store_true", help=f"write the figures to {RECORD.name} instead of comparing"
    )
    options = parser.parse_args()
    for tool in ("valgrind", "addr2line"):
        if not shutil.which(tool):
            print(f"{tool} is not installed here", file=sys.stderr)
            return SKIPPED
    program, version = build()
    recorded = tomllib.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    figures = {f"{kernels}-batch-{batch}": step(program, kernels, batch) for kernels in KERNELS for batch in BATCHES}
    grown = []
    for name, values in figures.items():
        print(f"\n{name.replace('-', ', ', 1).replace('-', ' ')}: instructions per step\n")
        for group, value in values.items():
            before = recorded.get(name, {}).get(group)
            change = f"{100 * (value / before - 1):+8.2f} %" if before else ""
            print(f"    {group:16} {value:13,} {100 * value / values['total']:6.1f} % {change}")
        before = recorded.get(name, {}).get("total")
        if before is None or values["total"] > before * (1 + MOST_GROWTH):
            grown.append(f"{name}: {values['total']:,} instructions, recorded: {before or 'nothing'}")
    print(f"\nThe last column is against {RECORD.name}; valgrind hides AVX-512, so those kernels are not counted.")
    if options.record:
        write(figures, version)
        print(f"recorded in {RECORD.relative_to(ROOT)}")
        return 0
    if recorded.get("rustc", version) != version:
        print(f"recorded with {recorded['rustc']}, this is {version}")
    if grown:
        print("\nmore than 3 % above the record:\n  " + "\n  ".join(grown), file=sys.stderr)
        print(
            "If that is meant: python3 benchmarks/instructions.py --record, and commit instructions.toml",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
