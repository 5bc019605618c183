# make test        virtual environment, install, ruff, mypy, tests
# make test-all    the same with the slow and GPU tests
.PHONY: test test-all lint clean
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
export TOKENIZERS_PARALLELISM = false

test: $(VENV)/.dev lint
	$(BIN)/pytest -m "not slow and not gpu"

test-all: $(VENV)/.dev lint
	$(BIN)/pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

$(VENV)/.base: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch==2.13.0
	$(BIN)/pip install -q -c constraints.txt -e '.[all]'
	touch $@

$(VENV)/.dev: $(VENV)/.base
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) runs
