# Consensus Lab: `make lab` to learn, `make test` to check. `make help` lists the rest.
# Any recent GNU make does, the 3.81 of macOS included.

PYTHON ?= python3
VENV ?= .venv
LAB_ARGS ?=
TEST_ARGS ?=
JOBS ?= 2
SMOKE ?=

BIN := $(VENV)/bin
READY := $(VENV)/.ready
FIRST := notebooks/01_two_experts.ipynb
PEERS := build/peers

# nbval compares stored outputs with a run at the notebook's own settings, so a notebook that
# trains at those settings is left to its smoke run (`make test` has one of every notebook).
TRAINING := notebooks/06_polymnist.ipynb notebooks/09_missing_modalities.ipynb
COMPARED = $(filter-out $(TRAINING),$(sort $(wildcard notebooks/*.ipynb)))
NBVAL := --nbval --nbval-current-env --nbval-cell-timeout=120 --nbval-kernel-startup-timeout=120 \
	--nbval-sanitize-with tests/nbval.cfg

.DEFAULT_GOAL := help
.PHONY: help lab test course check format benchmark peers clean

help:  ## show this list
	@echo "Consensus Lab. Two commands do all the set-up:"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo "Variables: PYTHON=python3.12  LAB_ARGS=--no-browser  TEST_ARGS='-k code'  JOBS=1  SMOKE=1"

lab: $(READY)  ## open the course in JupyterLab, at the first notebook
	$(BIN)/python -m jupyterlab --ServerApp.root_dir=. $(LAB_ARGS) $(FIRST)

test: $(READY)  ## run every test: units, doctests, notebooks, browser
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations 15 $(NBVAL) \
		tests mmvae_core README.md $(COMPARED) $(TEST_ARGS)

# One thread each: two that share a busy core make the small steps of 06 and 09 several times slower.
course: export OMP_NUM_THREADS := $(or $(OMP_NUM_THREADS),1)
course: $(READY)  ## run all notebooks into build/course (SMOKE=1: seconds each)
	@rm -rf build/course && mkdir -p build/course
	@set -- $(sort $(wildcard notebooks/*.ipynb)); total=$$#; number=0; \
	for notebook; do \
		number=$$((number + 1)); echo "[$$number/$$total] $$notebook"; \
		$(BIN)/python -m papermill --cwd notebooks $(if $(SMOKE),-p smoke True) \
			$$(grep -q '"out_dir = ' "$$notebook" && echo "-p out_dir ../build/course/runs") \
			"$$notebook" "build/course/$${notebook##*/}" || { \
			echo "make course stopped: $$notebook failed; the cell with the error is marked" \
				"in build/course/$${notebook##*/}"; exit 1; }; \
	done; echo "$$number notebooks ran; see build/course"

check: $(READY)  ## lint, formatting (notebooks too) and types
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

format: $(READY)  ## mend what lint and formatting can mend by themselves
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

# glibc gives large blocks back to the system at every step, which alone doubles times; held still.
benchmark: $(READY)  ## time aggregation and training steps, into figures/benchmarks.json
	@mkdir -p build
	MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=4294967296 \
		$(BIN)/python -m pytest tests/benchmarks --benchmark-only -p no:xdist --timeout 1800 --torch-threads=0 \
		--benchmark-columns=min,median,max --benchmark-json=build/benchmark.json $(TEST_ARGS)
	$(BIN)/python tests/benchmarks/keep.py build/benchmark.json figures/benchmarks.json

# In an environment of their own: what the others ask for is no business of the course.
peers: $(PEERS)/.ready  ## compare losses with other implementations (MultiVae)
	$(PEERS)/bin/python -m pytest tests/peers $(TEST_ARGS)

$(PEERS)/.ready: pyproject.toml constraints.txt tests/peers/requirements.txt
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --constraint constraints.txt -e ".[test]" \
		--requirement tests/peers/requirements.txt
	@touch $@

clean:  ## remove what runs leave behind (delete .venv too to start over)
	rm -rf build dist .pytest_cache .ruff_cache .mypy_cache .benchmarks *.egg-info
	find . -name $(VENV) -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) \
		-type d -prune -exec rm -rf {} +

# The environment is made anew, in place, where what it is made of has changed.
$(READY): pyproject.toml constraints.txt jupyter/consensus-lab.json
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		found=$$(command -v $(PYTHON) >/dev/null && $(PYTHON) --version 2>&1 || echo "not there"); \
		echo "Consensus Lab needs Python 3.11 or newer; $(PYTHON) is $$found." \
			"Name another one: make $(or $(MAKECMDGOALS),lab) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt-get install python3-venv"; \
		exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[lab,evaluation,test,dev]"
	@touch $@
