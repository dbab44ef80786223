# make tune   set everything up and run the main job on the built-in corpus
# make test   set everything up and run the tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2
PYTEST = $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

.PHONY: setup tune test test-slow test-cluster check audit format lock clean

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
	$(PYTEST) -m "not slow and not cluster"

# The tests that take more than ten seconds: whole commands, kills, restarts. .ci/run runs these too.
test-slow: setup
	$(PYTEST) -m "slow and not cluster"

# a head, nodes, MLflow on PostgreSQL, and what is killed in the middle: half an hour
test-cluster: setup
	@ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || command -v initdb > /dev/null || { echo "PostgreSQL is needed: apt-get install postgresql" >&2; exit 2; }
	$(BIN)/python -m pytest -m cluster

# what the style of this repository is held to; part of .ci/run
check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# known vulnerabilities of the packages in the lock; asks PyPI, and fails where that cannot say
audit: setup
	@$(PYTHON) -m venv $(VENV)-audit
	@$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check "pip-audit>=2.10,<3"
	$(VENV)-audit/bin/pip-audit --strict --no-deps --disable-pip --requirement requirements.lock

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
	rm -rf $(VENV) $(VENV)-audit .mypy_cache .ruff_cache .pytest_cache .hypothesis
