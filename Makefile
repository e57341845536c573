# Everything runs in .venv, which is made from pyproject.toml on first use.

PYTHON ?= python3
BIN := .venv/bin
DEMO := edgekit-build/digits_detector

.DEFAULT_GOAL := help
.PHONY: help demo picture test check fuzz onnx-tflite web wheel clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.installed ## compress the sample detector for four boards, and write a report
	$(BIN)/edgekit build -c sample_models/digits_detector/edgekit.toml -o $(DEMO)
	@test -s $(DEMO)/report.html
	@echo "The report: $(CURDIR)/$(DEMO)/report.html"

picture: .venv/.installed ## photograph the report of the last demo for the README
	@test -s $(DEMO)/report.html || { echo "There is no report yet: make demo" >&2; exit 1; }
	$(BIN)/python docs/picture.py $(DEMO)/report.html docs/report.png

test: .venv/.installed ## run every test, the slow ones too
	$(BIN)/python -m pytest -n auto

check: .venv/.installed ## lint, format, types and architecture
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest --quiet tests/test_architecture.py tests/test_errors.py tests/test_start.py

fuzz: .venv/.installed ## look at 2,000 damaged model files of each format
	PYTHONPATH=tests $(BIN)/python tests/fuzz.py

onnx-tflite: ## install the converter that makes TFLite of ONNX models, whose own pins are not edgekit's
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check \
		$$($(BIN)/python -c 'from edgekit.convert import onnx_converter; print(*onnx_converter.OPTIONS)')

web: .venv/.installed ## install what profiling in a browser needs; fetches its JavaScript with npm, once
	wheel=$$($(BIN)/python web_assets/build.py dist) && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$wheel" --editable '.[web]'

wheel: .venv/.installed ## build dist/edgekit-*.whl
	$(BIN)/python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist .

clean: ## remove caches, wheels and the demo's results; .venv stays
	rm -rf dist build .pytest_cache .mypy_cache .ruff_cache $(DEMO)
	find . -path ./.venv -prune -o -name __pycache__ -prune -exec rm -rf {} +

# The stamp is written last: an interrupted set-up starts again. pip is the last thing venv makes.
.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
		{ echo "edgekit needs Python 3.11 to 3.13; choose one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv || \
		{ echo "Python's venv is missing; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing edgekit and its libraries into .venv; the first time this takes minutes."
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --editable '.[dev]'
	@$(MAKE) --no-print-directory onnx-tflite
	@touch $@
