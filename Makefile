# Two commands do all the set-up: `make lab` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TORCH := $(shell sed -n 's/^torch==\([^ ;]*\).*/torch==\1/p' constraints.txt)

.PHONY: lab test versions bench lint notebooks wheel colab constraints bare engine fonts clean help

help:
	@echo "make lab    opens JupyterLab on the notebooks (makes $(VENV) on first use)"
	@echo "make test   runs every test and every notebook"
	@echo "make versions  tests every Python and Beam that we claim, each in an environment of its own"
	@echo "make bench  measures what watching, drawing and predicting cost, beside peers"
	@echo "make wheel  puts mmlab into one file, for Colab: dist/mmlab-*.whl"
	@echo "make bare   runs the first two on a bare Debian, in a root of its own (as root; debootstrap)"
	@echo "make colab  runs notebooks on Colab's kernel stack, with mmlab from that file only"

lab: $(READY)
	@$(BIN)/python -m mmlab.lessons
	@echo "Opening JupyterLab: without a browser, open the address that it prints. Ctrl-C ends it."
	@$(BIN)/jupyter lab notebooks $(if $(filter 0,$(shell id -u)),--allow-root) \
	  $(if $(or $(DISPLAY),$(WAYLAND_DISPLAY),$(filter Darwin,$(shell uname))),,--no-browser) $(LAB_ARGS)

# Three at a time on two cores: the tests wait more than they compute.
test: $(READY) lint
	@$(BIN)/python -m mmlab.lessons
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --nbval --nbval-sanitize-with tests/nbval.cfg $(TEST_ARGS)

# Needs python3.10 to python3.13, on PATH or in pyenv; to do with those that are there:
# NOX_ARGS=--no-error-on-missing-interpreters
versions: $(READY)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[versions]'
	$(BIN)/nox $(NOX_ARGS)

lint: $(READY)
	@$(BIN)/ruff check --quiet mmlab tests noxfile.py conftest.py && $(BIN)/ruff format --quiet --check mmlab tests noxfile.py conftest.py || \
	  { echo "The code is not in the house style: run $(BIN)/ruff format mmlab tests"; exit 1; }

# Runs the notebooks and stores what they show.
notebooks: $(READY)
	$(BIN)/jupyter nbconvert --log-level WARN --to notebook --inplace --execute \
	  --ExecutePreprocessor.record_timing=False --ExecutePreprocessor.store_widget_state=False $(or $(NOTEBOOK),notebooks/*.ipynb)

# Setuptools would pack what an earlier build left in build/lib.
wheel: $(READY)
	@rm -rf build/lib dist/mmlab-*.whl
	@$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@echo "Put this beside the notebook: $$(ls dist/mmlab-*.whl)"

colab: wheel
	$(BIN)/python -m tests.colab $(NOTEBOOK)

bench: $(READY)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	@for script in tests/bench/bench_*.py; do echo "== $$script"; PYTHONPATH=. $(BIN)/python $$script || exit 1; done

# --no-compile halves the time: Python compiles what is imported, when it is, and must then keep it.
unexport PYTHONDONTWRITEBYTECODE
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "mmlab needs Python 3.10 to 3.13; $(PYTHON) is another or missing. Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "[1/3] Making $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "This Python cannot make virtual environments: install its venv module (Debian: apt install python3-venv)."; exit 1; }
	@echo "[2/3] Installing $(TORCH) (the largest part, some minutes)"
	@$(BIN)/python -m pip install --no-compile --progress-bar on $(TORCH) || \
	  { echo "PyTorch could not be installed: is the network there? Run the same command again to go on."; exit 1; }
	@echo "[3/3] Installing mmlab and what it needs"
	@$(BIN)/python -m pip install --no-compile --progress-bar on --constraint constraints.txt --editable '.[lab,test]' || \
	  { echo "mmlab could not be installed: is the network there? Run the same command again to go on."; exit 1; }
	@$(BIN)/jupyter labextension disable --level=sys_prefix "@jupyterlab/apputils-extension:announcements" >/dev/null 2>&1 || true
	@touch $@

# Resolves pyproject.toml for every Python that it claims, into one list of exact versions.
constraints: $(READY)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.10 --no-annotate \
	  --no-header --quiet --output-file constraints.txt

# Needs root and debootstrap; tests/bare/bare.sh says what can be set.
bare:
	@tests/bare/bare.sh

# Fetches Graphviz as WebAssembly anew, of another version: ENGINE_VERSION=3.31.0
engine: $(READY)
	$(BIN)/python mmlab/diagrams/engine/renew.py $(ENGINE_VERSION)

# Makes the fonts anew from Debian's packages.
fonts: $(READY)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt fonttools
	$(BIN)/python mmlab/fonts/renew.py

clean:
	rm -rf $(VENV) .nox build dist .pytest_cache .hypothesis .ruff_cache
