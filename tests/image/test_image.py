"""The SD image's life on an emulated Raspberry Pi 3, in the order in which a device lives it.

Every test starts from what the one before left. `make test-image` runs them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.broker import wait_until
from tests.image.book import device_ids, health, settings
from tests.image.raspi import PATIENCE_S, Pi

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker import Broker, Subscriber

pytestmark = pytest.mark.image

IDLE_S = 60.0


def test_a_new_card_boots_to_the_broker_and_says_that_there_is_no_sensor(
    first: Pi, host_broker: Broker, subscriber: Subscriber
) -> None:
    first.card.put("footfall.yaml", settings(host_broker))
    first.power_on()
    wait_until(lambda: device_ids(subscriber), timeout_s=PATIENCE_S, what="availability: online")
    seconds = subscriber.on("availability")[0].received_s - first.started_s
    print(f"\nfirst boot to first availability: {seconds:.0f} s (grows the root, draws the id)")
    device = device_ids(subscriber)[0]
    assert re.fullmatch(r"footfall-[0-9a-f]{8}", device)
    wait_until(lambda: subscriber.on("info"), timeout_s=PATIENCE_S, what="info")
    info = subscriber.on("info")[-1].json()
    assert info["host"] == device
    wait_until(lambda: health(subscriber, device), timeout_s=PATIENCE_S, what="health")
    # The adapter is there and its driver has asked: nobody acknowledges on a bus with no chip.
    assert "no I2C bus" not in str(health(subscriber, device)["sensor"])
    assert "no sensor" in first.console
    assert "grown" in first.console
    assert not first.offers_ssh()


def test_the_next_boot_is_the_same_device(first: Pi, subscriber: Subscriber) -> None:
    first.cut_power()
    start, size = first.card.partitions()[1]
    assert start + size == first.card.path.stat().st_size, "the root reaches to the end of the card"
    before = len(subscriber.on("availability"))
    first.power_on()

    def online() -> list[float]:
        return [m.received_s for m in subscriber.on("availability")[before:] if m.payload == b"online"]

    wait_until(online, timeout_s=PATIENCE_S, what="online again")
    print(f"\nboot to first availability: {online()[0] - first.started_s:.0f} s")
    assert len(device_ids(subscriber)) == 1
    first.cut_power()


def test_what_the_owner_puts_on_the_boot_partition(second: Pi, host_broker: Broker, key: Path) -> None:
    second.card.put("footfall.yaml", settings(host_broker, sensor={"adress": 0x68}))
    second.card.put("mqtt-password.txt", b"s3cret\r\n")
    second.card.put("authorized_keys", key.with_suffix(".pub").read_bytes())
    second.power_on(chip=True)
    wait_until(second.offers_ssh, timeout_s=PATIENCE_S, what="SSH")
    second.until_says("footfall.yaml is not used")
    problem = second.run("cat /boot/firmware/footfall-problem.txt", key=key)
    assert "sensor.adress" in problem
    second.until_says("ready with")  # with the shipped settings
    assert "s3cret" in second.run("cat /etc/credstore/footfall.mqtt-password", key=key)
    assert "mqtt-password.txt" not in second.run("ls /boot/firmware", key=key)


def test_it_asks_the_chip_who_it_is_through_the_soc_s_own_controller(second: Pi, key: Path) -> None:
    look = "cat /sys/bus/i2c/devices/i2c-1/name; readlink $(readlink -f /sys/bus/i2c/devices/i2c-1)/../driver"
    adapter = second.run(look, key=key)
    assert "i2c@7e804000" in adapter
    assert "i2c-bcm2835" in adapter
    doctor = "footfall doctor --seconds 0 --config /run/footfall-settings/config.yaml"
    said = second.run(f"systemctl stop footfall; {doctor}; systemctl start footfall", key=key, check=False)
    assert "mpu6050" in said.lower().replace("-", ""), said


def test_nobody_gets_in_without_the_key_and_nothing_but_the_outbox_is_written(
    second: Pi, host_broker: Broker, subscriber: Subscriber, key: Path
) -> None:
    known = len(device_ids(subscriber))
    content = settings(host_broker).decode()
    second.run(
        f"mount -o remount,rw /boot/firmware && echo '{content}' >/boot/firmware/footfall.yaml && "
        "mount -o remount,ro /boot/firmware && systemctl restart footfall-settings footfall",
        key=key,
    )
    wait_until(lambda: len(device_ids(subscriber)) > known, timeout_s=PATIENCE_S, what="another device is online")
    assert "footfall-problem.txt" not in second.run("ls /boot/firmware", key=key)
    shadow = second.run("cut -d: -f2 /etc/shadow | sort -u", key=key).split()
    assert set(shadow) <= {"*", "!", "!*"}
    assert "passwordauthentication no" in second.run("sshd -T", key=key)
    print(f"\n{idle(second, key)}")


def idle(pi: Pi, key: Path) -> str:
    """Measure a minute of doing nothing; fail if anything but the outbox has been written to the card."""
    # By each file's own time, before and after: the clock of a Pi without a network is older than the image.
    files = "find / /boot/firmware -xdev -type f -printf '%p %T@\\n' | sort"
    script = (
        f"{files} >/run/before; read _ u n s i w rest </proc/stat; b=$((u+n+s)); bi=$((i+w)); sleep {int(IDLE_S)};"
        "read _ u n s i w rest </proc/stat; echo cpu $((u+n+s-b)) $((i+w-bi));"
        "awk '/^MemTotal|^MemAvailable/ { print $1, $2 }' /proc/meminfo;"
        "echo rss $(awk '/^VmRSS/ { print $2 }' /proc/$(systemctl show -P MainPID footfall)/status);"
        f"echo written $({files} | comm -13 /run/before - | cut -d' ' -f1)"
    )
    said = pi.run(script, key=key)
    values = dict(line.partition(" ")[::2] for line in said.splitlines())
    busy, free = map(int, values["cpu"].split())
    total, available = int(values["MemTotal:"]), int(values["MemAvailable:"])
    written = values["written"].split()
    assert all(name.startswith("/var/lib/footfall/") for name in written), written
    return (
        f"idle: {(total - available) / 1024:.0f} of {total / 1024:.0f} MiB in use, of them the daemon "
        f"{int(values['rss']) / 1024:.0f} MiB; {100 * busy / (busy + free):.1f} % of four emulated cores "
        f"over {IDLE_S:.0f} s; "
        f"files written: {len(written)}"
    )
