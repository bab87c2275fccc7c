# `make quickstart` and `make test` are all that a fresh machine needs; both install into .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test check install clean
quickstart: install
	$(BIN)/lidr run quickstart

test: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/function_length.py src tools
	$(BIN)/python -m pytest

install: $(BIN)/.installed

# torch first and by its exact version, so that pip does not choose another build for the packages that need it.
# pip compiles to bytecode on one core; compileall does it on all. It says 1 where a package has files that are no
# Python 3, which pip passes over too.
$(BIN)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e ".[gguf,dev]"
	$(BIN)/python -m compileall -qq -j 0 .venv/lib || true
	touch $@

clean:
	rm -rf .venv
