# Two commands do all the set-up: `make lab` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := mmlab tests noxfile.py conftest.py notebooks/links.py

# Three at a time on two cores: the tests wait more than they compute.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder
ENGLISH := notebooks/[0-9]*.ipynb
NBVAL := --nbval --nbval-sanitize-with tests/e2e/notebooks/nbval.cfg --nbval-kernel-startup-timeout 600

.PHONY: lab quick test full versions bench bare lint models notebooks wheel docs colab constraints \
  engine fonts prism flink clean help

help:
	@echo "make lab    opens JupyterLab on the notebooks (makes $(VENV) on first use)"
	@echo "make quick  runs the unit tests: no pipeline runs, no process starts (1 to 2 minutes)"
	@echo "make test   runs all that a change can break, every notebook included (10 to 20 minutes)"
	@echo "make full   runs one part of what needs many runs: make full PART=..."
	@echo "make prism  installs the runner that Beam prefers in scripts, for the tests (2 to 6 minutes)"
	@echo "make flink  runs jobs on an embedded Flink, where Beam's job server can be had"
	@echo "make versions  tests every Python and Beam that we claim, and the newest of everything"
	@echo "make bench  measures what watching, drawing and predicting cost, beside peers (15 minutes)"
	@echo "make wheel  puts mmlab into one file, for Colab: dist/mmlab-*.whl"
	@echo "make docs   builds the API reference from the docstrings: build/api/index.html"
	@echo "make bare   runs the first two on a bare Debian, in a root of its own (as root; debootstrap)"
	@echo "make colab  runs notebooks on Colab's kernel stack, with mmlab from that file only"

lab: $(READY)
	@$(BIN)/python -m mmlab.lessons
	@echo "Opening JupyterLab: without a browser, open the address that it prints. Ctrl-C ends it."
	@$(BIN)/jupyter lab notebooks $(if $(filter 0,$(shell id -u)),--allow-root) \
	  $(if $(or $(DISPLAY),$(WAYLAND_DISPLAY),$(filter Darwin,$(shell uname))),,--no-browser) $(LAB_ARGS)

# Says at the end of a recipe, also of one that fails, how long it took.
TIMED = @began=$$(date +%s); trap 'echo "make $@ took $$(($$(date +%s) - began)) seconds."' EXIT;

quick: $(READY)
	$(TIMED) $(PYTEST) --quick $(TEST_ARGS)

# Types are checked while the lessons' models are trained, each on one core. Then the longest files
# come first: three workers share them.
test: $(READY)
	@$(MAKE) --no-print-directory -j 2 lint models
	$(TIMED) $(PYTEST) $(NBVAL) $(ENGLISH) tests/integration tests mmlab $(TEST_ARGS)

full: $(READY)
	@$(BIN)/python -m tests.lanes $(PART)
	$(TIMED) $(PYTEST) --part $(PART) tests $(TEST_ARGS)

# Needs python3.10 to python3.13, on PATH or in pyenv; to do with those that are there:
# NOX_ARGS=--no-error-on-missing-interpreters
versions: $(READY)
	@$(call install,--editable '.[versions]')
	$(TIMED) $(BIN)/nox $(NOX_ARGS)

models: $(READY)
	@$(BIN)/python -m mmlab.lessons

lint: $(READY)
	@$(BIN)/ruff check --quiet $(SOURCES) && $(BIN)/ruff format --quiet --check $(SOURCES) || \
	  { echo "The code is not in the house style: run $(BIN)/ruff format mmlab tests"; exit 1; }
	@export DENO_NO_UPDATE_CHECK=1; $(BIN)/deno lint --quiet && $(BIN)/deno fmt --quiet --check || \
	  { echo "The page's script is not in the house style: run $(BIN)/deno fmt"; exit 1; }
	@$(BIN)/mypy --no-error-summary || { echo "The types do not agree: see above."; exit 1; }

# Runs the notebooks and stores what they show; before that it writes the project's home into them.
notebooks: $(READY)
	@$(BIN)/python notebooks/links.py
	$(BIN)/jupyter nbconvert --log-level WARN --to notebook --inplace --execute \
	  --ExecutePreprocessor.record_timing=False --ExecutePreprocessor.store_widget_state=False $(or $(NOTEBOOK),$(ENGLISH))

# Setuptools would pack what an earlier build left in build/lib.
wheel: $(READY)
	@rm -rf build/lib dist/mmlab-*.whl
	@$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@echo "Put this beside the notebook: $$(ls dist/mmlab-*.whl)"

