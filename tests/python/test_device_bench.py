"""The parts of `make bench-device` that need neither QEMU nor a compiler for Arm; its float32 rival, run here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tintin.boards import boards

DEVICE = Path(__file__).resolve().parents[2] / "benchmarks" / "device"
sys.path.insert(0, str(DEVICE))

import bench  # noqa: E402
import calltree  # noqa: E402
import nonzeros  # noqa: E402
import tables  # noqa: E402
from instructions import CLASSES, Instruction, classify, cycles, parse_disassembly  # noqa: E402

CYCLES = bench.load_cycles()


@pytest.mark.parametrize(
    ("text", "kind", "registers", "to_pc"),
    [
        ("adds r0, r1, #1", "arithmetic", 0, False),
        ("sxtb16 r0, r1", "arithmetic", 0, False),
        ("sxtb16 r0, r1, ror #8", "arithmetic", 0, False),
        ("bics r0, r1", "arithmetic", 0, False),  # not a branch
        ("bfi r0, r1, #0, #8", "arithmetic", 0, False),
        ("movle r0, r1", "arithmetic", 0, False),
        ("mov pc, r3", "jump", 0, False),
        ("muls r0, r1", "multiply", 0, False),
        ("mul.w r0, r1, r2", "multiply", 0, False),
        ("smulbb r0, r1, r2", "multiply", 0, False),
        ("mla r0, r1, r2, r3", "multiply_accumulate", 0, False),
        ("smlabt r0, r1, r2, r3", "multiply_accumulate", 0, False),
        ("smlad r0, r1, r2, r3", "multiply_accumulate", 0, False),
        ("smladx r0, r1, r2, r3", "multiply_accumulate", 0, False),
        ("smull r0, r1, r2, r3", "long_multiply", 0, False),
        ("umlal r0, r1, r2, r3", "long_multiply_accumulate", 0, False),
        ("smlald r0, r1, r2, r3", "long_multiply_accumulate", 0, False),
        ("udiv r0, r1, r2", "divide", 0, False),
        ("ldr.w r0, [r1, #4]", "load", 0, False),
        ("ldrsb.w r0, [r1, r2]", "load", 0, False),
        ("ldr pc, [r1, #4]", "load", 0, True),
        ("strb r0, [r1]", "store", 0, False),
        ("ldrd r0, r1, [r2]", "double", 2, False),
        ("ldmia r0!, {r1, r2, r4-r6}", "multiple", 5, False),
        ("push {r4, r5, lr}", "multiple", 3, False),
        ("pop {r4, pc}", "multiple", 2, True),
        ("vldmia r3!, {s0-s7}", "multiple", 8, False),
        ("b.n 42", "branch", 0, False),
        ("bne.w 42", "branch", 0, False),
        ("blt.n 42", "branch", 0, False),  # not a call
        ("bls.n 42", "branch", 0, False),
        ("cbz r0, 42", "branch", 0, False),
        ("bl 42 <f>", "call", 0, False),
        ("blx r3", "call", 0, False),
        ("bx lr", "jump", 0, False),
        ("tbb [pc, r0]", "jump", 0, False),
        ("vldr s0, [r0]", "load", 0, False),
        ("vstrgt s0, [r0]", "store", 0, False),
        ("vfma.f32 s0, s1, s2", "float_multiply_accumulate", 0, False),
        ("vmla.f32 s0, s1, s2", "float_multiply_accumulate", 0, False),
        ("vmul.f32 s0, s1, s2", "float", 0, False),
        ("vmov.f32 s0, s1", "float", 0, False),
        ("vmov.f32 s0, #1.0", "float", 0, False),
        ("vmov s0, r3", "float_move", 0, False),
        ("vmov r3, s15", "float_move", 0, False),
        ("vmov r2, r3, d7", "float_move", 0, False),
        ("vmrs APSR_nzcv, fpscr", "float", 0, False),
        ("vdiv.f32 s0, s1, s2", "float_divide", 0, False),
        ("dsb sy", "system", 0, False),
    ],
)
def test_class_of_an_instruction(text: str, kind: str, registers: int, to_pc: bool) -> None:
    mnemonic, operands = text.split(" ", 1)
    assert classify(8, mnemonic, operands) == Instruction(8, kind, registers, to_pc)


def test_disassembly_leaves_out_data_and_labels() -> None:
    text = """
