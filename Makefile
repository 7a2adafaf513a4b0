# Shoal. `make help` lists what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help install install-test install-bench install-train demo check test bench evaluate clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Shoal needs Python 3.11 or newer: make PYTHON=python3.11 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[test]'
	@touch $@

# Apart: what Ray Serve brings along would make every Ray of the first environment start more processes.
$(VENV)-bench/.installed: $(VENV)/.installed-test
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip --disable-pip-version-check --quiet install -c constraints.txt -e '.[bench]'
	@touch $@

$(VENV)/.installed-train: $(VENV)/.installed-test
	$(PIP) install -c constraints.txt -e '.[train]'
	@touch $@

install: $(VENV)/.installed ## Install Shoal into .venv
install-test: $(VENV)/.installed-test ## Install what the checks and tests need
install-bench: $(VENV)-bench/.installed ## Install what the yardsticks of the benchmark need
install-train: $(VENV)/.installed-train ## Install what training needs (torch: 5 GB on Linux)

demo: install ## Play a conversation into a fresh daemon and show the graph it becomes
	$(BIN)/shoal demo

check: install-test ## Lint, types, boundaries between the rooms
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check install-train ## Every check and every test (training too, so torch is installed)
	$(BIN)/python -m pytest

bench: install-bench ## Measure every promise and print it beside its figure
	$(BIN)/python -m tests.bench --serve-python $(VENV)-bench/bin/python
	$(BIN)/python -m tests.bench.recall

evaluate: install ## Report on the newest extractor and classifier, against an earlier version where there is one
	$(BIN)/python -m training.evaluate extractor --against before --report build/reports/extractor.md
	$(BIN)/python -m training.evaluate classifier --against before --report build/reports/classifier.md

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) $(VENV)-bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
