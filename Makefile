# make up     start everything on this machine (needs Python 3.11 or newer and a network the first time)
# make test   the whole test suite
# make check  what CI checks beside the tests: format, lint, types, the imports between packages
# make bench  measures throughput, prints a table, writes build/bench.json
# make clean  removes caches and what was built; data (.careloop) and downloads stay
#
# All paths are relative, so that a clone in a path with a space works.

SHELL := /bin/sh
PY := .venv/bin/python
# Compiled modules make every later start faster.
unexport PYTHONDONTWRITEBYTECODE
UP_ARGS ?=
TEST_ARGS ?= -n auto

# What the tests need holds all that `up` needs: once it is installed, `up` leaves it alone.
ifneq ($(wildcard .venv/.installed-dev),)
INSTALLED := .venv/.installed-dev
else
INSTALLED := .venv/.installed-local
endif

.DEFAULT_GOAL := up
.PHONY: up test check bench clean install

up: $(INSTALLED)
	@$(PY) -m deploy.cli.main up $(UP_ARGS)

test: .venv/.installed-dev
	@$(PY) -m pytest $(TEST_ARGS)

check: .venv/.installed-dev
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports

bench: .venv/.installed-dev
	@$(PY) -m tests.bench

install: .venv/.installed-dev

.venv/.installed-local: requirements/uv.txt requirements/local.txt pyproject.toml
	@sh deploy/local/install.sh local

.venv/.installed-dev: requirements/uv.txt requirements/dev.txt pyproject.toml
	@sh deploy/local/install.sh dev

clean:
	@rm -rf build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .grimp_cache .hypothesis
	@find services shared deploy tests -type d -name __pycache__ -prune -exec rm -rf {} +
