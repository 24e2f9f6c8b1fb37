# The two commands of a fresh clone are `make demo` and `make test`. Both need Python 3.11 and nothing installed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
JOBS ?= 2
BIN := $(abspath $(VENV))/bin
# Else each of the many processes that the tests start compiles every module again.
export PYTHONDONTWRITEBYTECODE :=
# Modules are compiled when first imported: a fraction of them is ever used.
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check --no-compile
# An empty folder: there `graphmill` is the installed package, not the checkout.
CHECK := $(abspath $(VENV))/check

.PHONY: help demo test install install-dev lint types layers pytest thorough bench peers format clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 16

demo: install ## set up, then classify handwritten digits: JIT, dumps, a shared object, a C program
	$(BIN)/python examples/digits/digits.py

test: install-dev ## set up, then run everything CI runs
	$(MAKE) --no-print-directory lint types layers pytest

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

install: $(BIN)/python
	rm -rf build/lib
	$(PIP) '.[examples]'

install-dev: $(BIN)/python
	rm -rf build/lib
	$(PIP) '.[dev]'

lint: ## format and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: ## mypy --strict on the installed package
	@mkdir -p $(CHECK)
	cd $(CHECK) && $(BIN)/mypy --config-file $(CURDIR)/pyproject.toml -p graphmill

layers: ## the import contract of the architecture
	@mkdir -p $(CHECK)
	cd $(CHECK) && $(BIN)/lint-imports --config $(CURDIR)/pyproject.toml --no-cache

pytest: ## the tests alone
	$(BIN)/pytest -n $(JOBS)

thorough: ## the tests with all cases of those that `make test` runs a part of
	$(BIN)/pytest -n $(JOBS) --thorough

peers: ## a venv with the frameworks that the benchmarks compare with
	benchmarks/install_peers.sh

bench: $(BIN)/python ## measure against the peers (BENCH="--quick" for a short run)
	rm -rf build/lib
	$(PIP) '.[bench]'
	$(BIN)/python -m benchmarks $(BENCH)

format: ## rewrite the sources in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove what the targets made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
