# make run, make test, make test-slow, make check, make bench, make update;
# `make PYTHON=python3.13 run` takes another Python.

PYTHON ?= python3
BIN = .venv/bin

run: .venv/run
	@exec $(BIN)/python -m flask serve

test: .venv/test
	$(BIN)/pytest -n 2 -m "not slow" $(OPTIONS)

test-slow: .venv/test node_modules/.installed
	$(BIN)/pytest -n 2 --dist loadgroup -m slow

check: .venv/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# make bench OPTIONS="--rounds 1 --seconds 1", or OPTIONS="--scale 100000"
bench: .venv/run
	@$(BIN)/python -m bench $(OPTIONS)

# It leaves alone what is whole, of this folder and this Python, and has the tested versions.
.venv/run:
	@$(PYTHON) -m core.environment requirements.txt

.venv/test:
	@$(PYTHON) -m core.environment requirements.txt tests/requirements.txt

# Puts the newest versions within the ranges into constraints.txt. Run it with Python 3.11, whose
# versions newer Pythons take, too. Only Python 3.11.2 needs async-timeout, and Windows colorama.
update:
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install -r tests/requirements.txt async-timeout colorama
	(sed 1q constraints.txt; $(BIN)/pip freeze) > constraints.new && mv constraints.new constraints.txt
	$(MAKE) check test test-slow

# The HTML checker and Lighthouse are optional, and want Node.js.
node_modules/.installed: package.json
	@npm install --silent --no-audit --no-fund --no-package-lock && touch $@ \
		|| echo "Without npm, the HTML checker, Lighthouse and the examples of CommonMark are missing."

.PHONY: .venv/run .venv/test run test test-slow check bench update
