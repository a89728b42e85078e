"""A small simulated fleet against a real Mosquitto: every step made arrives, whatever happens to the connections."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from edge.__main__ import main
from emulator.ports import free_port
from fleet.light_mqtt import RefusedError, dial
from fleet.simulate import Load, simulate
from fleet.simulated_device import Settings
from tests.broker import Broker, Subscriber, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    running = Broker(tmp_path, "allow_anonymous true", "max_queued_messages 0")
    running.start()
    yield running
    running.stop()


def test_every_step_of_every_device_arrives(broker: Broker, tmp_path: Path) -> None:
    subscriber = Subscriber(broker.port)
    settings = Settings([("127.0.0.1", broker.port)], period_s=1.0, connect_within_s=1.0)
    figures = simulate(Load(devices=20, seconds=5.0), settings, tmp_path / "truth.json")
    assert figures["connected"] == 20
    assert figures["steps_made"] == figures["steps_acked"] > 20
    made = json.loads((tmp_path / "truth.json").read_text(encoding="utf-8"))
    wanted = {(entry["boot_id"], seq) for entry in made.values() for seq in range(1, entry["steps"] + 1)}
    wait_until(lambda: set(subscriber.steps()) >= wanted, timeout_s=30.0, what="all steps")
    assert set(subscriber.steps()) == wanted
    subscriber.close()


def test_a_broker_that_dies_costs_nothing(broker: Broker) -> None:
    settings = Settings([("127.0.0.1", broker.port)], period_s=0.5, connect_within_s=0.5)

    def die_and_come_back() -> None:
        time.sleep(3.0)
        broker.kill()
        time.sleep(1.0)
        broker.start()

    breaker = threading.Thread(target=die_and_come_back)
    breaker.start()
    figures = simulate(Load(devices=10, seconds=8.0), settings)
    breaker.join()
    assert figures["connections"] > 10
    assert figures["reconnect_p50_s"] is not None
    assert figures["steps_made"] == figures["steps_acked"] > 0


def test_the_command_prints_its_figures(broker: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"127.0.0.1:{broker.port}"
    arguments = [
        "--devices",
        "3",
        "--seconds",
        "2",
        "--period-s",
        "0.5",
        "--connect-within-s",
        "0",
        "--broker",
        address,
    ]
    assert main(["simulate-fleet", *arguments, "--json"]) == 0
    figures: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert figures["devices"] == figures["connected"] == 3
    assert figures["ack_p50_ms"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--devices", "0"], "--devices is 0"),
        (["--seconds", "0.5"], "--seconds is 0.5"),
        (["--broker", "host:port"], "--broker is 'host:port'"),
        (["--password-file", "/nonexistent"], "--password-file /nonexistent"),
        (["--ca-file", "/nonexistent"], "--ca-file /nonexistent"),
        (["--truth", "/nonexistent/x"], "--truth /nonexistent/x cannot be written"),
        (["--base-topic", "x" * 65_530], "--base-topic is 'xxx"),
        (["--broker", "a b:1883"], "--broker is 'a b:1883'"),
        (["--broker", "::1"], "--broker is '::1'"),
        (["--broker", "[::1]:1"], "no broker can be reached at ::1:1"),
        (["--broker", "127.0.0.1:1"], "no broker can be reached at 127.0.0.1:1 (Connection refused)"),
    ],
)
def test_bad_usage_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate-fleet", *arguments]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1


def test_a_refused_password_and_a_silent_port_are_said(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("", encoding="utf-8")
    strict = Broker(tmp_path, "allow_anonymous false", f"password_file {passwords}")
    strict.start()
    try:
        with pytest.raises(RefusedError, match=r"user"):
            asyncio.run(dial("127.0.0.1", strict.port, "x", lambda _: None, username="a", password="b"))  # noqa: S106
    finally:
        strict.stop()
    with pytest.raises(OSError, match=r"onnect"):
        asyncio.run(dial("127.0.0.1", free_port(), "x", lambda _: None))
