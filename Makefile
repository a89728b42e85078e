# Footfall. `make` lists the targets; `make run` and `make test` need nothing prepared.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

# The newest tested Python that the machine has; the device code runs on 3.11 to 3.13, the converter wants 3.11.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && { command -v $$p; break; }; done)
PIP := -m pip install --quiet --disable-pip-version-check --no-warn-script-location
VENV := .venv
CONVERTER := .venv-converter
DEVICE_STAMP := $(VENV)/.device
DEV_STAMP := $(VENV)/.dev
CONVERTER_STAMP := $(CONVERTER)/.converter
RECORDINGS := $(firstword $(wildcard data/recordings ../shared/data/recordings))

CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || \
	{ echo '$(PYTHON) is no Python 3.11 to 3.13: name one, as in make PYTHON=/path/to/python3.11' >&2; exit 1; }

.PHONY: help run test test-device-code test-converter test-arm check lint format bench data train convert baselines test-faults faults soak stress clean

help: ## list the targets
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

run: $(DEVICE_STAMP) ## a walk through emulated I2C, the real daemon and a real broker [RECORDING=f] [SECONDS=n] [SPEED=max]
	@scripts/need mosquitto mosquitto
	@$(VENV)/bin/python -m emulator.demo \
		$(if $(RECORDING),--recording '$(RECORDING)') $(if $(SECONDS),--seconds '$(SECONDS)') $(if $(SPEED),--speed '$(SPEED)')

test: test-device-code test-converter ## everything needed, then all tests that this machine can run

test-device-code: $(DEV_STAMP)
	@scripts/need mosquitto mosquitto i2cget i2c-tools
	$(VENV)/bin/python -m pytest --ignore=tests/converter $(ARGS)

test-converter: $(CONVERTER_STAMP)
	$(CONVERTER)/bin/python -m pytest tests/converter $(ARGS)

test-arm: $(CONVERTER_STAMP) ## the shipped model on an emulated Raspberry Pi 4: the same bytes as here
	@PIP_PYTHON=$(CONVERTER)/bin/python PATH="$(CURDIR)/$(CONVERTER)/bin:$$PATH" scripts/arm64-root
	$(CONVERTER)/bin/python -m pytest -m arm tests/converter/test_arm.py $(ARGS)

check: lint test ## lint, types and tests: what CI runs

lint: $(DEV_STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy edge converter emulator tests

format: $(DEV_STAMP) ## let ruff lay out the code
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: $(DEVICE_STAMP) ## the README's performance table, measured here and now
	@$(VENV)/bin/footfall bench

data: ## the public recordings, from ../shared/data when present
	@scripts/data

train: $(CONVERTER_STAMP) ## train models/step.keras on the recordings
	@$(CONVERTER)/bin/python -m converter.train --recordings '$(RECORDINGS)'

convert: $(CONVERTER_STAMP) ## Keras -> int8 .tflite [MODEL=x.keras CALIBRATION=dir OUTPUT=y.tflite EVALUATE=dir VARIANTS=… FORCE=1]
	@$(CONVERTER)/bin/python -m converter $(if $(MODEL),--model '$(MODEL)') \
		$(if $(or $(CALIBRATION),$(RECORDINGS)),--calibration '$(or $(CALIBRATION),$(RECORDINGS))') $(if $(OUTPUT),--output '$(OUTPUT)') $(if $(FORCE),--force) \
		$(if $(SPEC),--spec '$(SPEC)') $(if $(EVALUATE),--evaluate '$(EVALUATE)') $(if $(VARIANTS),--variants '$(VARIANTS)') $(ARGS)

baselines: $(CONVERTER_STAMP) ## the counters without a net beside the shipped model: docs/baselines.md
	@$(CONVERTER)/bin/python -m converter.baselines '$(RECORDINGS)'

test-faults: $(DEV_STAMP) ## every fault of bus and sensor in the running daemon (12 minutes); docs/faults.md
	@scripts/need mosquitto mosquitto
	$(VENV)/bin/python -m pytest tests/edge/test_faults.py $(ARGS)

faults: $(DEVICE_STAMP) ## the table of docs/faults.md, made here and now [NAMES="unplugged glitch"]
	@scripts/need mosquitto mosquitto
	@$(VENV)/bin/python -m emulator.faults $(NAMES)

soak: $(DEVICE_STAMP) ## simulated hours of the daemon with random faults [HOURS=24] [SEED=1]
	@directory=$$(mktemp -d) && trap 'rm -rf "$$directory"' EXIT && \
		$(VENV)/bin/python -m tests.edge.soak_faults --hours $(or $(HOURS),24) --seed $(or $(SEED),1) --directory "$$directory"

stress: $(DEVICE_STAMP) ## samples lost, CPU and wake-ups at 100 and 200 Hz with every core busy [SECONDS=600]
	@scripts/need mosquitto mosquitto stress-ng stress-ng
	@$(VENV)/bin/python -m emulator.stress --seconds $(or $(SECONDS),60)

clean: ## remove environments and caches
	rm -rf $(VENV) $(CONVERTER) build .pytest_cache .mypy_cache .ruff_cache .hypothesis footfall.egg-info

$(VENV)/bin/python:
	@[ -n '$(PYTHON)' ] || { echo 'footfall needs Python 3.11 to 3.13; install one, or name it: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@scripts/need venv python3-venv
	@$(CHECK_PYTHON)
	@echo 'making $(VENV) with $(PYTHON)'
	@$(PYTHON) -m venv $(VENV)

$(DEVICE_STAMP): pyproject.toml | $(VENV)/bin/python
	@echo 'installing numpy, the TFLite runtime, smbus2, paho-mqtt and PyYAML (about 40 MB, under a minute)'
	@$(VENV)/bin/python $(PIP) -e '.[runtime]'
	@touch $@

$(DEV_STAMP): $(DEVICE_STAMP)
	@echo 'installing pytest, hypothesis, ruff and mypy'
	@$(VENV)/bin/python $(PIP) -e '.[runtime,dev]'
	@touch $@

$(CONVERTER_STAMP): pyproject.toml
	@[ -n '$(PYTHON)' ] || { echo 'the converter needs Python 3.11; install one, or name it: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@scripts/need venv python3-venv
	@[ -x $(CONVERTER)/bin/python ] || $(PYTHON) -m venv $(CONVERTER)
	@echo 'installing TensorFlow into $(CONVERTER) (1.5 GB, once, a few minutes)'
	@$(CONVERTER)/bin/python -m pip install --disable-pip-version-check -e '.[converter,test]' | grep --line-buffered -E '^(Collecting|Installing|Successfully)'
	@touch $@
