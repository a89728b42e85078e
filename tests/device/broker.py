"""Mosquitto in a booted machine's network, as strict as in the field: TLS, a password for each user, an ACL."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from emulator import children
from tests.broker import wait_until

if TYPE_CHECKING:
    from pathlib import Path

PORT = 8883
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


class Network(Protocol):
    """A network of its own: a booted machine's, or one that several machines are in."""

    def beside(self, *command: str) -> list[str]:
        """Return the command line that runs a program of ours in that network."""
        ...

    def succeeds(self, *command: str) -> bool:
        """Tell whether a command in that network ends with 0."""
        ...


@dataclass
class SecureBroker:
    """A broker that lets `device_id` write its own topics, `reader` read all, and nobody do anything else."""

    network: Network
    directory: Path
    device_ids: tuple[str, ...]
    address: str = "127.0.0.1"
    passwords: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[str] | None = None

    def prepare(self) -> None:
        """Make the CA, the certificate, the passwords and the ACL."""
        self._certificates()
        self.passwords = {name: secrets.token_urlsafe(12) for name in ("footfall", "reader")}
        known = self.directory / "passwords"
        known.touch()
        for name, password in self.passwords.items():
            subprocess.run(["mosquitto_passwd", "-b", known, name, password], check=True, capture_output=True)
        topics = "".join(f"topic write footfall/{device}/#\n" for device in self.device_ids)
        (self.directory / "acl").write_text(f"user footfall\n{topics}user reader\ntopic read #\n", encoding="utf-8")
        (self.directory / "reader").write_text(self.passwords["reader"], encoding="utf-8")
        lines = ["user root", "allow_anonymous false", f"password_file {known}", f"acl_file {self.directory}/acl"]
        lines += [f"listener {PORT} {self.address}", f"cafile {self.ca}", f"certfile {self.directory}/server.crt"]
        lines += [f"keyfile {self.directory}/server.key", "persistence false", ""]
        (self.directory / "mosquitto.conf").write_text("\n".join(lines), encoding="utf-8")

    @property
    def ca(self) -> Path:
        """The certificate that clients have to know."""
        return self.directory / "ca.crt"

    def _certificates(self) -> None:
        at = self.directory
        # As strict as RFC 5280: Python from 3.13 on wants key usage and the issuer's id.
        extensions = f"subjectAltName=IP:{self.address}\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
        (at / "extensions").write_text(extensions, encoding="ascii")
        usage = "keyUsage=critical,keyCertSign,cRLSign"
        commands: tuple[list[str | Path], ...] = (
            ["req", "-x509", *CURVE, "-subj", "/CN=test CA", "-addext", usage, "-keyout", at / "ca.key",
             "-out", self.ca],
            ["req", *CURVE[:-2], "-subj", "/CN=broker", "-keyout", at / "server.key", "-out", at / "server.csr"],
            ["x509", "-req", "-in", at / "server.csr", "-CA", self.ca, "-CAkey", at / "ca.key", "-CAcreateserial",
             "-days", "2", "-extfile", at / "extensions", "-out", at / "server.crt"],
        )  # fmt: skip
        for command in commands:
            subprocess.run(["openssl", *command], check=True, capture_output=True)

    def start(self) -> None:
        """Start it and wait until it listens."""
        program = children.find_program("mosquitto", "mosquitto")
        with (self.directory / "mosquitto.log").open("a", encoding="utf-8") as log:
            command = self.network.beside(program, "-c", str(self.directory / "mosquitto.conf"))
            self._process = children.start(command, stdout=log, stderr=log)
        test = f"exec 3<>/dev/tcp/{self.address}/{PORT}"
        wait_until(lambda: self.network.succeeds("bash", "-c", test), timeout_s=30.0, what="mosquitto listens")

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            children.stop(self._process)
            self._process = None


class Listener:
    """Keeps every message that a subscriber of the machine's broker receives, in order."""

    def __init__(self, broker: SecureBroker) -> None:
        self.messages: list[tuple[str, str]] = []
        self._broker = broker
        self._process: subprocess.Popen[str] | None = None
        self.connect()

    def connect(self) -> None:
        """Subscribe, once more after the machine or its broker has been restarted."""
        self.close()
        ready = threading.Event()
        command = [sys.executable, "-m", "tests.device.listener", "--host", self._broker.address]
        command += ["--port", str(PORT), "--ca", str(self._broker.ca)]
        command += ["--username", "reader", "--password-file", str(self._broker.directory / "reader")]
        self._process = children.start(self._broker.network.beside(*command), stdout=subprocess.PIPE, stderr=None)
        threading.Thread(target=self._read, args=(self._process, ready), daemon=True).start()
        assert ready.wait(30), "the subscriber could not connect"

    def _read(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for message in map(json.loads, lines):
                if "ready" in message:
                    ready.set()
                else:
                    self.messages.append((message["topic"], message["payload"]))

    def close(self) -> None:
        """End the subscriber; what it has received stays."""
        if self._process is not None:
            children.stop(self._process)
            self._process = None

    def forget(self) -> None:
        """Start a new book: the device's own begins anew, too."""
        self.messages.clear()

    def on(self, name: str, device: str = "device") -> list[str]:
        """Return the payloads on one of a device's topics."""
        return [payload for topic, payload in list(self.messages) if topic == f"footfall/{device}/{name}"]

    def last(self, name: str, device: str = "device") -> Any:
        """Return the latest payload, parsed; None before the first."""
        payloads = self.on(name, device)
        return json.loads(payloads[-1]) if payloads else None

    def steps(self, device: str = "device") -> set[tuple[str, int]]:
        """Return the distinct steps, live and late, by what identifies them."""
        live = {(step["boot_id"], step["seq"]) for step in map(json.loads, self.on("step", device))}
        for batch in map(json.loads, self.on("batch", device)):
            live |= {(batch["boot_id"], batch["seq0"] + index) for index in range(len(batch["dt"]))}
        return live
