"""Two booted Debian machines, an apt repository, a broker, and Ansible, which reaches the machines over SSH."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from emulator import children
from tests.ansible.network import HERE, FleetNetwork
from tests.broker import wait_until
from tests.conftest import ROOT
from tests.device.broker import PORT, SecureBroker
from tests.device.machine import Machine, Service

if TYPE_CHECKING:
    from pathlib import Path

PLAYBOOK = ROOT / "systemd" / "ansible"
ANSIBLE = ROOT / "build" / "ansible" / "bin"
HTTP_PORT = 8000
ADMINISTRATOR = "pi"
# What a device has before anybody thinks of Footfall, as Raspberry Pi OS has it.
BEFOREHAND = ("openssh-server", "sudo", "python3-apt")
ALSO_WANTED = ("unattended-upgrades",)


class Recap(NamedTuple):
    """One device's line at the end of a run of Ansible."""

    ok: int
    changed: int
    unreachable: int
    failed: int


@dataclass
class Device:
    """A machine in the fleet and what the administrator has written down about it."""

    name: str
    machine: Machine
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.service = Service(self.machine)
        self.address = ""

    @property
    def version(self) -> str:
        """The installed package's version."""
        return self.machine.run("dpkg-query", "-f", "${Version}", "-W", "footfall")

    def file(self, path: str) -> Path:
        """Return where one of its files is, seen from here."""
        return self.machine.root / path.lstrip("/")


class Played(NamedTuple):
    """What a run of the playbook has said."""

    recaps: dict[str, Recap]
    output: str


