# Everything a developer or an operator runs from a clone. Needs Python 3.11 or later, make and a package index;
# `make run` and `make test` build what else they need in .venv.

VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Processes that run tests side by side. Tests that need a quiet machine say so with a group of their own.
TEST_PROCESSES ?= 2
TESTS ?= tests
DATA_DIR ?= ../shared/data
REPETITIONS ?= 60
export PIP_ROOT_USER_ACTION = ignore

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test fuzz lint types contracts secrets migrations-check check audit faults format lock bench real-data clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.demo ## start PostgreSQL and the service with demo data on PORT (8000)
	@exec $(BIN)/channel-gate demo

test: $(VENV)/.dev ## run the tests (TESTS=path, TEST_PROCESSES=n)
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadgroup $(TESTS)

fuzz: $(VENV)/.dev ## send many more generated requests to every operation (ten minutes)
	$(BIN)/python -m pytest -q -n 0 -m slow $(TESTS)

faults: $(VENV)/.dev ## break the service and its database under load, and prove that nothing was lost (five minutes)
	$(BIN)/python -m tests.faults

lint: $(VENV)/.dev ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## check types
	$(BIN)/mypy

contracts: $(VENV)/.dev ## check which package may import which
	$(BIN)/lint-imports

secrets: $(VENV)/.dev ## look for credentials in the files of the repository (known ones are in .secrets.baseline)
	@known=$$(mktemp); cp .secrets.baseline $$known; \
	$(BIN)/detect-secrets-hook --baseline $$known $$(git ls-files ':!requirements/*.lock' ':!.secrets.baseline'); found=$$?; \
	rm -f $$known; [ $$found -eq 0 ] || [ $$found -eq 3 ]  # 3: known ones stand on other lines now

migrations-check: $(VENV)/.dev ## go up, down and up again through the migrations, and compare them with the tables
	$(BIN)/python -m pytest -q -n 0 --durations=0 --durations-min=5 tests/db/test_migrations.py

check: lint types contracts secrets migrations-check test ## all of the above

audit: $(VENV)/.dev ## look every locked package up in the vulnerability database (needs pypi.org)
	$(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements/production.lock
	$(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements/dev.lock

format: $(VENV)/.dev ## put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev ## measure durable decisions beside a plain endpoint
	$(BIN)/python -m benchmarks

real-data: $(VENV)/.dev ## run real loan applications through the service (DATA_DIR)
	@DATA_DIR="$(DATA_DIR)" $(BIN)/python -m benchmarks.real_data

real-tiering: $(VENV)/.dev ## tier real channels year by year (DATA_DIR)
	@DATA_DIR="$(DATA_DIR)" $(BIN)/python -m benchmarks.real_tiering

tiering-acceptance: $(VENV)/.dev ## try the tiering in simulated worlds (REPETITIONS=60, some ten minutes)
	$(BIN)/python -m benchmarks.tiering --repetitions $(REPETITIONS)

tiering-plots: $(VENV)/.dev ## draw the plots of docs/re-tiering.md anew
	$(BIN)/python -m benchmarks.tiering_plots

lock: $(VENV)/.dev ## write the lock files anew from pyproject.toml
	$(PIP) install uv
	$(COMPILE) pyproject.toml --extra whatif --extra tiering --extra tracing --output-file requirements/production.lock
	$(COMPILE) --group build --output-file requirements/build.lock
	$(COMPILE) pyproject.toml --extra whatif --extra tiering --extra tracing --extra embedded \
		--constraint requirements/production.lock --output-file requirements/demo.lock
	$(COMPILE) pyproject.toml --all-extras --group dev --constraint requirements/demo.lock \
		--constraint requirements/build.lock --output-file requirements/dev.lock

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	--no-emit-index-url --custom-compile-command "make lock"

clean: ## stop the demo's database; remove it, the environment and every cache
	@if [ -x $(BIN)/channel-gate ]; then $(BIN)/channel-gate demo --remove || true; fi
	rm -rf .var $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .schemathesis dist
	find app tests migrations benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(BIN)/python:
	@for python in python3.13 python3.12 python3.11 python3 python3.14 python; do \
		if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "making $(VENV) with $$("$$python" -V)"; \
			exec "$$python" -m venv $(VENV); \
		fi; \
	done; \
	echo "Python 3.11 or later with venv is needed and was not found" >&2; exit 1

# The project is installed as a link to this folder; the locks hold every package and its hash.
$(VENV)/.demo: requirements/demo.lock requirements/build.lock pyproject.toml | $(BIN)/python
	@echo "installing what the service and its embedded PostgreSQL need"
	@$(PIP) install --require-hashes --requirement requirements/demo.lock --requirement requirements/build.lock
	@$(PIP) install --no-index --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.lock pyproject.toml | $(BIN)/python
	@echo "installing what the service and its checks need"
	@$(PIP) install --require-hashes --requirement requirements/dev.lock
	@$(PIP) install --no-index --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.demo
