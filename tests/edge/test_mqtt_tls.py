"""TLS with a real Mosquitto: what is accepted, and one clear line for each thing that is not, mended without a loss."""

from __future__ import annotations

import gc
import shutil
import socket
import time
from typing import TYPE_CHECKING

import pytest

from tests.broker import Broker, Subscriber, wait_until
from tests.edge.device import named, warnings
from tests.edge.pki import Authority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.edge.device import Device

# paho drops the socket of a failed handshake without closing it; the garbage collector does, and says so.
pytestmark = [
    pytest.mark.broker,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Let the garbage collector complain here, and not in some other test."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make a CA and the certificates of every test."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here: apt install openssl")
    made = Authority(tmp_path_factory.mktemp("pki"))
    made.issue("broker")
    made.issue("expired", days=-1)
    made.issue("elsewhere", alternative="DNS:broker.example")
    made.issue("device")
    stranger = Authority(made.directory, "stranger")
    stranger.issue("intruder")
    return made


class Guarded:
    """A broker whose certificate can be changed; its port stays."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.port = 0
        self._broker: Broker | None = None

    def start(self, authority: Authority, name: str, *lines: str) -> None:
        """Start with that certificate, on the same ports as before."""
        certificate = authority.directory / f"{name}.pem"
        before = self._broker
        self._broker = Broker(
            self._directory, "allow_anonymous true", f"certfile {certificate}",
            f"keyfile {certificate.with_suffix('.key')}", *lines,
        )  # fmt: skip
        if before is not None:
            before.stop()
            self._broker.move_to(before.port)
        self.port = self._broker.port
        self._broker.start()

    def stop(self) -> None:
        if self._broker is not None:
            self._broker.stop()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    directory = tmp_path / "guarded"
    directory.mkdir()
    broker = Guarded(directory)
    yield broker
    broker.stop()


def settings(authority: Authority, *, ca: str = "ca", client: str | None = None) -> dict[str, str]:
    files = {"MQTT__TLS__CA_FILE": str(authority.directory / f"{ca}.pem")}
    if client is not None:
        files["MQTT__TLS__CERT_FILE"] = str(authority.directory / f"{client}.pem")
        files["MQTT__TLS__KEY_FILE"] = str(authority.directory / f"{client}.key")
    return files


def wait_for_line(device: Device, caplog: pytest.LogCaptureFixture) -> str:
    device.walk(3)
    device.drain_until(lambda: warnings(caplog), "a complaint")
    device.walk(20, pause_s=0.02)
    (line,) = warnings(caplog)
    assert device.outbox.depth == 23
    return line


def test_a_client_certificate_opens_the_door(
    guarded: Guarded, authority: Authority, devices: Callable[..., Device]
) -> None:
    guarded.start(authority, "broker", f"cafile {authority.certificate}", "require_certificate true")
    device = devices(guarded.port, **settings(authority, client="device"))
    device.connect()
    device.walk(3)
    device.deliver()


@pytest.mark.parametrize(
    ("client", "words"),
    [(None, "a client certificate"), ("intruder", "certificate")],
)
def test_a_missing_or_foreign_client_certificate_is_one_line(  # noqa: PLR0917  fixtures
    guarded: Guarded,
    authority: Authority,
    devices: Callable[..., Device],
    caplog: pytest.LogCaptureFixture,
    client: str | None,
    words: str,
) -> None:
    guarded.start(authority, "broker", f"cafile {authority.certificate}", "require_certificate true")
    device = devices(guarded.port, **settings(authority, client=client))
    line = wait_for_line(device, caplog)
    assert words in line
    assert "mqtt.tls.cert_file" in line
    guarded.start(authority, "broker")
    device.deliver()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("expired", "certificate has expired): renew the broker's certificate, and check this device's clock"),
        ("elsewhere", "check mqtt.host against the names in the broker's certificate"),
        ("intruder", "check mqtt.tls.ca_file"),
    ],
)
def test_a_certificate_that_cannot_be_trusted_is_one_line_and_nothing_is_lost_once_mended(  # noqa: PLR0917  fixtures
    guarded: Guarded,
    authority: Authority,
    devices: Callable[..., Device],
    caplog: pytest.LogCaptureFixture,
    name: str,
    words: str,
) -> None:
    guarded.start(authority, name)
    device = devices(guarded.port, **settings(authority))
    assert words in wait_for_line(device, caplog)
    guarded.start(authority, "broker")
    device.deliver()
    assert not warnings(caplog)[1:]


def test_tls_steps_reach_a_subscriber_once(
    guarded: Guarded, authority: Authority, devices: Callable[..., Device]
) -> None:
    guarded.start(authority, "broker")
    device = devices(guarded.port, **settings(authority))
    device.connect()
    subscriber = Subscriber(guarded.port, ca_file=authority.certificate)
    device.walk(30)
    device.deliver()
    wait_until(lambda: len(subscriber.steps()) == 30)
    assert subscriber.steps() == named(device.outbox.boot_id, 30)
    subscriber.close()


def test_a_handshake_that_nobody_answers_is_one_line_with_a_remedy(
    authority: Authority, devices: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    """As on a port where something else listens, and waits for a word of ours."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        device = devices(silent.getsockname()[1], MQTT__TLS__CA_FILE=str(authority.directory / "ca.pem"))
        deadline_s = time.monotonic() + 60.0
        while not warnings(caplog) and time.monotonic() < deadline_s:
            device.publisher.drain(device.outbox)
            time.sleep(0.05)
    assert "the TLS handshake is not answered: check that mqtt.port" in warnings(caplog)[0]
