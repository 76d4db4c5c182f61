.DEFAULT_GOAL := help
.PHONY: help demo test check up down lock

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed-from-lock

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 8

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"Python {v[0]}.{v[1]} found, 3.11 to 3.13 expected: make PYTHON=python3.12 …")'
	@echo "Setting up .venv, once; this takes a few minutes."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip install --quiet -r requirements.lock
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m tasks.text.compiled
	@touch $@

demo: $(INSTALLED)  ## train, fine-tune, score and register a small model on text that every machine has
	@$(BIN)/wordmill run configs/demo.yaml

test: check  ## every check and every test
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

check: $(INSTALLED)  ## formatting, lint, types, import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

up: $(INSTALLED)  ## Prefect server, MLflow server and a worker in the background; deploys the flows
	@$(BIN)/wordmill up

down: $(INSTALLED)  ## stop what `make up` started
	@$(BIN)/wordmill down

lock: $(INSTALLED)  ## refresh requirements.lock from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-header \
		--output-file requirements.lock pyproject.toml
