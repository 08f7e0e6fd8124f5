# make up     start everything on this machine (needs Python 3.11 or newer and a network the first time)
# make test   the whole test suite
# make install  what the tests need into .venv, and nothing else
# make check  what CI checks beside the tests: format, lint, types, the imports between packages
# make chaos  kills and hurts everything for MINUTES=30 with SEED=n, then looks for what is lost or doubled
# make chaos-mutants  undoes the delivery protocol sentence by sentence: chaos must catch each
# make bench  measures speed, prints a table, writes build/bench.json (JOBS="consume relay", RECORDS, ROUNDS, SOAK_S, PEERS=1,
#             BESIDE=folder of another checkout, whose services take turns with ours in latency)
# make clean  removes caches and what was built; data (.careloop) and downloads stay
#
# All paths are relative, so that a clone in a path with a space works.

SHELL := /bin/sh
PY := .venv/bin/python
# Compiled modules make every later start faster.
unexport PYTHONDONTWRITEBYTECODE
UP_ARGS ?=
TEST_ARGS ?= -n auto
MINUTES ?= 30
SEED ?=
NAMES ?=

# What the tests need holds all that `up` needs: once it is installed, `up` leaves it alone.
ifneq ($(wildcard .venv/.installed-dev),)
INSTALLED := .venv/.installed-dev
else
INSTALLED := .venv/.installed-local
endif

.DEFAULT_GOAL := up
.PHONY: up test check chaos chaos-mutants bench clean install

up: $(INSTALLED)
	@$(PY) -m deploy.cli.main up $(UP_ARGS)

test: .venv/.installed-dev
	@$(PY) -m pytest $(TEST_ARGS)

check: .venv/.installed-dev
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports

chaos: .venv/.installed-dev
	@$(PY) -m tests.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

chaos-mutants: .venv/.installed-dev
	@$(PY) -m tests.chaos.mutate $(NAMES) $(if $(SEED),--seed $(SEED))

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
