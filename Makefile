# Needs git, make, and python3 (3.11 or newer) with venv; everything else goes into .venv.

PYTHON ?= python3

# Where a machine forbids to keep bytecode, pytest would rewrite the assertions of all tests, and our
# own modules, in each of its processes.
export PYTHONDONTWRITEBYTECODE :=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# What running and installing need, of all that constraints.txt pins. If a new version of one of
# these needs another, pip stops and names it: nothing that is not pinned here gets in.
RUN_PACKAGES := click rich markdown-it-py mdurl pygments hdrhistogram pbr setuptools \
	h11 prometheus-client \
	hatchling editables packaging pathspec pluggy tomlkit trove-classifiers

.PHONY: help serve test coverage histories bench power sanitize docs lint format clean constraints
help:
	@echo 'make serve    set up .venv and run the echo server on 127.0.0.1:8000'
	@echo '              (make serve ARGS="lines --engine threads" for more; Ctrl-C drains it)'
	@echo 'make test     set up .venv and run every check and test (ARGS="-k drain" for some)'
	@echo 'make coverage tell how much of the sources the unit and in-process tests run through'
	@echo '              (then .venv/bin/coverage report -m for the lines that they do not)'
	@echo 'make histories  take the server through simulated networks for an hour, each time with new'
	@echo '              seeds (TIME=5m for less, SEED=1 for the same again); what fails is in .sim'
	@echo 'make bench    compare the engines with a C epoll echo and with others (ARGS="-c 50 -s 64")'
	@echo 'make power    tell after how many histories the explorer finds each planted fault'
	@echo 'make sanitize run the contract on what is in C, built for finding faults of memory'
	@echo 'make docs     build the documentation site in docs/_build'
	@echo 'make lint     ruff and mypy'
	@echo 'make format   let ruff format the sources'
	@echo 'make clean    remove .venv and what tools have left'

serve: $(VENV)/ready-to-run
	@# A server that had to abort connections, or was interrupted, is no failure of make's.
	@exec $(BIN)/anysock serve $(ARGS)

LINT := $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# Our own loop once more, on the poller that other platforms have, and in pure Python.
TEST_PURE := ANYSOCK_PURE=1 ANYSOCK_POLLER=selectors $(BIN)/python -m pytest -n 2 --dist worksteal \
	-p no:cacheprovider -k '(selector and not leave_nothing) or kernel' tests/contract/processes \
	$(addprefix tests/contract/in_process/test_, library.py streams.py tasks.py) \
	$(addprefix tests/unit/test_, kernel.py kernel_model.py)

# mypy takes one core: it, and what follows it, goes on beside the tests, and what it has said comes
# after what they say. These are more processes than there are cores, as many tests wait.
test: $(VENV)/ready-to-test
	@trap 'kill 0' INT; rm -f .beside.code; \
	{ (set -x; $(LINT) && $(TEST_PURE)); echo $$? > .beside.code; } > .beside.log 2>&1 & \
	(set -x; $(BIN)/python -m pytest -n 6 --dist worksteal $(ARGS)); code=$$?; \
	wait; cat .beside.log; exit $$((code | $$(cat .beside.code)))

# Of the tests that need no server as a process: these are a fifth of `make test`. (The random
# cancellations would be the slowest, and add no line; three engines add hardly any to the others.)
coverage: $(VENV)/ready-to-test
	@rm -rf .coverage
	@$(BIN)/python -m coverage run -m pytest -q -n 4 --dist worksteal -k 'not test_cancellation and not uvloop and not polling and not asyncio-sock' \
		tests/unit tests/contract/in_process > .coverage.log || { cat .coverage.log; exit 1; }
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report | sed -n 's/^TOTAL *\([0-9]*\) *\([0-9]*\) *\(.*\)/coverage: \3 of \1 statements (unit and in-process tests)/p'

# For the night: half an hour for each handler that is checked, on all cores. Seeds begin with the
# milliseconds since 1970, so that two nights have none in common.
TIME ?= 30m
SEED ?= $(shell date +%s)000
histories: $(VENV)/ready-to-simulate
	@failed=0; \
	for handler in echo lines; do \
		$(BIN)/anysock sim $$handler --time $(TIME) --seed $(SEED) --keep-going \
			--jobs $$(getconf _NPROCESSORS_ONLN) $(ARGS) || failed=1; \
	done; \
	exit $$failed

power: $(VENV)/ready-to-test
	@$(BIN)/python -m tests.sim.planted.power $(ARGS)

sanitize: $(VENV)/ready-to-test
	@$(BIN)/python -m tests.soak.sanitized $(ARGS)

bench: $(VENV)/ready-to-test
	$(BIN)/anysock bench $(ARGS)

docs: $(VENV)/ready-to-test
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build
	@echo 'the site is in docs/_build: open docs/_build/index.html'

docs/lab.json: $(VENV)/ready-to-test
	$(BIN)/anysock lab --json $@

lint: $(VENV)/ready-to-test
	$(LINT)

