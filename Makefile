# make demo    train on real data and show what came of it (does all its own set-up)
# make test    every check there is                       (does all its own set-up)
# make setup   only the set-up: .venv, Rust, the wheel, the checkers
# make bench   the accuracy rows of docs/results.md; takes hours (benchmarks/README.md tells what else there is)
# make firmware   images for `tintin verify` into target/firmware, and into the wheel that is built next
# make parity     emulated cores against the wheel, step by step; installs compiler targets and QEMU where it can
# make bench-device   cost of a training step on emulated Cortex-M cores beside float32 in C; minutes, wants QEMU
# make firmware-data   real handwritten digits as a file, for the firmware of crates/tintin-mcu/boards
# make clean   remove everything that was built
#
# Nothing is done twice: each finished step leaves a stamp in .venv/stamps, and a step runs again only when
# what it was made from is newer. PYTHON=... chooses the Python, DEMO=... adds arguments to the demo.

SHELL := /bin/bash
PY := .venv/bin/python
STAMPS := .venv/stamps
SOURCES := $(wildcard Cargo.toml Cargo.lock pyproject.toml README.md) \
	$(shell find crates/tintin-core crates/tintin-py -not -path '*/__pycache__*' -not -name '*.so' \
		-not -path '*/target/*' -not -path 'crates/tintin-core/tests*' -type f)
# The others need float frameworks, see benchmarks/README.md.
BENCH := $(filter-out benchmarks/float32% benchmarks/epoch_time.py,$(wildcard benchmarks/*.py))

export PATH := $(HOME)/.cargo/bin:$(PATH)
export PYTHON

.PHONY: help setup wheel checkers demo test bench bench-device firmware firmware-data parity clean
.DELETE_ON_ERROR:

help:
	@sed -n '/^# make/s/^# //p' Makefile

setup: wheel checkers

wheel: $(STAMPS)/wheel

checkers: $(STAMPS)/checkers

demo: wheel
	$(PY) -m tintin demo --out-dir tintin-demo $(DEMO)

test: setup
	./ci.sh all

bench: wheel
	@set -e; for script in $(BENCH); do echo "== $$script"; $(PY) "$$script"; done

bench-device:
	@scripts/bench-device.sh

firmware:
	@scripts/firmware.sh

parity: setup firmware
	@scripts/setup-qemu.sh
	$(PY) -m pytest -q tests/parity

firmware-data: target/firmware/digits.bin

target/firmware/digits.bin: scripts/firmware_data.py | $(STAMPS)/wheel
	@$(PY) scripts/firmware_data.py $@

clean:
	rm -rf target crates/tintin-py/python/tintin/device/images .venv tintin-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find crates tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(STAMPS)/python: requirements.txt scripts/setup.sh
	@scripts/setup.sh python
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/checkers: requirements-dev.txt requirements.txt | $(STAMPS)/python
	@scripts/setup.sh checkers
	@touch $@

$(STAMPS)/rust: Cargo.toml scripts/setup.sh | $(STAMPS)/python
	@scripts/setup.sh rust
	@touch $@

$(STAMPS)/wheel: $(SOURCES) $(STAMPS)/python $(STAMPS)/rust
	@echo "setup: building the wheel (release)"
	@rm -f target/wheels/tintin-*.whl
	@$(PY) -m maturin build --quiet --release --interpreter $(PY) --out target/wheels
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall target/wheels/tintin-*.whl
	@touch $@
