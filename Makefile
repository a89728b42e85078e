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
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)
RECORDINGS := $(firstword $(wildcard data/recordings ../shared/data/recordings))

CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || \
	{ echo '$(PYTHON) is no Python 3.11 to 3.13: name one, as in make PYTHON=/path/to/python3.11' >&2; exit 1; }

.PHONY: help run test test-device-code test-converter test-arm check lint format bench data train convert baselines deb install uninstall test-device clean

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
	@PIP_PYTHON=$(CONVERTER)/bin/python systemd/packaging/build-deb "$$(. /etc/os-release; echo "$$VERSION_CODENAME")" arm64
	$(CONVERTER)/bin/python -m pytest -m arm tests/converter/test_arm.py tests/systemd/test_arm_package.py $(ARGS)

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

# Every Debian release and architecture that a package is made for; SUITE= and ARCH= choose.
DEBS := bookworm-arm64 bookworm-amd64 bookworm-armhf trixie-arm64 trixie-amd64

deb: | $(VENV)/bin/python ## Debian packages for the device into build/deb [SUITE=bookworm] [ARCH=arm64]
	@scripts/need dh debhelper dpkg-buildpackage dpkg-dev lintian lintian
	@for deb in $(filter $(if $(SUITE),$(SUITE)-%,%),$(filter $(if $(ARCH),%-$(ARCH),%),$(DEBS))); do \
		PIP_PYTHON='$(CURDIR)/$(VENV)/bin/python' systemd/packaging/build-deb "$${deb%-*}" "$${deb#*-}" || exit 1; \
	done
	@lintian --fail-on error,warning --allow-root build/deb/footfall_*.deb

install: ## on the device, without the .deb: a virtual environment in /opt/footfall and the service [PYTHON=/usr/bin/python3.11]
	@$(SUDO) env PYTHON='$(PYTHON)' scripts/install

uninstall: ## take that away again; PURGE=1 also removes settings and steps
	@$(SUDO) scripts/install --uninstall $(if $(PURGE),--purge)

# The code of before there was a package, under a lower number: what an upgrade starts from.
PREVIOUS := 0.0.9 f937815

test-device: $(DEV_STAMP) ## the .deb on booted bookworm and trixie, with bus, broker, faults, upgrade; after make deb, as root
	@scripts/need mmdebstrap mmdebstrap systemd-nspawn systemd-container nsenter util-linux openssl openssl mosquitto mosquitto
	@for suite in bookworm trixie; do \
		DPKG_DEB_COMPRESSOR_TYPE=gzip PIP_PYTHON='$(CURDIR)/$(VENV)/bin/python' OUTPUT=build/deb/previous \
			systemd/packaging/build-deb $$suite "$$(dpkg --print-architecture)" $(PREVIOUS) && \
		$(SUDO) scripts/debian-root $$suite || exit 1; \
	done
	$(SUDO) $(VENV)/bin/python -B -m pytest -p no:cacheprovider -m device tests/device $(ARGS)

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
