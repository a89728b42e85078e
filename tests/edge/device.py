"""Outbox and publisher as the daemon has them, and brokers that behave badly."""

from __future__ import annotations

import dataclasses
import logging
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from edge import config
from edge.health import Health
from edge.mqtt import Backoff
from edge.outbox import Outbox
from edge.payloads import DeviceInfo
from edge.publisher import Publisher
from edge.types import StepEvent
from tests.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from edge.settings import Mqtt

STEP = StepEvent(time_s=1.0, emitted_s=1.2, confidence=0.9137, cadence_spm=104.04)
QUICK = Backoff(base_s=0.05, cap_s=0.1)


class Device:
    """Outbox and publisher as the daemon has them, with a loop that the test turns."""

    def __init__(
        self,
        directory: Path,
        port: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        credentials: Path = Path("/nonexistent"),
        changed: Callable[[Mqtt], Mqtt] = lambda settings: settings,
        **environ: str,
    ) -> None:
        settings = {"MQTT__HOST": "127.0.0.1", "MQTT__PORT": str(port), "DEVICE__ID": "t1", **environ}
        self.config = config.load(None, {config.ENV_PREFIX + name: value for name, value in settings.items()})
        self.config = dataclasses.replace(self.config, mqtt=changed(self.config.mqtt))
        self.outbox = Outbox(directory / "outbox.db", max_age_h=24, max_bytes=2**24, clock=clock)
        self.info = DeviceInfo("0.1.0", "step", "1", "aa", "replay", 100.0, self.outbox.boot_id, "cc", "host")
        environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
        self.publisher = Publisher(self.config, self.info, Health({}), environ=environ, clock=clock, backoff=QUICK)
        self.publisher.start()

    def walk(self, steps: int, *, pause_s: float = 0.0) -> None:
        """Append and drain, as the pipeline does; no turn may take long, whatever the broker does."""
        for _ in range(steps):
            self.outbox.append(STEP, time.time())
            began_s = time.monotonic()
            self.publisher.drain(self.outbox)
            assert time.monotonic() - began_s < 0.5
            time.sleep(pause_s)

    def drain_until(self, condition: Callable[[], Any], what: str) -> None:
        def turned() -> Any:
            self.publisher.drain(self.outbox)
            return condition()

        wait_until(turned, what=what)

    def idle(self) -> bool:
        """Whether the broker has acknowledged everything."""
        channel = self.publisher._channel
        return channel is not None and channel.in_flight == 0

    def connect(self) -> None:
        self.drain_until(lambda: self.publisher.connected, "connected")

    def deliver(self) -> None:
        self.drain_until(lambda: self.outbox.depth == 0, "the outbox is empty")

    def close(self) -> None:
        self.publisher.close(self.outbox)
        self.outbox.close()


def named(boot_id: str, count: int) -> list[tuple[str, int]]:
    return [(boot_id, seq) for seq in range(1, count + 1)]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


class MuteBroker:
    """Accepts a connection and never acknowledges a message; or, once told so, passes everything on to a broker."""

    def __init__(self, *, refuse_mqtt5: bool = False) -> None:
        self.received = bytearray()
        self._refuse_mqtt5 = refuse_mqtt5
        self._target: int | None = None
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.05)
        self.port = int(self._server.getsockname()[1])
        self._sockets: list[socket.socket] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._threads[0].join()
        self._server.close()
        self._cut()
        for thread in self._threads[1:]:
            thread.join()

    def forward_to(self, port: int) -> None:
        """Cut the connections there are; the next ones reach a real broker."""
        self._target = port
        self._cut()

    def _cut(self) -> None:
        for one in self._sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                peer, _ = self._server.accept()
            except TimeoutError:
                continue
            self._sockets.append(peer)
            thread = threading.Thread(target=self._serve, args=(peer,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, peer: socket.socket) -> None:
        with peer:
            peer.settimeout(None)
            hello = peer.recv(4096)
            if b"MQTT" not in hello:  # somebody only looked whether anybody listens
                return
            version = hello[hello.index(b"MQTT") + 4]
            if self._refuse_mqtt5 and version == 5:
                return
            if self._target is None:
                peer.sendall(b"\x20\x03\x00\x00\x00" if version == 5 else b"\x20\x02\x00\x00")
                while chunk := receive(peer):
                    self.received += chunk
                return
            with socket.create_connection(("127.0.0.1", self._target)) as upstream:
                self._sockets.append(upstream)
                upstream.sendall(hello)
                back = threading.Thread(target=pump, args=(upstream, peer))
                back.start()
                pump(peer, upstream)
                back.join()


def receive(source: socket.socket) -> bytes:
    try:
        return source.recv(65536)
    except OSError:
        return b""


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy bytes until either side has gone."""
    try:
        while chunk := receive(source):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
