# One command each, on a fresh machine too: every target makes what it needs.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= 2
OUT    ?=
BENCH  ?=
GALLERY ?= results/ag_news

.PHONY: sweep gallery test quick bench lint format install clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[embedded,native,dev]'
	touch $@

sweep: install  ## the whole study on BBC News, then the answer
	$(BIN)/python sweeps/full_grid.py $(if $(OUT),--out $(OUT))

gallery: install  ## the README's figures, from the results in GALLERY
	$(BIN)/python -m analysis figure $(GALLERY) accuracy --where internal_bits=8 input=clean --out docs/accuracy.svg
	$(BIN)/python -m analysis figure $(GALLERY) ratios --where internal_bits=8 input=clean --out docs/ratios.svg
	$(BIN)/python -m analysis figure $(GALLERY) noise --where internal_bits=8 class_ratio=balanced --out docs/noise.svg

# slow tests start first, whatever their module: --no-loadscope-reorder keeps that order
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --no-loadscope-reorder

test: install  ## the test suite
	$(PYTEST)

quick: install  ## the tests that take seconds, for daily work
	$(PYTEST) -m 'not slow'

bench: install  ## ours against straightforward code; make bench BENCH=--full for the real sizes
	nice $(BIN)/python -m tests.benchmarks $(BENCH)

lint: install  ## style, types, and which module may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
