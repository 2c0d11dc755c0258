# Everything runs in .venv, which `make setup` prepares; the other targets see to it themselves.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test fast bench load docs screenshots check format constraints clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@echo "Installing into .venv; the first time this takes two minutes or so."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[demo,dev]'
	touch $@

demo: setup
	$(BIN)/ls-pipeline demo

# All tests, in two processes with servers of their own, as half of the time is waiting; Chromium,
# PostgreSQL and Redis come from Debian's packages where there is apt and root.
test: setup
	scripts/chromium
	scripts/postgresql
	scripts/redis
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The tests that need no server: seconds, on all processors.
fast: setup
	$(BIN)/python -m pytest -n auto -m "not server and not browser and not machine and not slow"

# Against peers, in minutes; docs/benchmarks.md says with which sizes it was last written.
OBJECTS ?= 50000
GCS_OBJECTS ?= 1000
TASKS ?= 500
GROWTH ?= $(OBJECTS)
PUTS ?= 5
REPEATS ?= 3
bench: setup
	$(BIN)/python -m benchmarks --objects $(OBJECTS) --gcs-objects $(GCS_OBJECTS) \
		--tasks $(TASKS) --growth $(GROWTH) --puts $(PUTS) --repeats $(REPEATS)

# Many connections at once, for as long as is said; docs/load.md says how it was last written.
CONNECTIONS ?= 20
EACH ?= 1000
BIG ?= 100000
MINUTES ?= 5
load: setup
	$(BIN)/python -m benchmarks.load --connections $(CONNECTIONS) --objects $(EACH) \
		--big $(BIG) --minutes $(MINUTES)

# As a site in site/; a link that leads nowhere fails it.
docs: setup
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --quiet

# The pictures in README.md and docs, of the demo, in headless Chromium.
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

# On the oldest Python that is supported: its versions serve the newer ones, too.
constraints:
	rm -rf .venv/constraints && $(PYTHON) -m venv .venv/constraints
	.venv/constraints/bin/pip install --quiet '.[demo,dev]'
	echo "# Exact versions that the tests ran with, on Python 3.10 to 3.13. Made with \`make constraints\`." > constraints.txt
	.venv/constraints/bin/pip list --format=freeze --exclude ls-pipeline --exclude pip >> constraints.txt

clean:
	rm -rf .venv .ls_pipeline .pytest_cache .mypy_cache .ruff_cache .hypothesis site
