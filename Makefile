# make quickstart  virtual environment, install, and the whole system once on the shipped Chinese set
# make test        virtual environment, install, ruff, mypy, tests
# make test-all    the same with the slow and GPU tests
# make nano        train the shipped model anew, from data/pairs, measured on data/beir (scripts/README.md)
.PHONY: quickstart test test-all lint nano clean
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
export TOKENIZERS_PARALLELISM = false
# One thread a test process, one process a core.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/pytest -n auto

quickstart: $(VENV)/.base
	$(BIN)/zhihui quickstart

test: $(VENV)/.dev lint
	$(PYTEST) -m "not slow and not gpu"

test-all: $(VENV)/.dev lint
	$(PYTEST)

nano: $(VENV)/.base
	$(BIN)/zhihui run recipes/nano.yaml --out runs/nano
	$(BIN)/zhihui export runs/nano/export/model --name zhihui-nano --card --license cc-by-sa-4.0 \
		--results runs/nano/evaluate --trained runs/nano/train --about scripts/nano-card.md
	rm -rf src/zhihui/starter/nano
	cp -r runs/nano/export/model src/zhihui/starter/nano

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
