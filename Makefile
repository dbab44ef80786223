# make tune   set everything up and run the main job on the built-in corpus
# make test   set everything up and run the tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup tune test test-all check format lock clean

setup: $(STAMP)

$(STAMP): requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "Python 3.11 to 3.13 is needed, this is %d.%d; name one: make PYTHON=python3.11 setup" % v)'
	@echo "setting up $(VENV), once: a few minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@touch $(STAMP)

tune: setup
	$(BIN)/python pipelines/tune.py

test: setup
	$(BIN)/python -m pytest -m "not slow"

test-all: setup
	$(BIN)/python -m pytest

# what the style of this repository is held to; part of .ci/run
check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# after a change of pyproject.toml's dependencies: what a fresh environment resolves them to, pinned
lock:
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet "torch==2.13.0" ".[pipelines,dev]"
	echo "# Every package of .venv, pinned: what pyproject.toml asks for and what that needs. Made by \`make lock\`." > requirements.lock
	.venv-lock/bin/python -m pip freeze --exclude arae | sed 's/+cpu$$//' >> requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
