# Set-up needs Python 3.11 or later, pip and make; `make demo` and `make test` do all of it by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONHASHSEED := 0

.DEFAULT_GOAL := help
.PHONY: help install demo test trials lint docs lock peers clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/installed  ## make the environment alone, from the hash-pinned lock

$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: install  ## forecast on the real OASIS-2 table and on simulated scans; print both leaderboards
	$(BIN)/python -m experiments.compare +experiment=demo_oasis2
	$(BIN)/python -m experiments.forecast +experiment=demo_atrophy

test: install  ## run the tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

trials: install  ## the tests at length, and those at hand
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "long or not long"

lint: install  ## layers, style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

docs: install  ## the documentation, as pages under docs/_build; a warning is an error
	$(BIN)/python -m sphinx -W -q -b html docs docs/_build

lock:  ## renew requirements.lock: every package with its hashes, no addresses
	$(PYTHON) -m venv .lock-venv
	.lock-venv/bin/python -m pip install --quiet --disable-pip-version-check uv
	.lock-venv/bin/uv pip compile pyproject.toml --extra demo --extra cpu --extra dev --universal --python-version 3.11 \
	  --fork-strategy fewest --generate-hashes --no-annotate --no-header --no-emit-index-url --upgrade --quiet \
	  --output-file requirements.lock
	rm -rf .lock-venv

peers: install  ## what the benchmarks compare against; never a dependency
	$(BIN)/python -m pip install --disable-pip-version-check torch==2.13.0 lightgbm xgboost

clean:  ## remove the environment, cohorts and runs made here
	rm -rf $(VENV) .lock-venv cohorts runs docs/_build
