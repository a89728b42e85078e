"""What the kernel says about an I2C adapter: its name, clock, drivers, and how to switch it on where it is missing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edge.doctor.finding import Finding, ok, read_text, warn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AREA = "bus"
SLOWER = "or slow the bus down: dtparam=i2c_arm_baudrate=50000 in config.txt, then reboot"
BOOT_CONFIGS = ("boot/firmware/config.txt", "boot/config.txt")
BITS_PER_SAMPLE = 14 * 9 + 60
"""14 bytes a sample with their acknowledges, and the count, status and check registers spread over a drain."""


def number_of(path: str) -> int | None:
    """Return the N of /dev/i2c-N."""
    found = re.search(r"i2c-(\d+)$", path)
    return int(found[1]) if found and path.startswith("/dev/") else None


def describe(path: str, root: Path) -> str:
    """Return the adapter's name in brackets, as the kernel gives it; empty where it does not."""
    name = None if number_of(path) is None else read_text(_device(path, root) / "name")
    return f" ({name})" if name else ""


def speed(path: str, sampling_rate_hz: float, root: Path) -> Iterator[Finding]:
    """Tell the bus clock from the device tree, and whether the sensor's data fit through."""
    clock_hz = clock_of(path, root)
    if clock_hz is None:
        return
    share = BITS_PER_SAMPLE * sampling_rate_hz / clock_hz
    text = f"bus clock {clock_hz / 1000:g} kHz: {sampling_rate_hz:g} samples a second use {100 * share:.0f} % of it"
    if share > 0.5:
        yield warn(AREA, text, "set dtparam=i2c_arm_baudrate=400000 in config.txt and reboot, or a lower sampling rate")
    else:
        yield ok(AREA, text)


def clock_of(path: str, root: Path) -> int | None:
    """Return the bus clock in Hz; source: property clock-frequency, a big-endian cell (devicetree-specification)."""
    if number_of(path) is None:
        return None
    try:
        raw = (_device(path, root) / "of_node" / "clock-frequency").read_bytes()
    except OSError:
        return None
    return int.from_bytes(raw[:4], "big") or None


def client_name(path: str, address: int) -> str:
    """Return the name of a device under /sys/bus/i2c/devices: `1-0068`."""
    number = number_of(path)
    return f"{'N' if number is None else number}-{address:04x}"


def kernel_client(path: str, address: int, root: Path) -> tuple[str | None, str | None]:
    """Return the name and driver of the kernel's own client at an address; None where there is none."""
    client = root / "sys/bus/i2c/devices" / client_name(path, address)
    driver = client / "driver"
    return read_text(client / "name"), driver.resolve().name if driver.exists() else None


def how_to_enable(root: Path) -> str:
    """Say what is missing for a device node that is not there."""
    others = sorted(str(node) for node in (root / "dev").glob("i2c-*"))
    if others:
        return f"this machine has {', '.join(others)}: set sensor.bus to the one the sensor is on"
    if any((root / "sys/class/i2c-adapter").glob("i2c-*")) or _is_on_in_config(root):
        return (
            "the kernel has the bus but not its device node: run `sudo modprobe i2c-dev`, "
            "and add i2c-dev to /etc/modules"
        )
    return (
        "enable I2C: `sudo raspi-config nonint do_i2c 0`, or dtparam=i2c_arm=on in /boot/firmware/config.txt, "
        "then reboot; on other boards see the board's manual"
    )


def worth_scanning(path: str, root: Path) -> list[str]:
    """Return the other buses on which a sensor may be looked for.

    Only adapters of the device tree: on a PC's SMBus, clock generators and memory modules sit at such addresses.
    """
    others = sorted(str(node) for node in (root / "dev").glob("i2c-*"))
    return [other for other in others if other != path and (_device(other, root) / "of_node").exists()]


def _is_on_in_config(root: Path) -> bool:
    texts = [read_text(root / name) or "" for name in BOOT_CONFIGS]
    return any(re.search(r"^\s*dtparam=i2c(_arm)?=on", text, re.MULTILINE) for text in texts)


def _device(path: str, root: Path) -> Path:
    return root / "sys/class/i2c-adapter" / f"i2c-{number_of(path)}"
