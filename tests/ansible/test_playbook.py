"""The playbook and the signed repository on two booted devices, in the order in which an administrator would use them.

Every test here starts from what the one before left. `make test-ansible` runs them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.ansible.network import HERE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.ansible.fleet import Device, Fleet
    from tests.device.broker import Listener

pytestmark = pytest.mark.device
CONFIG, SECRET = "etc/footfall/config.yaml", "etc/credstore/footfall.mqtt-password"
NEXT = "0.99.0"


def pids(fleet: Fleet) -> dict[str, int]:
    """Return each device's daemon; another number is another start."""
    return {device.name: device.service.wait_active() for device in fleet.all}


def settings(device: Device) -> bytes:
    return device.file(CONFIG).read_bytes()


def said_on(listener: Listener, device: Device, topic: str, payload: str) -> None:
    device.machine.until(lambda: listener.on(topic, device.name)[-1:] == [payload], f"{topic} {payload}")


@pytest.fixture(scope="module")
def newer(debs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Make the next version of each package, which ships another config.yaml: left alone, dpkg would ask about it."""
    made = {}
    for suite, deb in debs.items():
        tree = tmp_path_factory.mktemp("newer") / "tree"
        subprocess.run(["dpkg-deb", "-R", deb, tree], check=True)
        control = tree / "DEBIAN" / "control"
        release = deb.name.split("+")[1].split("_")[0]
        lines = control.read_text().splitlines()
        changed = [f"Version: {NEXT}+{release}" if line.startswith("Version:") else line for line in lines]
        control.write_text("\n".join([*changed, ""]))
        with (tree / CONFIG).open("a", encoding="utf-8") as config:
            config.write("# what the next version has to say\n")
        made[suite] = tree.parent / f"footfall_{NEXT}+{deb.name.split('+')[1]}"
        command = ["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "-b", str(tree), str(made[suite])]
        subprocess.run(command, check=True, capture_output=True)
    return made


@pytest.fixture
def corrected(fleet: Fleet) -> Iterator[None]:
    """Take back what a test has written into the inventory."""
    before = {device.name: json.loads(json.dumps(device.settings)) for device in fleet.all}
    yield
    for device in fleet.all:
        device.settings = before[device.name]


def test_the_first_run_sets_up_both(fleet: Fleet, debs: dict[str, Path], listener: Listener) -> None:
    fleet.publish(*debs.values())
    played = fleet.play()
    assert [(recap.failed, recap.unreachable) for recap in played.recaps.values()] == [(0, 0)] * 2, played.output
    assert fleet.broker.passwords["footfall"] not in played.output
    for device in fleet.all:
        assert played.recaps[device.name].changed > 5
        assert device.service.is_active
        assert yaml.safe_load(settings(device))["device"]["id"] == device.name
        assert yaml.safe_load(settings(device))["mqtt"]["host"] == HERE
        assert fleet.broker.passwords["footfall"].encode() not in settings(device)
        secret = device.machine.run("stat", "-c", "%a %U", f"/{SECRET}")
        assert secret.strip() == "600 root"
        said_on(listener, device, "availability", "online")
        assert f"{device.name}: no sensor" in played.output, "what the device says"


def test_the_second_run_changes_nothing(fleet: Fleet) -> None:
    before = pids(fleet)
    played = fleet.play()
    assert [(recap.changed, recap.failed) for recap in played.recaps.values()] == [(0, 0)] * 2, played.output
    assert pids(fleet) == before


def test_another_value_restarts_only_the_device_that_has_it(fleet: Fleet) -> None:
    before = pids(fleet)
    fleet.devices["hall"].settings["health"] = {"interval_s": 30}
    played = fleet.play()
    assert {name: recap.changed for name, recap in played.recaps.items()} == {"hall": 2, "attic": 0}, played.output
    after = pids(fleet)
    assert after["attic"] == before["attic"]
    assert after["hall"] != before["hall"]


@pytest.mark.usefixtures("corrected")
def test_a_wrong_value_is_named_and_changes_neither_its_device_nor_another(fleet: Fleet) -> None:
    before, files = pids(fleet), [settings(device) for device in fleet.all]
    fleet.devices["attic"].settings["sensor"] = {"sampling_rate_hz": "fast"}
    played = fleet.play()
    assert {name: (recap.changed, recap.failed) for name, recap in played.recaps.items()} == {
        "hall": (0, 0),
        "attic": (0, 1),
    }, played.output
    assert "sensor.sampling_rate_hz: found 'fast'; allowed: a number from 20 to 200" in played.output
    assert pids(fleet) == before
    assert [settings(device) for device in fleet.all] == files


@pytest.mark.usefixtures("corrected")
def test_where_the_first_device_fails_the_others_are_not_even_visited(fleet: Fleet) -> None:
    before = pids(fleet)
    for device in fleet.all:
        device.settings["mqtt"] = {"hosst": "elsewhere"}
    played = fleet.play()
    assert {name: recap.failed for name, recap in played.recaps.items()} == {"hall": 1}, played.output
    assert "mqtt.hosst: an unknown name; did you mean mqtt.host?" in played.output
    assert pids(fleet) == before


def test_a_new_version_comes_by_itself_and_keeps_the_settings(fleet: Fleet, newer: dict[str, Path]) -> None:
    before, files = pids(fleet), [settings(device) for device in fleet.all]
    fleet.publish(*newer.values())
    # What the timers apt-daily and apt-daily-upgrade start, here without waiting for the night.
    hall = fleet.devices["hall"]
    hall.machine.run("apt-get", "update", "-qq")
    said = hall.machine.run("unattended-upgrade", "--verbose")
    assert hall.version == f"{NEXT}+deb12", said
    # The other one is told to.
    played = fleet.play()
    assert {name: recap.changed for name, recap in played.recaps.items()} == {"hall": 0, "attic": 1}, played.output
    assert fleet.devices["attic"].version == f"{NEXT}+deb13"
    after = pids(fleet)
    assert all(after[name] != before[name] for name in after), "the new one runs"
    assert [settings(device) for device in fleet.all] == files


def test_a_version_that_is_asked_for_is_gone_back_to_and_kept(fleet: Fleet, debs: dict[str, Path]) -> None:
    files = [settings(device) for device in fleet.all]
    old = {name: deb.name.split("_")[1] for name, deb in zip(fleet.devices, debs.values(), strict=True)}
    played = fleet.play(footfall_version=old["hall"].split("+")[0])
    assert [recap.failed for recap in played.recaps.values()] == [0, 0], played.output
    assert {device.name: device.version for device in fleet.all} == old
    hall = fleet.devices["hall"]
    hall.machine.run("unattended-upgrade", "--verbose")
    assert hall.version == old["hall"]
    assert pids(fleet)
    assert [settings(device) for device in fleet.all] == files


def test_packages_that_somebody_else_has_signed_or_changed_are_refused(fleet: Fleet, newer: dict[str, Path]) -> None:
    hall = fleet.devices["hall"]
    source = hall.file("etc/apt/sources.list.d/footfall.sources")
    ours = source.read_text()
    fleet.publish(newer["bookworm"], key="stranger", into="strange")
    shutil.copytree(fleet.site / "footfall", fleet.site / "changed")
    for deb in (fleet.site / "changed" / "pool" / "bookworm").glob(f"footfall_{NEXT}*"):
        deb.write_bytes(deb.read_bytes() + b"\0")
    install = ["apt-get", "install", "--yes", "--only-upgrade", "-o", "Dpkg::Options::=--force-confold", "footfall"]
    hall.machine.run("apt-get", "clean")  # what was fetched before would do
    for site in ("strange", "changed"):
        source.write_text(ours.replace("/footfall\n", f"/{site}\n", 1))
        hall.machine.run("apt-get", "update", check=False)
        hall.machine.run(*install, check=False)
        assert not hall.version.startswith(NEXT), site
    # The control: from the repository as it should be the same command installs it.
    source.write_text(ours)
    hall.machine.run("apt-get", "update")
    hall.machine.run(*install)
    assert hall.version.startswith(NEXT)
