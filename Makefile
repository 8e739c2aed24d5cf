# Two commands are all a new checkout needs: `make demo` and `make test`. Neither needs root.
PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip
CONSTRAINTS ?=

.PHONY: demo test test-all lint install install-dev clean

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade pip

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml
	$(PIP) install --quiet $(CONSTRAINTS) --editable '.[tensorrt]' || $(PIP) install --quiet $(CONSTRAINTS) --editable .
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml
	$(PIP) install --quiet $(CONSTRAINTS) --editable '.[tensorrt,dev]' || $(PIP) install --quiet $(CONSTRAINTS) --editable '.[dev]'
	touch $@

install: $(VENV)/.demo
install-dev: $(VENV)/.dev

demo: install
	$(VENV)/bin/edgedistill build examples/digits/build.toml --target host

lint: install-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

test: lint
	$(VENV)/bin/pytest

test-all: lint
	$(VENV)/bin/pytest -m 'slow or not slow'

clean:
	rm -rf $(VENV) examples/*/out
