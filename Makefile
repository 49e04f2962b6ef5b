# Everything installs itself into .venv on first use: CPython >= 3.11 with pip and venv is enough.
#   make demo    fine-tune a model on real messages, score it, label new sentences (minutes)
#   make test    the tests            make check   lint, format, types
#   make proof   the slow proofs      make bench   benchmarks against peers
#   make lock    resolve requirements.lock anew

PYTHON ?= python3
# PyTorch has one wheel for CPUs and another with CUDA, so it is pinned here and not in the lock
# file, whose hashes hold for one wheel only.
TORCH ?= torch==2.13.0
BIN := .venv/bin
DEMO := runs/demo-$(shell date +%Y%m%d-%H%M%S)

.PHONY: setup demo test check proof proof-long bench lock clean

setup: .venv/ready

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Lightune needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: setup
	$(BIN)/lightune train recipes/sms_spam.yaml --out $(DEMO)
	$(BIN)/lightune predict $(DEMO) \
	  --text "Congratulations! You have won a free cruise, call 09061701461 now to claim" \
	  --text "Running ten minutes late, order me a coffee please" \
	  --text "Your mailbox is full. Reply YES to upgrade for only 1.50 per week"

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not proof" -n auto --dist loadfile

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py

# Goes on where it stopped when called again; `proof-long` kills a thousand trainings.
proof: setup
	$(BIN)/python tests/proof/run.py
	$(BIN)/python -m pytest -m proof --timeout 3600

proof-long: setup
	$(BIN)/python tests/proof/run.py --long

# Ends within about an hour and goes on where it stopped when called again. All of it, scores of
# whole trainings included: benchmarks/bench_training.py --full, the others without --minutes.
MINUTES ?= 40
bench: setup
	$(BIN)/python benchmarks/bench_training.py --minutes $(MINUTES)
	$(BIN)/python benchmarks/bench_growth.py --minutes 8
	$(BIN)/python benchmarks/bench_parts.py --rounds 1 --minutes 10
	$(BIN)/python benchmarks/profile_steps.py
	$(BIN)/python benchmarks/performance_page.py

lock:
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --unsafe-package torch --strip-extras \
	  --extra test --extra track --no-emit-index-url --no-emit-find-links \
	  --no-header --output-file requirements.lock pyproject.toml

clean:
	rm -rf .venv build dist *.egg-info