# The public calls, and the classes of what they return.
REFERENCE := mmlab !mmlab.lessons mmlab.compare.comparison mmlab.draw.picture mmlab.explorer.explorer \
  mmlab.fit mmlab.fresh.outcome mmlab.lru mmlab.machine mmlab.page.build mmlab.reports.summary \
  mmlab.state.records mmlab.state.run mmlab.watching.programs

docs: $(READY)
	@$(BIN)/python -m pdoc --docformat google --no-show-source --output-directory build/api \
	  $(foreach module,$(REFERENCE),'$(module)')
	@echo "Open build/api/index.html"

colab: wheel
	$(TIMED) $(BIN)/python -m tests.e2e.colab $(NOTEBOOK)

bench: $(READY)
	@$(call install,--editable '.[bench]')
	$(TIMED) for script in tests/bench/bench_*.py; do echo "== $$script"; PYTHONPATH=. $(BIN)/python $$script || exit 1; done

# uv is several times faster than pip, which installs where uv cannot. Neither compiles: Python does
# that at the first import, and must then keep what it has compiled.
unexport PYTHONDONTWRITEBYTECODE
UV = $(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt
PIP = $(BIN)/python -m pip install --no-compile --progress-bar on --constraint constraints.txt
install = { test -x $(BIN)/uv && $(UV) $(1); } || $(PIP) $(1)

# On Linux the package index has PyTorch with its GPU libraries only. The smaller build for
# processors is in an index of its own, which may be out of reach; it is asked without patience.
NO_GPU = test "$$(uname)" = Linux -a ! -e /proc/driver/nvidia/version && ! command -v nvidia-smi >/dev/null
CPU_INDEX = UV_HTTP_RETRIES=0 UV_HTTP_CONNECT_TIMEOUT=5 UV_HTTP_TIMEOUT=5 \
  $(UV) --quiet --dry-run --reinstall --no-deps --torch-backend cpu torch 2>/dev/null

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "mmlab needs Python 3.10 to 3.13; $(PYTHON) is another or missing. Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "[1/3] Making $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "This Python cannot make virtual environments: install its venv module (Debian: apt install python3-venv)."; exit 1; }
	@$(BIN)/python -m pip install --quiet --no-compile uv || \
	  echo "uv could not be installed: pip installs the rest, which takes some minutes more."
	@echo "[2/3] Installing PyTorch (the largest part)"
	@if $(NO_GPU) && $(CPU_INDEX); then \
	    echo "This machine has no NVIDIA driver: PyTorch comes without GPU libraries."; \
	    $(UV) --torch-backend cpu torch || $(call install,torch); \
	  else \
	    if $(NO_GPU); then echo "The index of PyTorch without GPU libraries cannot be reached: some GB of them come along."; fi; \
	    $(call install,torch); fi || \
	  { echo "PyTorch could not be installed: is the network there? Run the same command again to go on."; exit 1; }
	@echo "[3/3] Installing mmlab and what it needs"
	@$(call install,--editable '.[lab$(COMMA)test]') || \
	  { echo "mmlab could not be installed: is the network there? Run the same command again to go on."; exit 1; }
	@$(BIN)/jupyter labextension disable --level=sys_prefix "@jupyterlab/apputils-extension:announcements" >/dev/null 2>&1 || true
	@touch $@
COMMA := ,

# Resolves pyproject.toml for every Python that it claims, into one list of the newest versions.
constraints: $(READY)
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.10 --no-annotate \
	  --no-header --quiet --upgrade --output-file constraints.txt

# Needs root and debootstrap; tests/bare/bare.sh says what can be set.
bare:
	@tests/bare/bare.sh

# Fetches Graphviz as WebAssembly anew, of another version: ENGINE_VERSION=3.31.0
engine: $(READY)
	$(BIN)/python mmlab/diagrams/engine/renew.py $(ENGINE_VERSION)

# Tests that need it are skipped without it.
prism: $(READY)
	@$(BIN)/python -m tests.prism

# Says in one line what is missing where it cannot run.
flink: $(READY)
	@$(BIN)/python -m tests.flink

# Makes the fonts anew from Debian's packages.
fonts: $(READY)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt fonttools
	$(BIN)/python mmlab/fonts/renew.py

clean:
	rm -rf $(VENV) .nox build dist .pytest_cache .hypothesis .ruff_cache .mypy_cache
