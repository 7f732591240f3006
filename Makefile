# Everything a fresh machine needs: `make demo`, `make test`. Both make `.venv` first, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := runs/demo
export CAPTIONER_DATA

.DEFAULT_GOAL := help

help: ## What can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(READY) ## The virtual environment in .venv, with all that development needs

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed: make PYTHON=python3.12 …" if sys.version_info < (3, 10) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

demo: $(READY) ## Draw images, train with attention, evaluate, caption held-out images: under 5 minutes
	$(BIN)/python -m captioner.cli.quickstart

test: lint $(READY) ## Linters, types, layering, and the fast tests, one process a core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -m "not slow and not notebook"

test-slow: $(READY) ## The tests that take longer
	$(BIN)/python -m pytest -m slow

test-next: $(READY) ## The fast tests with the newest Python and dependencies, pre-releases of Hydra included (.venv-next)
	OMP_NUM_THREADS=1 $(BIN)/python .ci/test_versions.py next

test-oldest: $(READY) ## The fast tests with the lower bounds of pyproject.toml (.venv-oldest)
	OMP_NUM_THREADS=1 $(BIN)/python .ci/test_versions.py oldest

fuzz: $(READY) ## Thousands of damaged and malicious files, settings and checkpoints, and how each ended
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/fuzz -m slow

notebooks: $(READY) ## Run every notebook from top to bottom
	$(BIN)/python -m pytest -m notebook

lint: $(READY) ## ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: $(READY) ## The documentation site in build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

format: $(READY) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

reference: $(READY) ## Write the comments of conf/ and docs/reference/ from the settings' dataclasses
	$(BIN)/python -m captioner.cli.write_reference

bench: $(READY) ## The benchmarks, one JSON line each
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/decoding.py
	$(BIN)/python benchmarks/decoding_scale.py
	$(BIN)/python benchmarks/metrics.py
	$(BIN)/python benchmarks/tokenizer.py
	$(BIN)/python benchmarks/startup.py

ci: ## What CI runs
	bash .ci/run

clean: ## Remove the virtual environment and tool caches (not runs/)
	rm -rf $(VENV) .venv-next .venv-oldest .mypy_cache .ruff_cache .hypothesis .import_linter_cache

.PHONY: help setup demo test test-slow test-next test-oldest fuzz notebooks lint docs format reference bench ci clean
