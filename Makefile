# Two commands are all a new checkout needs: `make demo` and `make test`. Neither needs root.
PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip
# Options for pip: .ci/run names the releases to install by them.
CONSTRAINTS ?=
# Processes that run tests, a thread each: one more than there are processors, because tests that measure or train take turns
# by the machine's own locks, and wait.
PROCESSES ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')
PYTEST := OMP_NUM_THREADS=1 $(VENV)/bin/pytest --numprocesses $(PROCESSES) --maxprocesses 4 --dist worksteal --durations 25
comma := ,

.PHONY: demo demo-svg docs install install-dev lint test test-all clean

# The engine builder has packages for x86-64 alone, and none for every Python: without it there is no TensorRT engine, and all
# else works.
define install
$(PIP) install --quiet $(CONSTRAINTS) --editable '.[tensorrt$(1)]' || { \
    echo 'pip could not install the TensorRT builder (see above): going on without it'; \
    $(PIP) install --quiet $(CONSTRAINTS) --editable '.$(1:,%=[%])'; }
@touch $@
endef

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml
	$(call install,)

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml
	$(call install,$(comma)dev)

$(VENV)/.docs: $(VENV)/bin/python pyproject.toml
	$(PIP) install --quiet $(CONSTRAINTS) --editable '.[docs]'
	@touch $@

install: $(VENV)/.demo
install-dev: $(VENV)/.dev

demo: install
	$(VENV)/bin/edgedistill build examples/digits/build.toml --target host

# The film of the documentation: the digits example from an empty cache, as it runs on this machine.
demo-svg: install-dev
	rm -rf build/digits build/digits-cache
	EDGEDISTILL_CACHE=build/digits-cache $(VENV)/bin/python docs/record_demo.py --out docs/demo.svg --columns 132 --rows 40 -- \
	    edgedistill build examples/digits/build.toml --target host --out build/digits

# The documentation site, in site/. A warning is an error.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=true $(VENV)/bin/mkdocs build --strict

lint: install-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy --config-file tests/mypy.ini
	$(VENV)/bin/lint-imports

# What a machine lacks (a browser, a data set, a vendor's package) is skipped, and named at the end.
test: lint
	$(PYTEST)

# The slow ones one after another: several of them build and measure for minutes, and would wait for one another.
test-all: test
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -m slow

clean:
	rm -rf $(VENV) site build/digits build/digits-cache examples/*/out
