# The first on the PATH that was built with PGO, as a worker is about 1.25 × as fast on it; asked for in recipes alone.
PYTHON ?= $(shell python3 tests/support/interpreter.py)
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
QUICK := not slow and not kafka and not celery and not faults

.DEFAULT_GOAL := help
.PHONY: help install hooks test bytecode test-quick test-python test-this-python test-laws test-tools fuzz faults model mutants coverage fmt lint semantics reference recipes bench bench-long demo demo-kafka producers k8s-check kafka-up kafka-down kafka-status clean lock

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## Create .venv from requirements.lock; does nothing when it is up to date

$(STAMP): requirements.lock pyproject.toml
	@echo "Installing into $(VENV): one to five minutes"
	@python=$(PYTHON) && $$python tests/support/interpreter.py $$python && $$python -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
	@echo "Installed: $(BIN)/triggerstream --help lists the commands"

hooks: install ## Have git run the checks of .pre-commit-config.yaml before each commit and push
	@$(BIN)/pre-commit install --hook-type pre-commit --hook-type pre-push

# A test process waits for its servers half of the time: four of them keep two cores busy. The order of the files is that
# of tests/support/order.py.
test: install ## Lint, then the tests, slow ones included; the longest are in faults, fuzz and mutants
	@$(MAKE) --no-print-directory -j2 lint bytecode
	@$(BIN)/python -m tests.k8s.rendering
	@$(BIN)/pytest -m "not faults" -n 4 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# Each of the four would compile all tests and rewrite their assertions, which takes 15 s. What fails here fails there.
bytecode: install
	@$(BIN)/pytest --collect-only --quiet >/dev/null 2>&1 || true

test-quick: install ## The tests that need no broker and no process, in seconds
	@HYPOTHESIS_PROFILE=quick $(BIN)/pytest -m "$(QUICK)" --ignore tests/k8s -n 2 $(PYTEST_ARGS)

# Real processes on a real Kafka, broker and database, as far as a Python can make a difference to them.
REAL = tests/acceptance/test_worker_crashes.py::test_deaths_within_checkpoints_lose_and_invent_nothing \
	tests/acceptance/test_worker_crashes.py::test_sigterm_finishes_what_is_in_flight_and_gives_partitions_back \
	tests/acceptance/test_demo.py tests/adapters/celery/test_outcomes_of_workers.py tests/adapters/celery/test_pools.py \
	tests/adapters/faust/test_timers.py tests/adapters/faust/test_web.py tests/contract/test_ledger.py \
	tests/contract/test_guards.py tests/equivalence/test_kafka_engine.py
test-python: ## The quick tests, and some with a real Kafka worker, on another Python: PYTHON=python3.13, in .venv-3.13
	@version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])') && \
		$(MAKE) --no-print-directory VENV=.venv-$$version PYTHON="$(PYTHON)" test-this-python

test-this-python: install
	@$(BIN)/python -VV
	@HYPOTHESIS_PROFILE=quick $(BIN)/pytest -m "$(QUICK)" --ignore tests/k8s -n 2 $(PYTEST_ARGS)
	@$(BIN)/pytest $(REAL) -m "not faults" -n 2 --dist loadfile $(PYTEST_ARGS)

# Fuzzers measure coverage by themselves. The tests left out measure the imports and the memory of processes, which
# coverage changes. The table is printed even if a test fails.
UNMEASURED = tests/cli/test_program.py::test_help_imports_none_of_what_commands_need \
	tests/supervision/test_parent.py::test_a_supervisor_is_small
coverage: install ## Branch coverage of the fast tests, room by room
	@$(BIN)/coverage erase
	@status=0; HYPOTHESIS_PROFILE=quick $(BIN)/coverage run -m pytest -m "$(QUICK)" \
		--ignore tests/k8s --ignore tests/fuzz $(addprefix --deselect ,$(UNMEASURED)) -n 2 $(PYTEST_ARGS) || status=$$?; \
	$(BIN)/coverage combine --quiet && $(BIN)/python -m tests.support.coverage_by_room && exit $$status

test-laws: install ## The laws on 10,000 examples each
	@HYPOTHESIS_PROFILE=full $(BIN)/pytest -m laws --timeout 3600 $(PYTEST_ARGS)

fuzz: install ## Every fuzzer with a million inputs
	@FUZZ_INPUTS=1000000 $(BIN)/pytest tests/fuzz --timeout 7200 -n 2 $(PYTEST_ARGS)

