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

.PHONY: $(shell sed -n 's/^\([a-z][a-z0-9-]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help: ## list the targets
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

run: $(DEVICE_STAMP) ## a walk through emulated I2C, the real daemon and a real broker [RECORDING=f] [SECONDS=n] [SPEED=max] [SENSOR=lsm6dsox]
	@scripts/need mosquitto mosquitto
	@$(VENV)/bin/python -m emulator.demo \
		$(if $(RECORDING),--recording '$(RECORDING)') $(if $(SECONDS),--seconds '$(SECONDS)') $(if $(SPEED),--speed '$(SPEED)') \
		$(if $(SENSOR),--sensor '$(SENSOR)')

test: test-device-code test-converter ## everything needed, then all tests that this machine can run

test-device-code: $(DEV_STAMP)
	@scripts/need mosquitto mosquitto i2cget i2c-tools strace strace ip iproute2 iptables iptables openssl openssl \
		apt-ftparchive apt-utils gpg gnupg \
		dtc device-tree-compiler ssh-keygen openssh-client
	@PYTHON='$(PYTHON)' scripts/cloud-init
	$(VENV)/bin/python -m pytest --ignore=tests/converter $(ARGS)

test-converter: $(CONVERTER_STAMP)
	$(CONVERTER)/bin/python -m pytest tests/converter $(ARGS)

test-arm: $(CONVERTER_STAMP) ## the shipped model on emulated Arm cores: on 64 bit the same bytes as here; the packages' runtimes, 64 and 32 bit
	@PIP_PYTHON=$(CONVERTER)/bin/python PATH="$(CURDIR)/$(CONVERTER)/bin:$$PATH" scripts/arm64-root
	@PIP_PYTHON=$(CONVERTER)/bin/python systemd/packaging/build-deb "$$(. /etc/os-release; echo "$$VERSION_CODENAME")" arm64
	@scripts/armhf-root
	@PIP_PYTHON=$(CONVERTER)/bin/python systemd/packaging/build-deb bookworm armhf
	$(CONVERTER)/bin/python -m pytest -m arm tests/converter/test_arm.py tests/systemd/test_arm_package.py $(ARGS)

check: lint test ## lint, types and tests: what CI runs

lint: $(DEV_STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy edge converter emulator fleet tests

format: $(DEV_STAMP) ## let ruff lay out the code
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: $(DEVICE_STAMP) ## what the pipeline costs beside its floor (docs/cost.md), measured here and now
	@$(VENV)/bin/footfall bench

data: ## the public recordings, from ../shared/data when present
	@scripts/data

train: $(CONVERTER_STAMP) ## train models/step.keras on the recordings
	@$(CONVERTER)/bin/python -m converter.train --recordings '$(RECORDINGS)'

convert: convert-paths $(CONVERTER_STAMP) ## Keras -> int8 .tflite [MODEL=x.keras CALIBRATION=dir OUTPUT=y.tflite EVALUATE=dir VARIANTS=… FORCE=1]
	@$(CONVERTER)/bin/python -m converter $(if $(MODEL),--model '$(MODEL)') \
		$(if $(or $(CALIBRATION),$(RECORDINGS)),--calibration '$(or $(CALIBRATION),$(RECORDINGS))') $(if $(OUTPUT),--output '$(OUTPUT)') $(if $(FORCE),--force) \
		$(if $(SPEC),--spec '$(SPEC)') $(if $(EVALUATE),--evaluate '$(EVALUATE)') $(if $(VARIANTS),--variants '$(VARIANTS)') $(ARGS)

# A typo is told before TensorFlow is installed and loaded.
convert-paths:
	@for path in $(foreach path,MODEL CALIBRATION EVALUATE SPEC,$(if $($(path)),'$($(path))')); do \
		[ -e "$$path" ] || { echo "make convert: $$path: no such file or directory; check the path" >&2; exit 2; }; \
	done

baselines: $(CONVERTER_STAMP) ## the counters without a net beside the shipped model: docs/baselines.md
	@$(CONVERTER)/bin/python -m converter.baselines '$(RECORDINGS)'

test-uml: $(DEV_STAMP) ## the kernel's own IMU drivers on the emulated chips, and sensor.backend: iio, in a User-Mode-Linux
	@scripts/uml-kernel
	FOOTFALL_UML=1 $(VENV)/bin/python -m pytest -m vm tests/uml $(ARGS)

uml-figures: $(DEV_STAMP)
	@scripts/uml-kernel
	@$(VENV)/bin/python -m tests.uml.figures

test-third-party: $(DEV_STAMP) build/third-party/.ready ## public drivers and i2c-tools read the emulated sensors
	@scripts/need i2cget i2c-tools
	$(VENV)/bin/python -m pytest -m third_party tests/third_party $(ARGS)

test-faults: $(DEV_STAMP) ## every fault of bus and sensor in the running daemon (12 minutes); docs/faults.md
	@scripts/need mosquitto mosquitto
	FOOTFALL_FAULTS=1 $(VENV)/bin/python -m pytest tests/edge/test_faults.py $(ARGS)

faults: $(DEVICE_STAMP) ## the table of docs/faults.md, made here and now [NAMES="unplugged glitch"]
	@scripts/need mosquitto mosquitto
	@$(VENV)/bin/python -m emulator.faults $(NAMES)

soak: $(DEVICE_STAMP) ## simulated hours of the daemon with random faults [HOURS=24] [SEED=1]
	@directory=$$(mktemp -d) && trap 'rm -rf "$$directory"' EXIT && \
		$(VENV)/bin/python -m tests.edge.soak_faults --hours $(or $(HOURS),24) --seed $(or $(SEED),1) --directory "$$directory"

stress: $(DEVICE_STAMP) ## samples lost, CPU and wake-ups at 100 and 200 Hz with every core busy [SECONDS=600] [RATES=100] [QUIET=1] [SENSORS="lsm6dsox bmi160"]
	@scripts/need mosquitto mosquitto stress-ng stress-ng
	@$(VENV)/bin/python -m emulator.stress --seconds $(or $(SECONDS),60) $(if $(RATES),--rates $(RATES)) $(if $(SENSORS),--sensors $(SENSORS)) $(if $(QUIET),--quiet) $(ARGS)

chaos: $(DEV_STAMP) ## break broker, network, disk, clock and daemon, and count every step [FAULTS=200] [SEED=1] [STEPS=20000]
	@scripts/need mosquitto mosquitto ip iproute2 iptables iptables
	@$(VENV)/bin/python -m tests.chaos.run $(if $(FAULTS),--faults '$(FAULTS)') $(if $(SEED),--seed '$(SEED)') $(if $(STEPS),--steps '$(STEPS)')

crash: $(DEV_STAMP) ## end the outbox at every statement and every write, and let every write fail [SAMPLE=n]
	@scripts/need strace strace
	@$(VENV)/bin/python -m tests.edge.delivery.crash_everywhere $(if $(SAMPLE),--sample '$(SAMPLE)')

offline: $(DEV_STAMP) ## a simulated day without a broker, then everything at once [HOURS=24]
	@scripts/need mosquitto mosquitto
	@$(VENV)/bin/python -m tests.chaos.offline $(if $(HOURS),--hours '$(HOURS)')

wear: $(DEV_STAMP) ## bytes that the outbox writes to the disk per 10,000 steps [STEPS=10000]
	@$(VENV)/bin/python -m tests.edge.delivery.wear $(if $(STEPS),--steps '$(STEPS)')

latency: $(DEVICE_STAMP) ## step committed -> subscriber on loopback, and what a dead or hung broker costs
	@scripts/need mosquitto mosquitto
	@$(VENV)/bin/python -m emulator.latency $(ARGS)

test-paho16: build/paho16/.stamp ## the MQTT tests over paho-mqtt 1.6.1, which Debian 12 has
	@scripts/need mosquitto mosquitto
	build/paho16/bin/python -m pytest -p no:cacheprovider $(MQTT_TESTS) $(ARGS)

test-ha: $(DEV_STAMP) build/ha/.stamp ## discovery in a real headless Home Assistant (Python 3.13; 600 MB, minutes)
	@scripts/need mosquitto mosquitto
	FOOTFALL_TEST_HA=1 $(VENV)/bin/python -m pytest -m ha tests/ha $(ARGS)

# Every Debian release and architecture that a package is made for; SUITE= and ARCH= choose.
DEBS := bookworm-arm64 bookworm-amd64 bookworm-armhf trixie-arm64 trixie-amd64

WANTED_DEBS = $(filter $(if $(SUITE),$(SUITE)-%,%),$(filter $(if $(ARCH),%-$(ARCH),%),$(DEBS)))

deb: | $(VENV)/bin/python ## Debian packages for the device into build/deb [SUITE=bookworm] [ARCH=arm64]
	@[ -n '$(WANTED_DEBS)' ] || { echo 'no package for SUITE=$(SUITE) ARCH=$(ARCH); there are: $(DEBS)' >&2; exit 2; }
	@scripts/need dh debhelper dpkg-buildpackage dpkg-dev lintian lintian
	@printf '%s\n' $(WANTED_DEBS) | tr - ' ' | PIP_PYTHON='$(CURDIR)/$(VENV)/bin/python' \
		xargs -P "$$(nproc)" -L 1 systemd/packaging/build-deb
	@printf '%s\n' build/deb/footfall_*.deb | xargs -P "$$(nproc)" -n 1 lintian --fail-on error,warning --allow-root

install: ## on the device, without the .deb: a virtual environment in /opt/footfall and the service [PYTHON=/usr/bin/python3.11]
	@$(SUDO) env PYTHON='$(PYTHON)' scripts/install

uninstall: ## take that away again; PURGE=1 also removes settings and steps
	@$(SUDO) scripts/install --uninstall $(if $(PURGE),--purge)

# The first package there was, under a lower number: what an upgrade starts from.
PREVIOUS := 0.0.9 99ceeba

test-device: $(DEV_STAMP) ## the .deb on booted bookworm and trixie, with bus, broker, faults, upgrade; as root [SUITE=trixie]
	@scripts/need mmdebstrap mmdebstrap systemd-nspawn systemd-container nsenter util-linux openssl openssl mosquitto mosquitto \
		dh debhelper dpkg-buildpackage dpkg-dev
	@$(VENV)/bin/python -B -m tests.device $(if $(SUITE),--suite '$(SUITE)') --previous $(PREVIOUS) $(ARGS)

apt-repository: ## build/deb into a signed apt repository: KEY=… [REPOSITORY=build/repository]; docs/fleet-devices.md
	@[ -n '$(KEY)' ] || { echo 'name the GnuPG key that signs: make apt-repository KEY=…' >&2; exit 2; }
	@scripts/apt-repository '$(or $(REPOSITORY),build/repository)' '$(KEY)'

# Debian 12's own Ansible cannot look after Debian 13 (its modules end at Python 3.11).
build/ansible/.stamp: | $(VENV)/bin/python
	@echo 'installing Ansible into build/ansible (70 MB)'
	@$(VENV)/bin/python -m venv build/ansible
	@build/ansible/bin/python $(PIP) 'ansible-core==2.19.*'
	@touch $@

test-ansible: $(DEV_STAMP) build/ansible/.stamp ## the playbook of docs/fleet-devices.md on two booted devices, from a signed repository; as root
	@scripts/need mmdebstrap mmdebstrap systemd-nspawn systemd-container nsenter util-linux openssl openssl mosquitto mosquitto \
		apt-ftparchive apt-utils gpg gnupg ssh openssh-client ip iproute2 dh debhelper dpkg-buildpackage dpkg-dev
	@$(VENV)/bin/python -B -m tests.device --only-prepare
	$(SUDO) $(VENV)/bin/python -B -m pytest -p no:cacheprovider -m device tests/ansible $(ARGS)

test-cluster: $(DEV_STAMP) ## three RabbitMQ nodes and PostgreSQL behind a fleet, the leader dies [DEVICES=100] [SECONDS=40]
	@scripts/need mosquitto mosquitto /usr/lib/rabbitmq/bin/rabbitmq-server rabbitmq-server pg_ctlcluster postgresql
	FOOTFALL_CLUSTER=1 DEVICES=$(DEVICES) SECONDS=$(SECONDS) $(VENV)/bin/python -m pytest -m cluster -s tests/fleet/test_collector.py $(ARGS)

fleet-cost: $(DEV_STAMP) ## what a device costs that cluster and its collector, from 100 to 10,000 of them [SECONDS=120]
	@scripts/need mosquitto mosquitto /usr/lib/rabbitmq/bin/rabbitmq-server rabbitmq-server pg_ctlcluster postgresql
	@$(VENV)/bin/python -m tests.fleet.cost $(if $(SECONDS),--seconds '$(SECONDS)') $(ARGS)

# The people that neither training nor the choice of the threshold has seen: every column of the README's table.
PUBLIC := awinda_hand/person_[78]__*.npz oxford_val/*.npz ipol_gait/s1[4-9]__*.npz wisdm_watch/163[6-9]__*.npz \
	wisdm_watch/16[45]?__*.npz wisdm_phone/163[6-9]__*.npz wisdm_phone/16[45]?__*.npz sisfall_waist/SE*.npz

evaluate-public: $(DEVICE_STAMP) ## the accuracy table of the README, one row a column of it [MODEL=x.tflite]
	@[ -n '$(RECORDINGS)' ] || { echo 'no recordings here: make data' >&2; exit 2; }
	@$(VENV)/bin/footfall evaluate $(addprefix $(RECORDINGS)/,$(PUBLIC)) $(if $(MODEL),--model '$(MODEL)') $(ARGS)

leave-one-out: $(CONVERTER_STAMP) ## how the recipe of make train does on people it has never seen (hours) [STEPS=2000]
	@$(CONVERTER)/bin/python -m converter.leave_one_out $(if $(STEPS),--steps '$(STEPS)') $(ARGS)

image: ## an SD card image for Raspberry Pi 3, 4 and Zero 2 W into build/image; on a Debian machine, as root
	@[ "$$(id -u)" = 0 ] || { echo 'make image sets up a Debian inside a folder, which only root may: sudo make image' >&2; exit 1; }
	@scripts/need mmdebstrap mmdebstrap qemu-aarch64-static qemu-user-static depmod kmod dtc device-tree-compiler \
		mkfs.vfat dosfstools mcopy mtools mke2fs e2fsprogs sfdisk fdisk cpio cpio xz xz-utils
	@systemd/image/root
	@$(MAKE) --no-print-directory deb SUITE=trixie ARCH=arm64
	@systemd/image/build

test-image: $(DEV_STAMP) ## that image in QEMU's Raspberry Pi 3: boots, broker, chip, SSH, [CUTS=10] power cuts; after make image
	@scripts/need mosquitto mosquitto mcopy mtools sfdisk fdisk e2fsck e2fsprogs ssh openssh-client mmdebstrap mmdebstrap
	@systemd/image/qemu
	CUTS=$(CUTS) $(VENV)/bin/python -m pytest -m image -s tests/image $(ARGS)

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

build/third-party/.ready: tests/third_party/requirements.txt | $(VENV)/bin/python
	@echo 'installing public drivers for the sensors into build/third-party'
	@$(VENV)/bin/python -m venv build/third-party
	@build/third-party/bin/python $(PIP) numpy smbus2
	@build/third-party/bin/python $(PIP) --no-deps -r tests/third_party/requirements.txt
	@touch $@

MQTT_TESTS := tests/edge/test_publisher.py tests/edge/test_mqtt_link.py tests/edge/test_mqtt_limits.py \
	tests/edge/test_mqtt_tls.py tests/edge/test_control.py tests/edge/test_home_assistant.py tests/edge/test_fleet_mode.py \
	tests/edge/test_hostile_peers.py

build/paho16/.stamp: pyproject.toml | $(VENV)/bin/python
	@echo 'installing paho-mqtt 1.6.1 into build/paho16'
	@$(PYTHON) -m venv build/paho16
	@build/paho16/bin/python $(PIP) 'paho-mqtt==1.6.1' pytest hypothesis numpy pyyaml smbus2
	@touch $@

# Home Assistant wants Python 3.13, and the frontend's package without what that pulls in.
HA := homeassistant==2025.4.4 paho-mqtt==2.1.0
# The first that runs: pyenv has a python3.13 on the path that only says that none was chosen.
PYTHON313 ?= $(shell for python in python3.13 $(HOME)/.pyenv/versions/3.13.*/bin/python3.13; do \
	"$$python" -c '' 2>/dev/null && { echo "$$python"; break; }; done)

build/ha/.stamp:
	@[ -n '$(PYTHON313)' ] || { echo 'Home Assistant needs Python 3.13: name one, as in make test-ha PYTHON313=/path/to/python3.13' >&2; exit 1; }
	@echo 'installing Home Assistant into build/ha (600 MB, once, a few minutes)'
	@$(PYTHON313) -m venv build/ha
	@build/ha/bin/python $(PIP) $(HA)
	@build/ha/bin/python $(PIP) --no-deps home-assistant-frontend==20250411.0
	@touch $@

$(CONVERTER_STAMP): pyproject.toml
	@[ -n '$(PYTHON)' ] || { echo 'the converter needs Python 3.11; install one, or name it: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@scripts/need venv python3-venv
	@[ -x $(CONVERTER)/bin/python ] || $(PYTHON) -m venv $(CONVERTER)
	@echo 'installing TensorFlow into $(CONVERTER) (1.5 GB, once, a few minutes)'
	@$(CONVERTER)/bin/python -m pip install --disable-pip-version-check -e '.[converter,test]' | grep --line-buffered -E '^(Collecting|Installing|Successfully)'
	@touch $@
