# Everything runs in .venv, made from constraints.txt by the first target that needs it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# One worker a core, at most four, each of them one thread: the tests start servers, databases and command lines of their own.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 14

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable . --group dev
	@touch $@

.PHONY: setup
setup: $(READY) ## Make .venv with pinned versions

.PHONY: demo
demo: $(READY) ## Play the whole loop offline: a scorer, a judge, the same steps once for each policy
	@rm -rf build/demo
	@$(BIN)/judgeflow demo --directory build/demo

.PHONY: test
test: $(READY) ## Run the tests (not the slow ones); COVERAGE=1 measures branch coverage
	$(PYTEST) $(if $(COVERAGE),--cov --cov-report=term)

.PHONY: test-slow
test-slow: $(READY) ## Run the slow tests only
	$(PYTEST) -m slow

AXE := tests/browser/node_modules/.package-lock.json
$(AXE): tests/browser/package-lock.json
	bash .ci/browser

.PHONY: test-browser
test-browser: $(READY) $(AXE) ## Look at pages in Chromium, which this installs on Debian; one browser, so one process
	$(BIN)/python -m pytest -m browser

build/trainers/verl/__init__.py: .ci/trainers $(READY)
	bash .ci/trainers
	@touch $@

.PHONY: test-trainers
test-trainers: $(READY) build/trainers/verl/__init__.py ## Be asked by OpenRLHF's and verl's own code, which this installs beside .venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m trainers tests/trainers

JUDGES := build/judges/.ready
$(JUDGES): tests/judges/constraints.txt
	PYTHON=$(PYTHON) bash .ci/judges

.PHONY: test-judges
test-judges: $(READY) $(JUDGES) ## Ask the litellm proxy and llama.cpp, which this installs below build/judges
	@rm -f build/judges/figures.txt
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/judges -m judges --numprocesses 2 --dist loadfile
	@cat build/judges/figures.txt

.PHONY: lint
lint: $(READY) ## Lint, format check, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(READY) ## Format, and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: test-exhaustive
test-exhaustive: $(READY) ## Run the tests of many seeds, moments and faults: a quarter of an hour
	$(PYTEST) -m exhaustive

.PHONY: wheel
wheel: $(READY) ## Build dist/*.whl
	rm -rf dist
	$(BIN)/python -m build --wheel

.PHONY: clean
clean: ## Remove .venv and everything generated
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.*
