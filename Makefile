# `make help` lists the targets. Everything runs in .venv, which `setup` creates with PYTHON.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEED ?= 0

.DEFAULT_GOAL := help
.PHONY: help setup demo check format test test-slow campaign bench docs clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

setup: $(BIN)/.installed ## create the virtual environment and install everything

demo: setup ## train seven losses on handwritten characters, two at a time, and print their table
	$(BIN)/dmlbench sweep seed=$(SEED) hydra/launcher=joblib hydra.launcher.n_jobs=2

check: setup ## check format, lint, types, imports, docstrings and generated pages; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q -p no:cacheprovider tests/test_layers.py tests/test_docstrings.py
	$(BIN)/python scripts/write_docs.py --check

format: setup ## format the code and sort the imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup ## run the fast tests, on two cores
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

test-slow: setup ## run the tests that train for minutes
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow

campaign: setup ## kill, fill the disk, damage files; writes docs/robustness.md
	OMP_NUM_THREADS=1 $(BIN)/python scripts/campaign.py --jobs 2 --seed $(SEED) --report docs/robustness.md

bench: setup ## run the benchmarks; each prints ratios
	$(BIN)/python scripts/bench.py

docs: setup ## write the generated pages of docs/
	$(BIN)/python scripts/write_docs.py

clean: ## remove everything that was built; keeps runs/ and data/
	rm -rf $(VENV) build dist *.egg-info .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
