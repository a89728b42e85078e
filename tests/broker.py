"""A private Mosquitto on a free loopback port, and a subscriber that writes down what it receives."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho

from emulator.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin")
_PATIENCE_S = 10.0


def wait_until(condition: Callable[[], Any], *, timeout_s: float = _PATIENCE_S, what: str = "") -> None:
    """Poll until the condition holds; fail with its name otherwise."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {timeout_s} s: {what or condition}"
        time.sleep(0.01)


class Broker:
    """Mosquitto as a child process; start, stop and kill it as often as the test needs."""

    def __init__(self, directory: Path, *lines: str) -> None:
        self.port = free_port()
        self.directory = directory
        self._config = directory / "mosquitto.conf"
        self._lines = lines or ("allow_anonymous true",)
        self._process: subprocess.Popen[bytes] | None = None
        self.move_to(self.port)

    def move_to(self, port: int) -> None:
        """Listen there from the next start on."""
        self.port = port
        # Started by root, Mosquitto would become another user, who may not read a test's folder.
        text = "\n".join([f"listener {self.port} 127.0.0.1", "user root", *self._lines, ""])
        self._config.write_text(text, encoding="utf-8")

    def start(self) -> None:
        """Start it and wait until it listens."""
        assert MOSQUITTO is not None
        with (self.directory / "mosquitto.log").open("ab") as output:
            self._process = subprocess.Popen([MOSQUITTO, "-c", self._config], stdout=output, stderr=output)
        wait_until(self._listens, what="mosquitto listens")

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_PATIENCE_S)
            self._process = None

    def signal(self, number: int) -> None:
        """Send it a signal, such as SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Take it away without a word to anybody."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(_PATIENCE_S)
        self._process = None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@dataclass(frozen=True)
class Message:
    """One message as the subscriber saw it. retained: it was stored before we subscribed; received_s: epoch seconds."""

    topic: str
    payload: bytes
    retained: bool
    qos: int
    received_s: float

    def json(self) -> Any:
        """Parse the payload."""
        return json.loads(self.payload)


class Subscriber:
    """Subscribes to everything and keeps every message in order; comes back when the broker does."""

    def __init__(
        self, port: int, *, username: str | None = None, password: str | None = None, ca_file: Path | None = None
    ) -> None:
        self._messages: list[Message] = []
        self._subscribed = threading.Event()
        options: dict[str, Any] = {}
        if hasattr(paho, "CallbackAPIVersion"):
            options["callback_api_version"] = paho.CallbackAPIVersion.VERSION2
        self._client: Any = paho.Client(**options)
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_disconnect = lambda *_: self._subscribed.clear()
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message
        if username is not None:
            self._client.username_pw_set(username, password)
        if ca_file is not None:
            self._client.tls_set_context(ssl.create_default_context(cafile=ca_file))
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self.wait_subscribed()

    def wait_subscribed(self) -> None:
        """Wait for the broker's word that messages will come."""
        assert self._subscribed.wait(_PATIENCE_S)

    def on(self, name: str) -> list[Message]:
        """Return the messages whose topic ends in /name."""
        return [message for message in list(self._messages) if message.topic.endswith(f"/{name}")]

    def steps(self) -> list[tuple[str, int]]:
        """Return (boot_id, seq) of every step received, live or in a batch, repeats included."""
        found = []
        for message in list(self._messages):
            if message.topic.endswith("/step"):
                found.append((message.json()["boot_id"], message.json()["seq"]))
            elif message.topic.endswith("/batch"):
                body = message.json()
                found += [(body["boot_id"], body["seq0"] + index) for index in range(len(body["dt"]))]
        return found

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()
        self._client.on_message = None  # breaks the circle; paho's wake-up sockets close with the last reference

    def _on_message(self, _client: Any, _userdata: Any, message: Any) -> None:
        self._messages.append(Message(message.topic, message.payload, bool(message.retain), message.qos, time.time()))