class Fleet:
    """Everything around the devices; a context in which `devices` are booted and reachable."""

    def __init__(self, directory: Path, devices: dict[str, Machine]) -> None:
        self.directory = directory
        self.devices = {name: Device(name, machine, {"device": {"id": name}}) for name, machine in devices.items()}
        self.network = FleetNetwork()
        self.broker = SecureBroker(self.network, directory, tuple(devices), HERE)
        self.site = directory / "site"
        self.keys = directory / "gnupg"
        self._web: subprocess.Popen[str] | None = None

    def close(self) -> None:
        """End all that was started here; the machines are ended by who started them."""
        if self._web is not None:
            children.stop(self._web)
        self.broker.stop()
        self.network.close()

    def start(self) -> None:
        """Serve files, start the broker, connect the devices and let the administrator in."""
        self.broker.prepare()
        self.broker.start()
        self.site.mkdir()
        self._make_keys()
        command = ["-m", "http.server", "--bind", HERE, "--directory", str(self.site), str(HTTP_PORT)]
        with (self.directory / "web.log").open("w", encoding="utf-8") as log:
            self._web = children.start(self.network.beside(sys.executable, *command), stdout=log, stderr=log)
        for number, device in enumerate(self.devices.values(), 1):
            device.address = self.network.plug_in(device.machine, number)
            self._let_in(device)
            self._instead_of_debian(device)
        known = (f"{one.address} {one.file('etc/ssh/ssh_host_ed25519_key.pub').read_text()}" for one in self.all)
        (self.directory / "known_hosts").write_text("".join(known), encoding="ascii")
        wait_until(lambda: all(map(self._reachable, self.all)), timeout_s=60.0, what="SSH answers")

    @property
    def all(self) -> list[Device]:
        """The devices in the order in which Ansible comes to them."""
        return [*self.devices.values()]

    def _make_keys(self) -> None:
        self.keys.mkdir(mode=0o700)
        for name in ("footfall", "stranger"):
            command = ["gpg", "--batch", "--passphrase", "", "--quick-generate-key", name, "ed25519", "sign", "1d"]
            subprocess.run(command, check=True, capture_output=True, env=self._signing)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.directory / "ssh-key")]
        subprocess.run(command, check=True, capture_output=True)

    @property
    def _signing(self) -> dict[str, str]:
        return {**os.environ, "GNUPGHOME": str(self.keys)}

    def publish(self, *debs: Path, key: str = "footfall", into: str = "footfall") -> None:
        """Add packages to the repository."""
        command = [str(ROOT / "scripts" / "apt-repository"), str(self.site / into), key, *map(str, debs)]
        done = subprocess.run(command, capture_output=True, text=True, env=self._signing, check=False)
        assert done.returncode == 0, done.stderr

    def _let_in(self, device: Device) -> None:
        machine = device.machine
        machine.run("apt-get", "install", "--yes", "-qq", "--no-install-recommends", *BEFOREHAND)
        machine.run("useradd", "--create-home", "--shell", "/bin/bash", ADMINISTRATOR)
        machine.write(f"/etc/sudoers.d/{ADMINISTRATOR}", f"{ADMINISTRATOR} ALL=(ALL) NOPASSWD: ALL\n", mode=0o440)
        home = f"/home/{ADMINISTRATOR}/.ssh"
        machine.write(f"{home}/authorized_keys", (self.directory / "ssh-key.pub").read_text(), mode=0o600)
        machine.run("chown", "-R", f"{ADMINISTRATOR}:{ADMINISTRATOR}", home)

    def _instead_of_debian(self, device: Device) -> None:
        """Let apt find what the device would fetch from Debian here: it has no other network."""
        name = f"debian-{device.machine.name}"
        archives = device.file("var/cache/apt/archives")
        (self.site / name).mkdir()
        for deb in archives.glob("*.deb"):
            shutil.move(deb, self.site / name / deb.name)
        packages = subprocess.run(
            ["apt-ftparchive", "packages", name], cwd=self.site, check=True, capture_output=True, text=True
        ).stdout.replace(f"Filename: {name}/", "Filename: ")
        (self.site / name / "Packages").write_text(packages, encoding="utf-8")
        for file in (*device.file("etc/apt/sources.list.d").glob("*"), device.file("etc/apt/sources.list")):
            file.unlink(missing_ok=True)
        source = f"deb [trusted=yes] http://{HERE}:{HTTP_PORT}/{name} ./\n"
        device.machine.write("/etc/apt/sources.list.d/debian.list", source)
        device.machine.run("sh", "-c", "rm -rf /var/lib/apt/lists/*")

    def _reachable(self, device: Device) -> bool:
        return self.network.succeeds("bash", "-c", f"exec 3<>/dev/tcp/{device.address}/22")

    def _inventory(self, more: dict[str, Any]) -> Path:
        """Write the administrator's inventory, as inventory.example.yml shows it."""
        ssh = f"-o UserKnownHostsFile={self.directory}/known_hosts -o IdentitiesOnly=yes"
        variables = {
            "ansible_user": ADMINISTRATOR,
            "ansible_ssh_private_key_file": str(self.directory / "ssh-key"),
            "ansible_ssh_common_args": ssh,
            "footfall_repository": f"http://{HERE}:{HTTP_PORT}/footfall",
            "footfall_repository_key": str(self.site / "footfall" / "footfall.asc"),
            "footfall_mqtt_ca": str(self.broker.ca),
            "footfall_mqtt_password": self.broker.passwords["footfall"],
            "footfall_common": {
                "mqtt": {
                    "host": HERE,
                    "port": PORT,
                    "username": "footfall",
                    "tls": {"ca_file": "/etc/footfall/ca.crt"},
                }
            },
        }
        hosts = {one.name: {"ansible_host": one.address, "footfall_device": one.settings} for one in self.all}
        path = self.directory / "inventory.json"
        path.write_text(json.dumps({"footfall": {"hosts": hosts, "vars": variables | more}}), encoding="utf-8")
        return path

    def play(self, **more: Any) -> Played:
        """Run the playbook as it is, from the administrator's place; `more` are variables for all devices."""
        command = [str(ANSIBLE / "ansible-playbook"), "--inventory", str(self._inventory(more)), "footfall.yml"]
        environment = {
            "HOME": str(self.directory),
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_HOME": str(self.directory / "ansible"),
            "ANSIBLE_NOCOLOR": "1",
        }
        done = subprocess.run(
            self.network.beside(*command), cwd=PLAYBOOK, env=environment, check=False, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900.0,
        )  # fmt: skip
        pattern = r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)"
        found = re.findall(pattern, done.stdout.partition("PLAY RECAP")[2], re.MULTILINE)
        return Played({name: Recap(*map(int, counts)) for name, *counts in found}, done.stdout)