00000400 <Reset>:
     400:\tbl\t8e82 <DefaultPreInit>
     404:\tldr\tr0, [pc, #56]\t@ (440 <Reset+0x40>)
     406:\tnop
     408:\tbl\t400 <Reset>
     40c:\tbl\t406 <Reset+0x6>
     440:\t.word\t0x20000000
"""
    kinds = {address: one.kind for address, one in parse_disassembly(text).items()}
    assert kinds == {0x400: "call", 0x404: "load", 0x406: "arithmetic", 0x408: "call", 0x40C: "far_branch"}


def test_every_core_knows_every_class_it_can_run() -> None:
    names = {name for name, _ in CLASSES} - {"double"} | {"arithmetic", "far_branch", "float_move"}
    floats = {"float", "float_move", "float_multiply_accumulate", "float_divide"}
    later = {"divide", "long_multiply", "long_multiply_accumulate", "multiply_accumulate"}  # ARMv6-M has none
    assert names <= set(CYCLES["m4f"])
    assert names - floats <= set(CYCLES["m3"])
    assert names - floats - later <= set(CYCLES["m0plus"])
    assert CYCLES["m0plus_slow"]["load"] == CYCLES["m0plus"]["load"]  # its base


def test_cycles_of_an_instruction() -> None:
    load, store, add = (Instruction(0, kind) for kind in ("load", "store", "arithmetic"))
    assert cycles(load, None, CYCLES["m4f"]) == 2
    assert cycles(load, add, CYCLES["m4f"]) == 2
    assert cycles(store, load, CYCLES["m4f"]) == 1
    assert cycles(store, load, CYCLES["m0plus"]) == 2
    assert cycles(Instruction(0, "multiple", 4), None, CYCLES["m3"]) == 5
    assert cycles(Instruction(0, "multiple", 2, True), None, CYCLES["m0plus"]) == 5
    assert cycles(Instruction(0, "multiply"), None, CYCLES["m0plus_slow"]) == 32
    with pytest.raises(ValueError, match="no cycles for class divide"):
        cycles(Instruction(0, "divide"), None, CYCLES["m0plus"])


NET = "tintin_core::net::Net"


@pytest.mark.parametrize(
    ("functions", "phase"),
    [
        (["bench::firmware::step", f"{NET}::train_step", f"{NET}::forward", "tintin_core::rescale::narrow"], "forward"),
        ([f"{NET}::train_step", f"{NET}::measure", "tintin_core::loss::cross_entropy"], "rest"),
        ([f"{NET}::train_step", "tintin_core::rescale::narrow"], "rest"),
        ([f"{NET}::backward", "tintin_core::layers::Layer::backward"], "dX"),
        ([f"{NET}::backward", "tintin_core::net::mask"], "dX"),
        ([f"{NET}::backward", "tintin_core::rescale::narrow"], "dX"),
        ([f"{NET}::backward", "tintin_core::update::Update::apply", "tintin_core::optim::tintin_row"], "update"),
        ([f"{NET}::backward", "tintin_core::update::Update::apply", "tintin_core::update::Update::rows"], "dW"),
        ([f"{NET}::backward", "<tintin_core::update::Update>::apply", "tintin::Layer::gradient::{{closure}}"], "dW"),
        (["tintin_core::update::Update::alignment"], "update"),
        ([], "rest"),
    ],
)
def test_phase_of_a_call_stack(functions: list[str], phase: str) -> None:
    assert calltree.engine_phase(functions) == phase


# A step at 0x100 that calls a forward at 0x200 and a backward at 0x300, which calls a kernel at 0x400 from two places.
TRACE = """call 0
node 1 0 104
node 2 0 108
node 3 2 302
node 4 2 306
block 0 100 3 1 1
block 1 200 4 10 9
block 3 400 2 5 0
block 4 400 2 7 0
"""
STACKS = {
    0x104: ("step", f"{NET}::train_step"),
    0x108: ("step", f"{NET}::train_step"),
    0x302: (f"{NET}::backward", "tintin_core::layers::Layer::backward"),
    0x306: (f"{NET}::backward", "tintin_core::update::Update::apply", "tintin_core::update::Update::rows"),
}


def stacks(address: int) -> tuple[str, ...]:
    names = {0x100: "step", 0x200: f"{NET}::forward", 0x400: "tintin_core::kernels::axpy"}
    return STACKS.get(address) or (names[address & 0xF00],)


def test_profile_of_a_trace() -> None:
    kinds = {0x100: "arithmetic", 0x102: "arithmetic", 0x104: "call", 0x108: "call", 0x302: "call", 0x306: "call"}
    kinds |= {0x200: "load", 0x202: "load", 0x204: "multiply_accumulate", 0x206: "branch"}
    kinds |= {0x400: "store", 0x402: "jump"}
    code = {address: Instruction(address, kind) for address, kind in kinds.items()}
    (tree,) = calltree.parse(TRACE)
    assert tree.instructions() == 3 + 40 + 10 + 14
    assert tree.sites(3) == (0x108, 0x302)
    profile = calltree.profile(tree, code, stacks, calltree.engine_phase, {"m4f": CYCLES["m4f"]})
    assert profile.instructions == {"rest": 3, "forward": 40, "dX": 10, "dW": 14}
    assert profile.cycles["m4f"] == {
        "rest": 1 + 1 + 3,
        "forward": 10 * (2 + 1 + 1 + 1) + 9 * 2,
        "dX": 5 * (2 + 3),
        "dW": 7 * (2 + 3),
    }


def test_a_line_that_the_plugin_does_not_write_is_refused() -> None:
    with pytest.raises(ValueError, match="not a line of calltree_plugin"):
        calltree.parse("call 0\nblock 0 100\n")


def test_arithmetic_of_the_tables() -> None:
    assert tables.grouped(1_234_567.4) == "1,234,567"
    assert tables.ratio(2.0, 5.0) == "2.50"
    assert tables.milliseconds(6_000_000, 48) == 125
    assert tables.millijoules(1_000_000, 100, 3.0) == pytest.approx(0.3)  # 1 s at 1 MHz: 100 µA at 3 V
    assert tables.table(["a", "b"], [["c", "1"]]) == "| a | b |\n| --- | ---: |\n| c | 1 |"
    with pytest.raises(ValueError, match="a row of 1 cells in a table of 2"):
        tables.table(["a", "b"], [["c"]])


def test_output_of_a_bench() -> None:
    text = "counter empty 0\nlenet5 step 21 instructions 100 forward 40 digest 0x0A\nlenet5 median forward 40\n"
    assert bench.read_steps(text, "lenet5") == [{"step": 21, "instructions": 100, "forward": 40, "digest": 10}]


def test_boards_name_tables_of_cycles_and_cores() -> None:
    rows = bench.load_boards()
    assert rows
    for board in rows:
        assert board["cycles"] in CYCLES
        assert board["code"] in {core.name for core in bench.CORES}
        assert ("volts" in board) == ("microamperes_per_megahertz" in board)
        assert "current" in board["note"], board["name"]  # whose it is, or that there is none
        assert board["source"]


def test_boards_run_at_the_clock_of_their_firmware() -> None:
    firmware = {board.chip: board.mhz for board in boards()}
    for board in bench.load_boards():
        clocks = [mhz for chip, mhz in firmware.items() if chip.startswith(board["chip"].split(",")[0])]
        assert clocks == [board["megahertz"]], board["name"]


TRAIN = r"""
#include <stdio.h>
#include <stdlib.h>
#include "images.h"
int main(int count, char **arguments) {
    static float image[IMAGE * IMAGE];
    initialise(5);
    for (int n = 0; n < (count > 1 ? atoi(arguments[1]) : 0); n++) {
        unsigned label = draw_image(n, image);
        if (n == 3) for (int i = 0; i < IMAGE * IMAGE; i++) fprintf(stderr, "%d ", (int)(image[i] * 128));
        printf("%.7f\n", (double)train_step(image, label));
    }
}
"""


# The largest gradient of every tensor, from the update of one step, and from the loss on both sides of that weight.
GRADIENT = r"""
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "images.h"
static float *tensors[] = {w1, w2, w3, w4, w5}, image[IMAGE * IMAGE], saved[5][D3 * D2];
static const int sizes[] = {C1 * FILTER1, C2 * FILTER2, D3 * D2, D4 * D3, CLASSES * D4};
static float loss(unsigned label) {
    for (int t = 0; t < 5; t++) memcpy(saved[t], tensors[t], sizes[t] * sizeof(float));
    return train_step(image, label);
}
static void restore(void) {
    for (int t = 0; t < 5; t++) memcpy(tensors[t], saved[t], sizes[t] * sizeof(float));
}
int main(void) {
    initialise(5);
    unsigned label = draw_image(3, image);
    for (int t = 0; t < 5; t++) {
        int at = 0;
        loss(label);
        for (int i = 0; i < sizes[t]; i++)
            if (fabsf(saved[t][i] - tensors[t][i]) > fabsf(saved[t][at] - tensors[t][at])) at = i;
        float gradient = (saved[t][at] - tensors[t][at]) / LEARNING_RATE, sides[2];
        restore();
        for (int side = 0; side < 2; side++) {
            float before = tensors[t][at];
            tensors[t][at] += side ? 1e-3f : -1e-3f;
            sides[side] = loss(label);
            restore();
            tensors[t][at] = before;
        }
        printf("%.7f %.7f\n", (double)gradient, (double)(sides[1] - sides[0]) / 2e-3);
    }
}
"""


def build(folder: Path, variant: str, main: str) -> Path:
    """Compiles a program on a variant of the rival, for this machine."""
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if compiler is None:
        pytest.skip("no C compiler here")
    (folder / "main.c").write_text(main)
    sources = [bench.RIVAL / name for name in ("lenet5.c", "images.c", *bench.VARIANTS[variant])]
    flags = ["-O2", "-std=gnu11", f"-I{bench.RIVAL}", "-o", str(folder / variant)]
    subprocess.run([compiler, *flags, *map(str, sources), str(folder / "main.c"), "-lm"], check=True)
    return folder / variant


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[float], list[int]]]:
    """Losses of the rival's variants on this machine, one over 600 steps, and the pixels of image 3."""
    folder, found = tmp_path_factory.mktemp("rival"), {}
    for variant in bench.VARIANTS:
        steps = "600" if variant == "blocked" else "25"
        done = subprocess.run([build(folder, variant, TRAIN), steps], capture_output=True, text=True, check=True)
        found[variant] = [float(v) for v in done.stdout.split()], [int(v) for v in done.stderr.split()]
    return found


@pytest.mark.parametrize("variant", bench.VARIANTS)
def test_gradients_of_the_rival(tmp_path: Path, variant: str) -> None:
    done = subprocess.run([build(tmp_path, variant, GRADIENT)], capture_output=True, text=True, check=True)
    pairs = [[float(v) for v in line.split()] for line in done.stdout.splitlines()]
    assert len(pairs) == 5
    for gradient, slope in pairs:
        assert abs(gradient) > 0.05
        assert slope == pytest.approx(gradient, rel=0.03)


def test_the_rival_learns(losses: dict[str, tuple[list[float], list[int]]]) -> None:
    values, _ = losses["blocked"]
    assert len(values) == 600
    assert sum(values[-20:]) / 20 < 0.1 < 2 < sum(values[:20]) / 20


def test_variants_of_the_rival_agree(losses: dict[str, tuple[list[float], list[int]]]) -> None:
    plain, _ = losses["plain"]
    assert len(plain) == 25
    for values, _ in losses.values():
        assert values[:25] == pytest.approx(plain, abs=1e-5)


def test_the_rival_trains_on_tintins_images(losses: dict[str, tuple[list[float], list[int]]]) -> None:
    for _, pixels in losses.values():
        assert pixels == nonzeros.image(3)[0]
