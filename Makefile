PYTHON ?= python3
BIN    := .venv/bin

# PyPI's torch is the CUDA build (several GB with its libraries). On a machine without a GPU the CPU
# build comes from PyTorch's own index, or from the wheel house that PIP_FIND_LINKS names.
TORCH  ?= torch==2.13.0
TRITON ?= triton==3.7.1
INDEX  ?= $(if $(or $(shell command -v nvidia-smi),$(PIP_FIND_LINKS)),,--extra-index-url https://download.pytorch.org/whl/cpu)

TESTERS ?= 2  # processes that run the tests side by side; each file stays with one of them

.DEFAULT_GOAL := help
.PHONY: help install demo test soak bench-engine chaos simulate mutations docs lint format types check clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' Makefile | expand -t 14

.venv/ready: pyproject.toml Makefile
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --retries 1 --no-deps $(TORCH) $(INDEX)
	$(BIN)/pip install --quiet --quiet --editable '.[all]' --group dev $(TRITON)
	mkdir -p .venv/typing && ln -sfn ../.. .venv/typing/penstock  # lets type checkers read `penstock.*`
	$(BIN)/python -c 'from penstock.kernels.native import cpu_library; cpu_library()'  # build them now
	touch $@

install: .venv/ready  ## make .venv with everything in it

.venv/clients/ready: .venv/ready
	$(PYTHON) -m venv --without-pip .venv/clients  # see the group in pyproject.toml
	$(BIN)/pip --python .venv/clients install --quiet --quiet --no-compile --group clients
	touch $@

.venv/newcomer/ready: .venv/ready
	$(PYTHON) -m venv --without-pip .venv/newcomer  # nothing but what users would have
	$(BIN)/pip --python .venv/newcomer install --quiet --retries 1 --no-deps $(TORCH) $(INDEX)
	$(BIN)/pip --python .venv/newcomer install --quiet --quiet --no-compile '.[all]' --group readers
	rm -rf build  # what building left; a later wheel would take files from it
	touch $@

demo: .venv/ready  ## run one bulk job and one chat on this machine
	$(BIN)/penstock demo

# Files go to the testers by name, so that the kernels' short ones come last. By their number of
# tests the last would be those of one long test each, for which one tester would wait alone.
test: .venv/ready .venv/clients/ready .venv/newcomer/ready  ## run the tests
	$(BIN)/pytest -m "not soak" --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder

soak: .venv/ready  ## run the tests that take minutes
	$(BIN)/pytest -m soak

bench-engine: .venv/ready  ## time the engine and every peer that installs, in turn
	$(BIN)/python benchmarks/engine_peers --pip-options='$(INDEX)' $(PEERS)

chaos: .venv/ready  ## kill every part under real jobs, and count what comes of it
	$(BIN)/python -m tests.chaos $(FAULTS)

simulate: .venv/ready  ## play a million random lives of the queue, each with its faults
	$(BIN)/python -m tests.chaos.simulation --seeds 1000000 $(SIMULATE)

mutations: .venv/ready  ## take safeguards out one by one; the tests must notice each
	$(BIN)/python -m benchmarks.mutations

docs: .venv/ready  ## write the API reference anew
	$(BIN)/python -m penstock.api.reference > docs/api.md.new && mv docs/api.md.new docs/api.md

lint: .venv/ready  ## check style
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: .venv/ready  ## mend style
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

types: .venv/ready  ## check types
	$(BIN)/basedpyright

check: lint types test  ## all that CI asks

clean:  ## forget .venv and every cache
	rm -rf .venv build *.egg-info .*_cache
