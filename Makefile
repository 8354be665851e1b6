# Everything a fresh machine needs is Python 3.11 or newer and make; both targets install into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
APP := .venv-app

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-app lint type check format clean

help:  ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

setup: $(READY)  ## Create .venv and install

demo: $(READY)  ## Train on the toy world and find unseen classes, offline
	$(BIN)/lexiseg demo

# One process per core; which tests a process has not begun go to one that is done.
PYTEST = $(BIN)/python -m pytest --numprocesses auto --dist worksteal

test: $(READY)  ## Run the tests, but for the slow ones
	$(PYTEST) -m "not slow"

test-slow: $(READY)  ## Run the slow tests, which rarely break
	$(PYTEST) -m slow

# Gradio wants an older Pillow than the other tests run on, so it has an environment of its own. Chromium is the system's.
$(APP)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(APP)
	grep -v '^pillow==' constraints.txt > $(APP)/constraints.txt
	$(APP)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(APP)/constraints.txt --editable '.[app,dev]' playwright
	@touch $@

test-app: $(APP)/.ready  ## Run the tests of the page in Chromium
	$(APP)/bin/python -m pytest tests/webpage

lint: $(READY)  ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(READY)  ## Check types
	$(BIN)/mypy

check: lint type test test-slow  ## Everything that CI checks

format: $(READY)  ## Rewrite files in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove the environment and caches
	rm -rf $(VENV) $(APP) .pytest_cache .mypy_cache .ruff_cache build dist
