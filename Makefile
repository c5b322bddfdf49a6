# Everything a developer runs; each target installs what it needs first, once.
PYTHON ?= python3
BUDGET ?= 40s
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

venv: .venv/.installed ## the environment, with the versions of constraints.txt

demo: venv ## digits: from images to an honest number
	$(BIN)/saccade fit digits --budget $(BUDGET)

lint: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

check: lint ## style, types and the floors
	$(BIN)/pytest -q tests/test_floors.py

test: lint ## all of it, and every test
	$(BIN)/pytest -n 2 --dist worksteal

bench: .venv/.bench ## what a budget buys, on digits; the scripts in benchmarks/ say what else they measure
	$(BIN)/python benchmarks/budgets.py digits --budgets 10s 30s

lock: venv ## constraints.txt anew, from what .venv holds
	$(BIN)/python scripts/lock.py

help:
	@sed -n 's/^\([a-z]*\):.* ## /\1\t/p' $(MAKEFILE_LIST)

.venv/.installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) > /dev/null || { echo "There is no $(PYTHON) here; saccade needs Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "saccade needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version); name another: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Installing into .venv; PyTorch is large, this takes a few minutes."
	@$(PYTHON) -m venv .venv
	@$(PIP) --editable '.[dev]'
	@touch $@

.venv/.bench: .venv/.installed
	$(PIP) --editable '.[dev,bench]'
	@touch $@

.PHONY: venv demo lint check test bench lock help
