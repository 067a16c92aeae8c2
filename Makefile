# Short targets that a person can read. `make` alone lists them.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
LOCK := e2e/requirements
CACHE := $(or $(MOTLEY_CACHE),$(HOME)/.cache/motley)
UV := $(or $(shell command -v uv),$(CACHE)/uv/bin/uv)
COMPILE := $(UV) pip compile --quiet --generate-hashes --no-header --universal --python-version 3.11

.PHONY: help setup demo demo-down check test soak bench lint format types unit crds lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(VENV)/.done ## the Python environment, from hashed requirements

$(VENV)/.done: pyproject.toml $(LOCK)/dev.txt | $(UV)
	UV_PYTHON_DOWNLOADS=never $(UV) venv --quiet --allow-existing --python '>=3.11,<3.14' $(VENV)
	@echo "  … the Python environment: 5 GB the first time"
	$(UV) pip sync --quiet --compile-bytecode --python $(VENV) --require-hashes $(LOCK)/dev.txt
	$(UV) pip install --quiet --python $(VENV) --no-deps --no-build-isolation --editable .
	@touch $@

$(CACHE)/uv/bin/uv:
	$(PYTHON) -m venv $(CACHE)/uv
	$(CACHE)/uv/bin/pip install --quiet uv

demo: setup ## a cluster, Motley on it, a plan and a real completion
	$(RUN) -m e2e.demo up

demo-down: setup ## takes the demo's cluster away
	$(RUN) -m e2e.demo down

check: lint types unit ## everything that needs no cluster

test: check ## check, real engines, and every scenario once on an embedded cluster
	$(RUN) -m pytest tests -m engine
	$(RUN) -m pytest e2e/cluster_tests
	$(RUN) -m pytest e2e/scenarios

soak: setup ## the repetitions; prints its seed
	$(RUN) -m pytest tests/solver/test_properties.py --hypothesis-profile=soak
	$(RUN) -m pytest e2e/scenarios --soak

bench: setup ## the benchmarks; see bench/README.md
	$(RUN) -m bench

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

format: setup ## formats the code
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

types: setup
	$(VENV)/bin/mypy
	MYPYPATH=operator:solver:worker:tests/support:. $(VENV)/bin/mypy --strict --explicit-package-bases e2e bench

unit: setup
	$(RUN) -m pytest tests -m "not engine" -n auto --dist loadfile

crds: setup ## the CRDs from the API's models
	$(RUN) -m motley_operator.api.crdgen crds charts/motley/files/crds

lock: | $(UV) ## the requirements' locks anew, from pyproject.toml
	$(COMPILE) --extra operator pyproject.toml -o $(LOCK)/operator.txt
	$(COMPILE) --extra router pyproject.toml -o $(LOCK)/router.txt
	$(COMPILE) --extra dev --override $(LOCK)/overrides.txt pyproject.toml $(LOCK)/engine.in -o $(LOCK)/dev.txt
