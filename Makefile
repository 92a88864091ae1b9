# make study   the five-centre study, from raw hospital files to reports/index.html
# make test    proves it: lint, types, unit tests, a tiny whole study
# make lab     JupyterLab in the same environment
# make check COHORT=name   what the study understands of a cohort, before anything runs
# make benchmarks   speed and memory on this machine -> reports/benchmarks/
# make site  COHORT=name   prepare, predict, validate and images of one cohort with the weights at hand

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(if $(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo ok),$(p))))
BIN := $(CURDIR)/.venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
WORKERS ?= 2
JOBS ?= 2
export PATH := $(BIN):$(PATH)
export PYTHONUNBUFFERED := 1

.PHONY: help study data test lab benchmarks check site lint clean ablation soak

help:
	@sed -n 's/^# //p' Makefile | head -6

$(READY): requirements.lock requirements-cpu.lock pyproject.toml
	@[ -n "$(PYTHON)" ] || { echo "Makefile: no Python 3.11 or newer found; install one, or name it: make PYTHON=/path/to/python3"; exit 1; }
	@echo "Setting up .venv with $(PYTHON) (a few minutes, once)"
	$(PYTHON) -m venv .venv
	@$(PIP) --require-hashes --no-deps -r requirements-cpu.lock 2>/dev/null || echo "No CPU build of torch in reach: taking the one on PyPI"
	$(PIP) --require-hashes --no-deps -r requirements.lock
	$(PIP) --no-build-isolation -e .
	@touch $(READY)

data: $(READY)
	python -m cardionets simulate --workers $(WORKERS)

study: data
	python -m cardionets repro --jobs $(JOBS)
	@echo "The study is done: open reports/index.html"

ablation: $(READY)
	dvc repro ablation/dvc.yaml

test: $(READY)
	ruff check . && ruff format --check . && mypy
	OMP_NUM_THREADS=1 pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not soak"

soak: $(READY)
	OMP_NUM_THREADS=1 pytest -m soak

lint: $(READY)
	ruff check --fix . && ruff format . && mypy

lab: $(READY)
	jupyter lab --notebook-dir=notebooks

benchmarks: $(READY)
	python -m benchmarks

check: $(READY)
	python -m cardionets check $(COHORT)

site: $(READY)
	@[ -n "$(COHORT)" ] || { echo "make site: COHORT is missing; type make site COHORT=name, a key of cohorts.yaml"; exit 1; }
	python -m cardionets check $(COHORT)
	dvc repro --single-item sources $(foreach s,prepare predict validate images,$(s)@$(COHORT))
	@echo "Read reports/$(COHORT)/validate/validate.html; to take part: python -m cardionets share $(COHORT)"

clean:
	rm -rf sources store weights predictions results logs scratch reports/*
