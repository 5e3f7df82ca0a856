# make demo   the main job on a small network: train, quantize, compile, simulate, report
# make test   every test: lit, then pytest, a process for each of JOBS=2 cores
# make check  ruff, pyright, import-linter
# make lit    the .mlir tests alone
#
# Each creates .venv when it is missing and installs again only when the requirements change.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test check lit install clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -6

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python >= 3.11 is needed, found `$(PYTHON) --version`; try make PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): a minute or more"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/python -m npu_dialect.tools.demo

test: lit
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

lit: $(STAMP)
	@$(BIN)/python -m compileall -q npu_dialect passes frontends runtime tools  # a process for each test
	$(BIN)/lit --quiet test

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/pyright --project pyproject.toml --pythonpath $(BIN)/python
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build dist demo_output *.egg-info
