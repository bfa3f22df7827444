# Everything a person types. `make help` lists it.
#
# PYTHON chooses the interpreter of a new .venv: make install PYTHON=python3.12
# ARGS  is handed on:                            make run ARGS=--lan
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

ROOMS := accounts_api bridge broker config mobile_client_demo plugins
LINKS := $(addprefix .typing/aldis/,$(ROOMS))

# uv where it is, pip everywhere else: the lock and its hashes are the same for both.
UV := $(shell command -v uv 2>/dev/null)
PIP_INSTALL := $(if $(UV),uv pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install -qq --disable-pip-version-check)
PIP_CHECK := $(if $(UV),uv pip check --quiet --python $(BIN)/python,$(BIN)/python -m pip --disable-pip-version-check check)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install run cluster test check lint types unit bench conformance faults format lock vendor screenshots clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/.project $(LINKS) ## Make .venv and install exactly what requirements.lock names

run: install ## Install, then start the server (make run ARGS="--lan")
	@exec $(BIN)/aldis up $(ARGS)

cluster: install ## MariaDB, Redis, two nodes, REST API, balancer, all on this machine (ARGS="--nodes 3 --no-balancer")
	@scripts/test-servers
	@exec $(BIN)/python -m scripts.cluster $(ARGS)

test: install ## Everything: Debian packages where missing, lint, types, all tests (WORKERS=4 for more at a time)
	@scripts/test-servers
	@$(MAKE) --no-print-directory lint types
	@$(BIN)/python -m tests $(ARGS)

check: lint types unit ## Quick: lint, types, unit tests, arrows

lint: install
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted: run 'make format'" >&2; exit 1; }

types: install
	@$(BIN)/mypy

unit: install ## Unit tests and arrows
	@scripts/test-servers
	@$(BIN)/python -m pytest --quiet --numprocesses auto --dist loadfile tests/unit tests/architecture

bench: install ## Benchmarks (make bench ARGS=--help)
	@$(BIN)/python -m benchmarks $(ARGS)

fuzz: install ## Fuzz what hostile clients reach, a minute each (make fuzz ARGS="codec --seconds 600")
	@$(BIN)/python -c "import atheris" 2>/dev/null || $(PIP_INSTALL) --no-deps --require-hashes -r requirements-fuzz.lock
	@$(BIN)/python scripts/fuzz.py $(ARGS)

conformance: install ## Write docs/conformance.md anew from the tests
	@$(BIN)/python -m tests.conformance.statements

faults: install ## Break the cluster for an hour and check what clients saw (make faults ARGS="--minutes 10 --seed 7")
	@scripts/test-servers
	@$(BIN)/python -m tests.faults $(ARGS)

soak: install ## Ten minutes of mixed load, then whether anything is left behind (make soak ARGS="--minutes 3")
	@$(BIN)/python -m benchmarks.soak $(ARGS)

format: install ## Sort imports and format
	@$(BIN)/ruff check --quiet --select I --fix .
	@$(BIN)/ruff format --quiet .

# The second lock is the part of the first that the container image needs: no test tools. The third is for `make fuzz`.
LOCK := uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

lock: ## Resolve the dependencies again (needs uv; ARGS=--upgrade for newer versions)
	@test -n "$(UV)" || { echo "make lock needs uv: https://docs.astral.sh/uv/" >&2; exit 1; }
	@$(LOCK) --extra dev --extra s3 $(ARGS) -o requirements.lock
	@$(LOCK) --extra s3 --constraint requirements.lock -o requirements-runtime.lock
	@$(subst pyproject.toml,--group fuzz,$(LOCK)) $(ARGS) -o requirements-fuzz.lock

vendor: install ## Fetch the libraries of the web chat again (needs npm)
	@$(BIN)/python -m scripts.vendor_web

screenshots: install ## Take the pictures of the web chat again, docs/images
	@scripts/test-servers
	@SCREENSHOTS=docs/images $(BIN)/python -m pytest --quiet tests/web/test_journey_shown.py

clean: ## Remove .venv and caches; never the data
	@rm -rf $(VENV) .typing .mypy_cache .pytest_cache .ruff_cache .hypothesis .fuzz *.egg-info build dist

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Aldis needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -n 1)." >&2; \
		echo "Name another one: make $(or $(MAKECMDGOALS),install) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); echo "On Debian: apt-get install python3-venv" >&2; exit 1; }

# Two stamps, because the lock seldom changes and the second step takes only seconds.
$(VENV)/.locked: requirements.lock $(BIN)/python
	@echo "installing what requirements.lock names …"
	@$(PIP_INSTALL) --no-deps --require-hashes -r requirements.lock
	@touch $@

$(VENV)/.project: $(VENV)/.locked pyproject.toml
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@$(PIP_CHECK)
	@touch $@

.typing/aldis/%:
	@mkdir -p $(@D) && ln -sfn ../../$* $@