test-tools: ## Install what some tests need besides Python: Chromium, kcat, RabbitMQ, PostgreSQL; by apt-get, as root
	@sh tests/support/install_tools.sh

faults: install ## The long fault tests: processes killed at random under load
	@$(BIN)/pytest -m faults -s $(PYTEST_ARGS)

# Some minutes. Less, and with the steps that lead to the violation: make model ONLY="fence first"
model: install ## Every interleaving of how partitions change hands: the protocol in larger bounds, and broken ones
	@nice $(BIN)/python -m tests.model $(ONLY)

fmt: install ## Format the code, and mend what ruff can mend by itself
	@$(BIN)/ruff check --fix-only --quiet
	@$(BIN)/ruff format --quiet

# Goes on where it was interrupted: results are in .mutants. Less: make mutants ONLY=core/orders.py:_skip,_replay
mutants: install ## Change the code that decides in small ways: a test must fail each time
	@nice $(BIN)/python -m tests.mutants $(ONLY)

lint: install ## ruff, mypy --strict, the import rules
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo "Not formatted: run make fmt"; exit 1; }
	@$(BIN)/mypy
	@report=$$($(BIN)/lint-imports --no-cache --no-logo) || { echo "$$report"; exit 1; }

semantics: install ## Write the tables of docs/semantics.md anew, from what the fold does
	@$(BIN)/python -m tests.core.semantics

reference: install ## Write the tables of docs/tasks-file.md anew, from the schema of the tasks file
	@$(BIN)/python -m tests.wire.tasksfile.reference

recipes: install ## Write the outputs in docs/recipes.md anew, by running its commands
	@$(BIN)/python -m tests.recipes

# All parts, or PART=…. An interrupted run goes on where it was. ROUNDS=3 EVENTS=100000 is less, BASE=0ff2d74 another
# commit to compare with, FRESH=1 measures again.
BENCH_ARGS = $(PART) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(EVENTS),--events $(EVENTS)) $(if $(BASE),--base $(BASE)) \
	$(if $(SESSIONS),--sessions $(SESSIONS)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(FRESH),--fresh)
bench: install ## Measure all parts, or one: PART=kafka; PART=--help lists them
	@$(BIN)/python -m tests.benchmarks $(BENCH_ARGS)

bench-long: install ## Measure what takes long, or PART=memory MINUTES=60; PART=recovery SESSIONS=1000000
	@$(BIN)/python -m tests.benchmarks --long $(BENCH_ARGS)

demo: install ## Run the demonstration
	@$(BIN)/triggerstream demo

demo-kafka: install ## The same on Kafka: two workers, bridge, Celery worker, a foreign producer
	@$(BIN)/python -m tests.support.demo_kafka

producers: install ## Triggers from Java, Go, Node, C and Python on a real Kafka: one task, once
	@$(BIN)/python -m tests.support.producers

# Where there is no kubectl, Go builds a kustomize first: that takes minutes, which no test has.
k8s-check: install ## Render the manifests of k8s/, validate them, and hold them against the policies
	@$(BIN)/python -m tests.k8s.rendering
	@$(BIN)/pytest tests/k8s -m "not slow and not kafka" $(PYTEST_ARGS)

kafka-up: install ## Start an Apache Kafka on 127.0.0.1:9092; Maven brings it the first time
	@$(BIN)/python -m tests.support.kafka up

kafka-down: install ## End it; its data stay in .kafka/server
	@$(BIN)/python -m tests.support.kafka down

kafka-status: install ## Say whether it runs
	@$(BIN)/python -m tests.support.kafka status

clean: ## Remove .venv, builds and caches
	@rm -rf examples/producers/java/target examples/producers/go/fire examples/producers/node/node_modules
	@rm -rf tests/editor/node_modules
	@rm -rf .venv .venv-* build dist .mutants .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip-compile names its own command line in the header unless told what to say instead.
COMPILE = CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes \
	--no-emit-index-url --no-emit-find-links --strip-extras --allow-unsafe

lock: ## Resolve pyproject.toml again into requirements.lock, and those of the image
	@test -x $(BIN)/pip-compile || { echo "Run make install first: pip-compile lives in .venv"; exit 1; }
	@$(COMPILE) --all-extras --output-file requirements.lock pyproject.toml
	@cat python-3.13.lock >> requirements.lock
	@$(COMPILE) --extra kafka --extra guard-redis --constraint requirements.lock \
		--output-file k8s/requirements.lock pyproject.toml
	@$(COMPILE) --only-build-deps --build-deps-for wheel --constraint requirements.lock \
		--output-file k8s/build.lock pyproject.toml
