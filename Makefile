# Every target does its own set-up, and only when it is out of date. `make KIND=cpu` ignores a GPU; `make test WORKERS=2`
# takes two processes instead of as many as there are processors.
KIND := $(or $(KIND),$(if $(shell nvidia-smi -L 2>/dev/null),gpu,cpu))
PYTHON ?= $(firstword $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p; done; true))
BIN := .venv/bin
INPUTS := pyproject.toml .ci/constraints.txt .ci/constraints-$(KIND).txt
LIBRARIES := libegl1 libgl1 libglu1-mesa libgl1-mesa-dri
PLAYERS := gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-nice \
	gstreamer1.0-libav python3-gi gir1.2-gst-plugins-bad-1.0 coturn
WORKERS ?= logical
PARALLEL := -n $(WORKERS) --maxprocesses=8 --dist=worksteal
SLOW := gpu or slow or network or fuzz or soak

.PHONY: help play test test-all check bench format clean
help:
	@echo "make play      play in the browser"
	@echo "make test      the quick tests     make test-all   the slow ones too"
	@echo "make check     lint, types, layers make format     put the code in form"
	@echo "make bench     the benchmark table make clean      forget the set-up"

play: .venv/.play-$(KIND)
	$(BIN)/rewander play

test: .venv/.dev-$(KIND)
	@.ci/debian chromium $(LIBRARIES)
	$(BIN)/python -m pytest $(PARALLEL)

test-all: .venv/.dev-$(KIND)
	@.ci/debian chromium $(LIBRARIES) $(PLAYERS)
	$(BIN)/python -m pytest $(PARALLEL) -m "not ($(SLOW))"
	$(BIN)/python -m pytest -m "$(SLOW)"

bench: .venv/.play-$(KIND)
	$(BIN)/rewander bench

check: .venv/.dev-$(KIND)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/vulture

format: .venv/.dev-$(KIND)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf .venv

.venv/.play-$(KIND): EXTRAS := $(KIND)
.venv/.dev-$(KIND): EXTRAS := $(KIND),train,dev
.venv/.play-$(KIND) .venv/.dev-$(KIND): $(INPUTS) | .venv
	@echo "Installing for $(KIND); the first time takes minutes."
	@rm -f $(filter-out .venv/.%-$(KIND),$(wildcard .venv/.play-* .venv/.dev-*))
	@$(BIN)/pip uninstall -qqy $(if $(filter gpu,$(KIND)),faiss-cpu,faiss-gpu)
	@$(BIN)/pip install -q -c .ci/constraints-$(KIND).txt -e '.[$(EXTRAS)]'
	@touch $@

.venv:
	@test -n "$(PYTHON)" || { echo "Rewander needs Python 3.11 or newer." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || .ci/debian python3-venv
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
