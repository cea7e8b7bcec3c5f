# One command each, on a fresh machine too: every target makes what it needs.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
OUT    ?=
BENCH  ?=
GALLERY_OUT  ?= results/gallery
GALLERY_GRID := --embeddings glove --class-ratios balanced classes:1 --noise clean typo:0.10 --seeds 0 1 2

.PHONY: sweep gallery test bench lint format install clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[embedded,native,dev]'
	touch $@

sweep: install  ## the whole study on BBC News, then the answer
	$(BIN)/python sweeps/full_grid.py $(if $(OUT),--out $(OUT))

gallery: install  ## the README's figures, from a real run of some minutes
	$(BIN)/python sweeps/full_grid.py $(GALLERY_GRID) --out $(GALLERY_OUT)
	$(BIN)/python -m analysis figure $(GALLERY_OUT) accuracy --where embedding=glove input=clean --out docs/accuracy.svg
	$(BIN)/python -m analysis figure $(GALLERY_OUT) ratios --where embedding=glove input=clean --out docs/ratios.svg
	$(BIN)/python -m analysis figure $(GALLERY_OUT) distributions \
		--where model=generative embedding=glove tensor=decoder.weight width=4 --out docs/distributions.svg

test: install  ## the test suite
	$(BIN)/python -m pytest

bench: install  ## ours against straightforward code; make bench BENCH=--full for the real sizes
	nice $(BIN)/python -m tests.benchmarks $(BENCH)

lint: install  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