format: $(VENV)/ready-to-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs/options.md: $(VENV)/ready-to-run src/anysock/options/serve.py src/anysock/options/texts.py
	$(BIN)/python -c 'from anysock.options.texts import reference; print(reference(), end="")' > $@

docs/reference/metrics.md: $(VENV)/ready-to-run src/anysock/telemetry/metrics.py src/anysock/telemetry/events.py src/anysock/telemetry/counters.py
	$(BIN)/python -c 'from anysock.telemetry.metrics import reference; print(reference(), end="")' > $@

docs/reference/events.md: $(VENV)/ready-to-run docs/_ext/events_page.py $(wildcard src/anysock/telemetry/*.py src/anysock/telemetry/logs/*.py) src/anysock/systemd.py
	$(BIN)/python docs/_ext/events_page.py > $@

docs/reference/simulation.md: $(VENV)/ready-to-run docs/_ext/simulation_page.py $(wildcard src/anysock/engines/sim/*.py)
	$(BIN)/python docs/_ext/simulation_page.py > $@

docs/reference/trace.md: $(VENV)/ready-to-run docs/_ext/trace_page.py src/anysock/traces/format.py
	$(BIN)/python docs/_ext/trace_page.py > $@

# The examples of traces, recorded anew.
.PHONY: docs/_static/traces
docs/_static/traces: $(VENV)/ready-to-run
	for name in blocking_step slow_reader lost_wake_up; do \
		$(BIN)/python examples/traces/$$name.py $@/$$(echo $$name | tr _ -).jsonl || exit; \
	done
	$(BIN)/python examples/traces/three_clients.py selector $@/three-clients-selector.jsonl
	for program in examples/ladder/s*.py examples/ladder/answers/s04_threads.py; do \
		$(BIN)/python examples/traces/rung $$program $@/rungs/$$(basename $$program .py).jsonl >/dev/null 2>&1 || exit; \
	done
	for engine in blocking threads polling selector uring asyncio; do \
		$(BIN)/python examples/traces/models.py $$engine $@/models/$$engine.jsonl || exit; \
	done
	chmod 644 $@/*.jsonl $@/*/*.jsonl

# The map of the house, for the README. It is drawn anew each time: any file may change an import.
.PHONY: docs/_static/house.svg
docs/_static/house.svg: $(VENV)/ready-to-run
	$(BIN)/python docs/_ext/house_map.py > $@.new
	@mv $@.new $@

# A picture of the live page: its tests take it, in a real browser.
.PHONY: docs/_static/live.png
docs/_static/live.png: $(VENV)/ready-to-test
	mkdir -p build/pictures
	ANYSOCK_TEST_PICTURES=build/pictures $(BIN)/python -m pytest -q \
	    tests/contract/processes/test_live_page.py -k fits
	cp build/pictures/live-1280-light.png $@

clean:
	rm -rf $(VENV) dist build docs/_build src/anysock/engines/sim/compiled .coverage .coverage.log .beside.* .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -prune -exec rm -rf {} +

# -- the environment ---------------------------------------------------------------------------
# Two stamps, so that whoever only serves does not wait for the test tools. pip's hash mode takes
# no constraints for what it is not told by name, so what to install is cut out of the file.

$(VENV)/ready-to-run: constraints.txt pyproject.toml hatch_build.py $(wildcard src/anysock/*.c src/anysock/*.h)
	@echo 'setting up $(VENV) ...'
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Anysock needs Python 3.11 or newer: make PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@awk -v wanted=' $(RUN_PACKAGES) ' \
		'/^[a-z]/ { split($$1, name, "=="); on = index(wanted, " " name[1] " ") } on' \
		constraints.txt > $(VENV)/run.txt
	@$(PIP) install --require-hashes -r $(VENV)/run.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/ready-to-test: $(VENV)/ready-to-run
	@echo 'adding the test tools to $(VENV) ...'
	@$(PIP) install --require-hashes -r constraints.txt
	@touch $@

# For who runs it for an hour: the simulated network, compiled. It takes half a minute.
$(VENV)/ready-to-simulate: $(VENV)/ready-to-test $(wildcard src/anysock/engines/sim/*.py)
	@echo 'compiling the simulation ...'
	@ANYSOCK_COMPILE_SIM=1 $(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# pip-tools, in an environment of its own; run it after a change to the dependencies.
constraints:
	@$(PYTHON) -m venv $(VENV)-pip-tools
	@$(VENV)-pip-tools/bin/pip --disable-pip-version-check --quiet install pip-tools
	@{ echo '# Every package that Anysock is built, run and tested with, pinned, with the hashes of its files.'; \
	   echo '# Made by `make constraints` (pip-tools) from pyproject.toml; for CPython 3.11 to 3.13.'; \
	   $(VENV)-pip-tools/bin/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe \
	     --all-build-deps --all-extras \
	     --no-header --no-annotate --no-emit-index-url \
	     --no-emit-trusted-host --no-emit-find-links --output-file - pyproject.toml; } > constraints.new
	@mv constraints.new constraints.txt
	@rm -rf $(VENV)-pip-tools
