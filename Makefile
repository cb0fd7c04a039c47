# make run      the gateway with embedded Redis and Kafka, and three simulated charge points
# make test     every test that needs nothing but this machine
# make lint     ruff, mypy, import-linter
# Each sets up .venv by itself.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help venv run test test-kafka lint format bench soak storm bench-commands clean

help:
	@sed -n '1,/^$$/s/^# //p' Makefile
	@echo "make test-kafka  the Kafka tests against a real Apache Kafka (fetched through Maven)"
	@echo "make bench       messages and handshakes per second, CPU and memory, beside plain Autobahn servers (10 minutes)"
	@echo "make soak        is anything left when 2,000 charge points come, talk and die at random? (12 minutes)"
	@echo "make storm       5,000 charge points connect at once: when are all in, and what do the others feel? (2 minutes)"
	@echo "make bench-commands  1,000 commands on two nodes: in order, one end each, and how soon? (1 minute)"

venv: $(READY)

# compat: with the other editable modes twistd does not see the plugin.
$(READY): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; say which with make PYTHON=...")'
	@echo "Setting up .venv (about a minute) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip setuptools
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat -e '.[embedded,test,lint]'
	@$(BIN)/twistd --help > /dev/null
	@touch $@

run: $(READY)
	@$(BIN)/ocpp-gateway demo

test: $(READY)
	$(BIN)/python -m pytest -m "not kafka_broker" --numprocesses=auto --dist=loadfile

test-kafka: $(READY)
	$(BIN)/python tests/support/kafka_broker.py -- $(BIN)/python -m pytest tests/kafka tests/daemon

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python benchmarks/messages.py
	$(BIN)/python benchmarks/handshakes.py
	$(BIN)/python benchmarks/memory.py

soak: $(READY)
	$(BIN)/python benchmarks/soak.py

storm: $(READY)
	$(BIN)/python benchmarks/storm.py

bench-commands: $(READY)
	$(BIN)/python benchmarks/commands.py --silent 10

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
