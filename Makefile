# `make help` lists the targets. Everything is set up on first use: .venv, a container engine, the host image.
.PHONY: help lab lab-shell lab-down test lint unit integration e2e bench venv nvmlsim gpu-conformance clean
.NOTPARALLEL:
.DEFAULT_GOAL := help

# The first Python on PATH that is new enough.
PYTHON := $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
BIN := .venv/bin
READY := .venv/.ready
# `make lab LAB=vm` boots a virtual machine instead of a container, `NAME=` gives it another name.
LAB ?= container
NAME ?= lab-ds01
USER_ := $(if $(filter command line,$(origin USER)),$(USER),root)

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

lab: $(READY) ## Make a lab host, deploy site.yml on it, show it (LAB=vm: a virtual machine)
	@$(BIN)/python -m lab up $(NAME) $(if $(filter vm,$(LAB)),--vm)

lab-shell: $(READY) ## Log in to the lab host as root, or as someone else (USER=alice)
	@$(BIN)/python -m lab shell $(NAME) $(USER_)

lab-down: $(READY) ## Remove the lab host, and stop the engine if the lab started it
	@$(BIN)/python -m lab down $(NAME)
	@$(BIN)/python -m lab release

test: $(READY) ## Run every check and every test, and say at the end which parts failed
	@failed=; for part in lint unit integration e2e; do $(MAKE) $$part || failed="$$failed $$part"; done; \
	$(BIN)/python -m lab release; \
	test -z "$$failed" || { echo "make test: failed:$$failed"; exit 1; }
	@echo "make test: everything passed"

lint: $(READY) ## Check style, types and playbooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint --offline

unit: $(READY) ## Test the rules alone: no host, no engine
	$(BIN)/pytest --numprocesses=auto tests/unit tests/property

integration: $(READY) ## Test against a real engine and a real systemd
	$(BIN)/pytest --numprocesses=2 --dist=loadfile tests/integration

e2e: $(READY) ## Test whole hosts, from nothing to reboot (SCENARIO=default: only that one)
	@$(BIN)/python -m lab test $(or $(SCENARIO),--beside '$(BIN)/pytest tests/e2e --color=no')

bench: $(READY) ## Measure against baselines in the same run
	$(BIN)/pytest --capture=no tests/bench/bench_*.py

nvmlsim: $(READY) ## Build the NVML simulator (what needs it builds it by itself)
	@$(BIN)/python -m lab.nvmlsim build

gpu-conformance: $(READY) ## Compare this machine's real GPUs with the simulator; only reads them
	@$(BIN)/python -m tests.gpu.conformance

venv: $(READY) ## Make .venv with the pinned requirements

$(READY): requirements/controller.txt requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or call make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m lab venv
	@touch $@

clean: ## Remove lab host, host images, caches and .venv
	@test ! -x $(BIN)/python || { $(BIN)/python -m lab down $(NAME) && $(BIN)/python -m lab clean && $(BIN)/python -m lab release; }
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .ansible build dist lab/nvmlsim/build src/ds01.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
