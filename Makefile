# make run, make test, make test-slow, make check, make bench; `make PYTHON=python3.13 run` takes another Python.

PYTHON ?= python3
BIN = .venv/bin

run: .venv/run
	@exec $(BIN)/python -m flask serve

test: .venv/test
	$(BIN)/pytest -n 2 -m "not slow" $(OPTIONS)

test-slow: .venv/test node_modules/.installed
	$(BIN)/pytest -n 2 -m slow

check: .venv/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# make bench OPTIONS="--rounds 1 --seconds 1", or OPTIONS="--scale 100000"
bench: .venv/run
	@$(BIN)/python -m bench $(OPTIONS)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "The blog needs Python 3.11 or newer: make PYTHON=python3.13 run")'
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/run: requirements.txt .venv/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/test: tests/requirements.txt requirements.txt .venv/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	@touch $@ .venv/run

# The HTML checker and Lighthouse are optional, and want Node.js.
node_modules/.installed: package.json
	@npm install --silent --no-audit --no-fund --no-package-lock && touch $@ \
		|| echo "Without npm, the HTML checker, Lighthouse and the examples of CommonMark are missing."

.PHONY: run test test-slow check bench
