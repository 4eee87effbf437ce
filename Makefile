# Two commands do all the set-up: `make demo` and `make test`. Both make .venv on first use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The CPU tests and the demo need no particular torch; this one is what they were last run with.
TORCH ?= torch==2.13.0
STAMP := $(VENV)/.installed
# Its theme prints an advertisement unless told not to.
SITE := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
# One process a core, each with whole files, whose tests share what they train.
PYTEST_ARGS ?= -n auto --dist loadfile --no-loadscope-reorder

# Where the tests are that are run with nothing beside them; to look for them everywhere takes longer than they do.
ALONE := tests/planning tests/release

.PHONY: demo test docs test-slow test-peers test-versions test-oldest test-newest wheel test-wheel test-extras check bench clean

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "whence needs Python 3.11 or newer; say which: make PYTHON=python3.12"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --progress-bar off "$(TORCH)" -e ".[dev,docs]"
	touch $@

demo: $(STAMP)
	$(BIN)/whence demo --overwrite

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy & types=$$!; $(SITE) && wait $$types
	$(BIN)/python -m pytest -q -m alone $(ALONE)
	$(BIN)/python -m pytest -m "not alone and not slow" $(PYTEST_ARGS)

# The documentation's site, in site/. A broken link, a page outside the menu or a name that is not there ends it.
docs: $(STAMP)
	$(SITE)

# Thousands of random cases of what `make test` tries with a hundred.
test-slow: $(STAMP)
	$(BIN)/python -m pytest -q -m slow

# What TRL's trainer trains on, beside what whence reads, what other tools read of what it writes, and a store that
# speaks S3, and what moves a clock; they stay out of the other environments.
PEERS := tests/data/test_remote.py tests/index/test_object_store.py tests/index/test_cut_connections.py tests/index/test_moved_clock.py tests/field/test_trl_labels.py tests/field/test_trl_record.py tests/field/test_trl_example.py tests/field/test_review_tools.py tests/field/test_inspect_eval.py
test-peers:
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --progress-bar off "$(TORCH)" -e ".[dev,trl,eval,s3]" argilla label-studio-sdk libfaketime "moto[server]"
	.venv-peers/bin/python -m pytest -q $(PEERS) -m "slow or not slow"

# Every test with the oldest libraries that pyproject.toml allows, and with the newest there are.
test-versions: test-oldest test-newest

test-oldest:
	$(PYTHON) -m venv --clear .venv-oldest
	$(PYTHON) tests/oldest.py pyproject.toml > .venv-oldest/oldest.txt
	.venv-oldest/bin/python -m pip install --quiet --progress-bar off "$(TORCH)" -e ".[dev]" -c .venv-oldest/oldest.txt
	.venv-oldest/bin/python -m pytest -m "not alone and not slow" $(PYTEST_ARGS)

test-newest:
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/python -m pip install --quiet --progress-bar off "$(TORCH)" -e ".[dev]"
	.venv-newest/bin/python -m pytest -m "not alone and not slow" $(PYTEST_ARGS)

# Wheel and sdist in dist/, checked. The version is the last tag of git.
wheel:
	test -x .venv-release/bin/python || $(PYTHON) -m venv .venv-release
	.venv-release/bin/python -m pip install --quiet --progress-bar off build twine check-wheel-contents
	rm -rf dist build
	.venv-release/bin/python -m build
	.venv-release/bin/twine check --strict dist/*
	.venv-release/bin/check-wheel-contents dist/*.whl

# The wheel in a fresh environment, and the demo from it; `.ci/wheel` alone leaves the demo out.
test-wheel: wheel
	PYTHON="$(PYTHON)" TORCH="$(TORCH)" .ci/wheel --demo

# Each extra in a fresh environment: hours of downloads, to be run on a schedule.
test-extras:
	PYTHON="$(PYTHON)" TORCH="$(TORCH)" .ci/extras

# What a change in progress wants: no set-up, formats in place, first failure stops.
check:
	$(BIN)/ruff check . && $(BIN)/ruff format . && $(BIN)/mypy && $(BIN)/python -m pytest -x -q

bench: $(STAMP)
	$(BIN)/python benchmarks/cost.py
	$(BIN)/python benchmarks/index_speed.py
	$(BIN)/python benchmarks/search.py --rows 100000

# Leaves .venv, which takes minutes to make.
clean:
	rm -rf .venv-peers .venv-oldest .venv-newest .venv-release .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist site
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
