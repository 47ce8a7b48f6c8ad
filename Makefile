# Every target first sets up what it needs: Python packages from PyPI, into .venv. To be there
# already: Python 3.11 or newer, make, and a C++ compiler (for `make test` and `make demo`).

PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))) \
	python3)
VENV := .venv
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

# Tools keep caches in the home folder; where there is none, in .venv.
ifneq ($(shell test -n "$$HOME" && test -d "$$HOME" && test -w "$$HOME" && echo yes),yes)
export HOME := $(CURDIR)/$(VENV)/home
endif

# Options for pytest:   make test PYTEST="-k dense"
PYTEST ?=

.PHONY: help setup compiler demo test bench lint clean distclean

help:
	@echo "make demo       MNIST from training to an iCEBreaker bitstream, every bit checked"
	@echo "make test       linter, types and all tests"
	@echo "make bench      measure everything again and write docs/benchmarks.md; takes a while"
	@echo "make lint       linter and types alone"
	@echo "make setup      Python packages into .venv, which the others do by themselves"
	@echo "make clean      remove what the others made, except .venv; make distclean: .venv as well"

setup: $(READY)

$(READY): pyproject.toml .ci/setup.py
	@$(PYTHON) .ci/setup.py $(VENV)

# Verilator's models are compiled. Said at the start, not after the packages and the training.
compiler:
	@for name in $${CXX:-g++ clang++ c++}; do command -v $$name >/dev/null && exit 0; done; \
	echo "gategrad: a C++ compiler is missing$${CXX:+ (CXX is $$CXX)}: install g++ or clang++" \
		"(Debian: apt install g++), or set CXX" >&2; exit 1

demo: compiler $(READY)
	@python -m gategrad.demo

# The linter is one of the tests, so what pytest says at the end is the whole answer.
test: compiler $(READY)
	@python .ci/tools.py
	@python -m pytest -n 2 --dist worksteal $(PYTEST)

lint: $(READY)
	@.ci/lint

bench: compiler $(READY)
	@python .ci/tools.py
	@python -m bench

clean:
	rm -rf demo build bench/.cache .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) *.egg-info
