# Two commands do everything on a fresh machine: `make fit` and `make test`. `make help` lists the rest.

PYTHON ?= python3
CONFIG ?= configs/vgg5.yaml
RUNS   ?= runs
ARGS   ?=

VENV := .venv
BIN  := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup fit test unit lint format types layers docs pictures presets construction emergence calibration records networks bench scale board clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.dev ## create .venv with all that development needs (about 6 GB, 3 minutes)

fit: $(VENV)/.run ## train on CONFIG (default configs/vgg5.yaml), with any further ARGS
	$(BIN)/lightning fit --config $(CONFIG) $(ARGS)

board: $(VENV)/.run ## open TensorBoard on RUNS (default runs)
	$(BIN)/lightning board $(RUNS) $(ARGS)

test: lint types layers unit ## lint, types, layers and all tests

unit: $(VENV)/.dev ## the tests alone, with any further ARGS for pytest
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal $(ARGS)

lint: $(VENV)/.dev ## check style and complexity
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/oxlint --config .oxlintrc.json lightning_emerge/board/web tests/board/web

format: $(VENV)/.dev ## put the code in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev ## check types
	$(BIN)/pyright --pythonpath $(BIN)/python

layers: $(VENV)/.dev ## check that imports go down only
	$(BIN)/lint-imports

docs: $(VENV)/.docs ## build the documentation into docs/_build/html
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

pictures: $(VENV)/.dev ## draw the documentation's pictures from a run in RUNS (needs Chromium)
	PYTHONPATH=tests/bench $(BIN)/python docs/pictures.py $(RUNS)

presets: $(VENV)/.dev ## measure how hard the tokens are, and draw it (a quarter of an hour)
	$(BIN)/python docs/presets.py

construction: $(VENV)/.dev ## make the tables and pictures of docs/construction.md from RUNS="NAME=DIR ..."
	$(BIN)/python docs/construction.py $(RUNS)

emergence: $(VENV)/.dev ## try what "emerged" means on simulated series, for docs/emergence.md (a minute); ARGS=--runs on short runs
	$(BIN)/python docs/emergence.py $(ARGS)

calibration: $(VENV)/.dev ## calibrate every record, and write the table in docs/probes.md (two minutes)
	$(BIN)/python docs/calibration.py

records: $(VENV)/.dev ## list what probes declare to record, in docs/records.md
	$(BIN)/python docs/declared.py

story: $(VENV)/.dev ## print the tables that compare runs, from RUNS="NAME=DIR ..."
	$(BIN)/python docs/story.py $(RUNS)

regimes: $(VENV)/.dev ## search settings in which features are built, for docs/regimes.md (half an hour); ARGS names some
	$(BIN)/python docs/regimes.py $(ARGS)

networks: $(VENV)/.dev ## look at networks of many kinds, for the table in docs/networks.md (four minutes)
	$(BIN)/python docs/networks.py

bench: $(VENV)/.dev ## measure speed, as ratios in one run
	$(BIN)/python tests/bench/bench.py $(ARGS)

scale: $(VENV)/.dev ## measure how the cost of looks grows, and draw it (ten minutes); ARGS=--tables only draws
	$(BIN)/python tests/bench/scale.py $(ARGS)

clean: ## remove what was built; keeps .venv and runs
	rm -rf build dist docs/_build .pytest_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
	find lightning_emerge tests docs -name __pycache__ -type d -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; $(PYTHON) is older. Name another: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/.run

$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@ $(VENV)/.run
