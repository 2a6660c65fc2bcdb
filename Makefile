# make demo    train on real data and show what came of it (does all its own set-up)
# make test    every check there is                       (does all its own set-up)
# make setup   only the set-up: .venv, Rust, the wheel, the checkers
# make bench   the accuracy rows of docs/results.md; takes hours (benchmarks/README.md tells what else there is)
# make bench-host   tintin against the float32 frameworks on this CPU; an hour or two, HOST=--quick: minutes
# make firmware   images for `tintin verify` into target/firmware, and into the wheel that is built next
# make parity     emulated cores against the wheel, step by step; installs compiler targets and QEMU where it can
# make bench-device   cost of a training step on emulated Cortex-M cores beside float32 in C; minutes, wants QEMU
# make firmware-data   real handwritten digits as a file, for the firmware of crates/tintin-mcu/boards
# make clean   remove everything that was built
#
# Nothing is done twice: each finished step leaves a stamp in .venv/stamps, and a step runs again only when
# what it was made from is newer. PYTHON=... chooses the Python, DEMO=... adds arguments to the demo, HOST=... to bench-host.

SHELL := /bin/bash
PY := .venv/bin/python
STAMPS := .venv/stamps
SOURCES := $(wildcard Cargo.toml Cargo.lock pyproject.toml README.md) \
	$(shell find crates/tintin-core crates/tintin-py -not -path '*/__pycache__*' -not -name '*.so' \
		-not -path '*/target/*' -not -path 'crates/tintin-core/tests*' -type f)
# The others need float frameworks or valgrind, see benchmarks/README.md.
BENCH := benchmarks/accuracy.py benchmarks/applications.py
FLOAT := target/floatenv

export PATH := $(HOME)/.cargo/bin:$(PATH)
export PYTHON

.PHONY: help setup wheel checkers demo test bench bench-host bench-device firmware firmware-data parity clean
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

bench-host: wheel $(FLOAT)/stamp
	@$(PY) benchmarks/host.py --float-python $(FLOAT)/bin/python $(HOST)

# An environment of their own: they want gigabytes and versions that are none of tintin's business.
$(FLOAT)/stamp: benchmarks/requirements.txt | $(STAMPS)/python
	$(PY) -m venv $(FLOAT)
	$(FLOAT)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

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
