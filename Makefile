# Everything runs in .venv, which `make setup` builds; `make help` lists the targets.
SCALE ?= laptop
ONLY ?=
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
STAMP := .venv/installed
# one thread a process: several processes share the cores, and results do not depend on how many cores there are
ONE := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1

.PHONY: help setup reproduce plots claims test lint bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## build .venv and install the suite into it

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found; install one, or say where: make setup PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,adapt,endpoint,system,cluster,track]'
	$(BIN)/python -m lm.native.build
	@touch $@

reproduce: setup ## train, measure and plot: make reproduce SCALE=laptop ONLY="01 02"
	$(BIN)/python -m experiments run --scale $(SCALE) $(ONLY)

plots: setup ## draw every figure again from its committed table, and the ledger
	$(BIN)/python -m experiments plot $(ONLY)
	$(BIN)/python -m experiments claims --write

claims: setup ## print the ledger of claims
	@$(BIN)/python -m experiments claims

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

test: setup lint ## linters, tests, dry runs, one experiment end to end, figures and ledger
	$(ONE) $(BIN)/python -m pytest -q -n 2
	$(BIN)/python -m experiments cost
	@set -e; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; set -x; \
	$(ONE) $(BIN)/python -m experiments run --scale smoke --results-dir $$tmp/results --runs-dir $$tmp/runs; \
	$(BIN)/python -m experiments plot --output-dir $$tmp/figures; \
	$(BIN)/python -m experiments claims --check

bench: setup ## speed against the public alternatives
	$(BIN)/python -m benchmarks

clean: ## remove .venv, runs/ and caches; results/ stays
	rm -rf .venv runs build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
