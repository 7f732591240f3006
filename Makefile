# `make` lists the targets. Each creates the environment in .venv first, if it is missing or pyproject.toml changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := runs/demo
export CAPTIONER_DATA
# Compiled modules are kept: else each of the many processes of the tests compiles the package again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(READY) ## Create the virtual environment .venv with all development tools

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed: make PYTHON=python3.12 …" if sys.version_info < (3, 10) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

demo: $(READY) ## Train a small captioner on synthetic images and caption held-out ones: 2 to 3 minutes of processor time
	$(BIN)/python -m captioner quickstart

test: style ## Linters, types, import layers, and the fast tests, one process per core
	$(MAKE) --jobs=2 --keep-going types fast-tests

fast-tests: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -m "not slow and not notebook"

test-slow: $(READY) ## The slow tests, one process per core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -m slow

test-next: $(READY) ## Fast tests with the newest Python and dependencies, pre-releases of Hydra included (.venv-next)
	OMP_NUM_THREADS=1 $(BIN)/python .ci/test_versions.py next

test-oldest: $(READY) ## Fast tests with the lower bounds of pyproject.toml (.venv-oldest)
	OMP_NUM_THREADS=1 $(BIN)/python .ci/test_versions.py oldest

fuzz: $(READY) ## Try thousands of damaged and malicious files, settings and checkpoints
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/fuzz -m slow

notebooks: $(READY) ## Run every notebook from top to bottom
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -m notebook

lint: style types ## ruff, mypy and import-linter

style: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Both run, and a failure is said at once, because `make test` goes on with the tests beside.
types: $(READY)
	@failed=; \
	$(BIN)/mypy || { failed=1; printf '\n*** mypy has failed: see above. ***\n\n' >&2; }; \
	$(BIN)/lint-imports --no-cache || { failed=1; printf '\n*** import-linter has failed: see above. ***\n\n' >&2; }; \
	test -z "$$failed"

docs: $(READY) ## Build the documentation site in build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

format: $(READY) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

reference: $(READY) ## Write the comments of conf/ and docs/reference/ from the settings' dataclasses
	$(BIN)/python -m captioner.cli.write_reference

bench: $(READY) ## Run the benchmarks; one JSON line each
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/decoding.py
	$(BIN)/python benchmarks/decoding_scale.py
	$(BIN)/python benchmarks/metrics.py
	$(BIN)/python benchmarks/tokenizer.py
	$(BIN)/python benchmarks/startup.py

ci: ## Run what CI runs
	bash .ci/run

clean: ## Remove the virtual environment and tool caches (not runs/)
	rm -rf $(VENV) .venv-next .venv-oldest .mypy_cache .ruff_cache .hypothesis .import_linter_cache

.PHONY: help setup demo test fast-tests test-slow test-next test-oldest fuzz notebooks lint style types docs format reference bench ci clean
