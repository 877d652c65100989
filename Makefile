# Everything runs in a virtual environment of its own, built from pinned versions. Needed: Python 3.10 or newer, and make.
#   make PYTHON=python3.12        another interpreter
#   make VENV=/path/to/venv       another place for the environment
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CODE := drqn_sb3 eval tests
PEERS := pfrl torchrl
# What is imported is compiled once and kept, whatever the surroundings say (containers often forbid it): tests and checks start
# hundreds of processes.
export PYTHONDONTWRITEBYTECODE :=
TORCH := $(shell sed -n 's/^\(torch==[^ ;]*\).*/\1/p' constraints.txt)

.DEFAULT_GOAL := help
.PHONY: help venv demo bench bench-peers test test-slow commit-checks format lint type constraints clean

help: ## show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(READY) ## build the virtual environment (every target below does so when it needs one)

demo: $(READY) ## train and compare a few agents within minutes, and write a report: demo/report/index.html
	$(BIN)/python -m eval run eval/suites/smoke.yml --out demo
	$(BIN)/python -m eval report demo --out demo/report

bench: $(READY) ## measure how fast everything is, beside what else there is (BENCH_ARGS="--device cuda --profile")
	$(BIN)/python -m eval throughput $(foreach peer,$(PEERS),--python-$(peer) $(VENV)-$(peer)/bin/python) $(BENCH_ARGS)

bench-peers: $(PEERS:%=$(VENV)-%/.ready) ## build environments of their own for the libraries that bench compares with

# One thread per worker: pytest runs four of them, which often wait for processes of their own.
test: $(READY) ## run the test suite without the learning tests (PYTEST_ARGS=...)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

test-slow: $(READY) ## run the learning tests, which take long
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

commit-checks: $(READY) ## lint, check the format and the types, change nothing
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy

format: $(READY) ## sort the imports and format the code
	$(BIN)/ruff check --select I --fix $(CODE)
	$(BIN)/ruff format $(CODE)

lint: $(READY) ## check the code with ruff
	$(BIN)/ruff check $(CODE)

type: $(READY) ## check the types with mypy
	$(BIN)/mypy

# Keeps the pins it finds as far as pyproject.toml allows (UV_ARGS=--upgrade: looks for newer ones). What only the CUDA
# builds of torch need is left out: torch names its own exact versions.
constraints: ## solve the pinned versions anew, for every Python and platform at once
	test -x $(VENV)-uv/bin/uv || { $(PYTHON) -m venv $(VENV)-uv && $(VENV)-uv/bin/pip install uv; }
	$(VENV)-uv/bin/uv pip compile --quiet --universal --python-version 3.10 --extra dev --no-header --no-annotate \
		$(UV_ARGS) pyproject.toml --output-file constraints.txt
	{ echo "# What the tests ran with. Written by 'make constraints'."; \
		grep -vE "^(#|nvidia-|cuda-|triton|[a-z0-9-]+==[^ ]+ ;.*== 'emscripten')" constraints.txt; } > constraints.tmp
	mv constraints.tmp constraints.txt

clean: ## remove the environments, the caches, and the results of demo, bench and soak
	rm -rf $(VENV) $(VENV)-uv $(PEERS:%=$(VENV)-%) throughput soak .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist demo
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes first and by itself, so that pip takes the build that its own settings prefer (a CPU-only one, say). The others are
# installed as they are pinned, all at once, without looking for versions that fit together: that they do is checked then.
# The start-up hook is copied into the environment: it has to be installed again when it changes. All that is installed is
# compiled in the end, on all cores at once, where pip takes one. What is written for another version of Python can't be (some
# file of torch's always is), and matters to nobody.
$(READY): pyproject.toml constraints.txt drqn_sb3/_zoo_hook.py drqn_sb3/drqn_sb3_zoo.pth
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed" if sys.version_info < (3, 10) else 0)'
	@echo "building $(VENV): a few minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt $(TORCH)
	$(BIN)/python -m pip install --quiet --no-compile --no-deps -r constraints.txt
	$(BIN)/python -m pip install --quiet --no-compile --no-deps -e .
	$(BIN)/python -m pip check
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

# PyTorch first here too, the same as ours.
$(VENV)-%/.ready: eval/throughput/peers/%.txt constraints.txt
	test -x $(VENV)-$*/bin/python || $(PYTHON) -m venv $(VENV)-$*
	$(VENV)-$*/bin/python -m pip install --quiet $(TORCH)
	$(VENV)-$*/bin/python -m pip install --quiet -r $<
	@touch $@
