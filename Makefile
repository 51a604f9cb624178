# make demo | test | test-gpu | numba-tests | bench | peers | lint | docs | wheel-test | clean
#
# Needs Python 3.11-3.13, make and git. The first command creates .venv and installs there;
# later ones reuse it. Another interpreter: make PYTHON=python3.12 test
# More options for pytest: make test PYTEST_ARGS='-k fusion -x'

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
BENCH_ARGS ?=
PEERS_ARGS ?=
BENCH_OUT ?= build/bench

BIN := $(VENV)/bin
WORKERS := $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ $$n -gt 4 ] && n=4; echo $$n)

.PHONY: demo test test-gpu numba-tests bench peers lint docs wheel-test clean

demo: $(VENV)/.demo
	$(BIN)/python examples/quickstart.py

test: $(VENV)/.test
	$(BIN)/python -P -m pytest -n $(WORKERS) --dist=worksteal $(PYTEST_ARGS)

# on Intel's OpenCL device for CPUs where there is no GPU (the packages take 3 GB)
test-gpu: $(VENV)/.test $(VENV)/.sycl
	$(BIN)/python -P -m pytest -n $(WORKERS) --dist=worksteal tests/test_gpu_*.py $(PYTEST_ARGS)

# all of Numba's own tests of array code with our passes; about an hour on 2 cores
numba-tests: $(VENV)/.test
	$(BIN)/python -P -m pytest -n $(WORKERS) --dist=worksteal tests/test_numba_suite.py \
	    --numba-tests=all $(PYTEST_ARGS)

bench: $(VENV)/.bench
	mkdir -p $(BENCH_OUT)
	$(BIN)/python -P -m pytest benchmarks/bench_workloads.py -q --benchmark-quiet \
	    --benchmark-json=$(BENCH_OUT)/results.json $(BENCH_ARGS)
	$(BIN)/python benchmarks/report.py $(BENCH_OUT)/results.json --chart $(BENCH_OUT)/ratios.png

# beside Numba, NumPy, JAX, numexpr and C; the tables go into README.md and docs/performance.md.
# PEERS_ARGS='--threads 1 2 4' for other numbers of threads.  About 15 minutes
peers: $(VENV)/.bench $(VENV)/.peers
	$(BIN)/python benchmarks/peers.py --json $(BENCH_OUT)/peers.json --write $(PEERS_ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python .ci/link.py
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W -q docs build/docs

# the built wheel, in an environment of its own, away from the checkout
wheel-test:
	sh .ci/wheel-test "$(PYTHON)"

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { \
	    echo "Python 3.11, 3.12 or 3.13 is needed; choose it: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: pyproject.toml $(VENV)/.created
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

# JAX, where there is a wheel for this interpreter; without it the table has no such column
$(VENV)/.peers: pyproject.toml $(VENV)/.created
	-$(BIN)/python -m pip install --quiet --editable '.[peers]'
	touch $@

$(VENV)/.test $(VENV)/.bench $(VENV)/.lint $(VENV)/.docs $(VENV)/.sycl: $(VENV)/.%: pyproject.toml $(VENV)/.created
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@
