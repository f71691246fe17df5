# What one types; `make help` lists it. Everything runs in .venv, which `setup` makes from whatever python3 is at hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEED ?= 0

.DEFAULT_GOAL := help
.PHONY: help setup demo check format test test-slow bench docs clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

setup: $(BIN)/.installed ## the virtual environment with everything in it

demo: setup ## the main job: seven losses and the untrained trunk on real digits, then their table
	$(BIN)/dmlbench sweep seed=$(SEED)

check: setup ## format, lint, types, floors, generated pages; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_layers.py tests/test_docs.py -k "not stand"

format: setup ## put code and imports in order
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup ## the fast tests
	$(BIN)/pytest

test-slow: setup ## the tests that train for minutes
	$(BIN)/pytest -m slow

bench: setup ## throughput and start-up, each as a ratio within one run
	$(BIN)/python scripts/bench.py

docs: setup ## write the generated pages anew
	$(BIN)/python scripts/write_docs.py

clean: ## everything that was built or measured, but not runs/ and data/
	rm -rf $(VENV) build dist *.egg-info .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
