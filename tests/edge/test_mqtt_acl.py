"""The ACL of docs/mqtt.md, word for word, on a real Mosquitto."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.broker import MOSQUITTO, Broker, Subscriber, wait_until
from tests.edge.device import named, warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.edge.device import Device

pytestmark = pytest.mark.broker
PAGE = Path(__file__).resolve().parents[2] / "docs" / "mqtt.md"
USERS = ("t1", "t2", "homeassistant", "operator")


def acl_of_the_page() -> str:
    found = re.search(r"```\n# /etc/mosquitto/acl\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Broker]:
    """Run a broker with the page's ACL; every password is the user's name."""
    if MOSQUITTO is None:
        pytest.skip("no mosquitto here: apt install mosquitto")
    folder = tmp_path / "guarded"
    folder.mkdir()
    (folder / "passwords").write_text("".join(f"{user}:{user}\n" for user in USERS), encoding="utf-8")
    subprocess.run(["mosquitto_passwd", "-U", folder / "passwords"], check=True)
    acl = acl_of_the_page() + "\nuser auditor\ntopic readwrite #\n"
    (folder / "acl").write_text(acl, encoding="utf-8")
    subprocess.run(["mosquitto_passwd", "-b", folder / "passwords", "auditor", "auditor"], check=True)
    broker = Broker(
        folder, "allow_anonymous false", f"password_file {folder / 'passwords'}", f"acl_file {folder / 'acl'}"
    )
    broker.start()
    yield broker
    broker.stop()


def connected(user: str, tmp_path: Path, devices: Callable[..., Device], port: int, **settings: str) -> Device:
    (tmp_path / user).write_text(user, encoding="utf-8")
    return devices(port, MQTT__USERNAME=user, MQTT__PASSWORD_FILE=str(tmp_path / user), **settings)


def test_a_device_delivers_answers_and_is_discovered(
    guarded: Broker, tmp_path: Path, devices: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    auditor = Subscriber(guarded.port, username="auditor", password="auditor")  # noqa: S106
    device = connected("t1", tmp_path, devices, guarded.port, MQTT__HOME_ASSISTANT="true")
    device.connect()
    device.walk(5)
    device.deliver()
    wait_until(lambda: auditor.steps() == named(device.outbox.boot_id, 5))
    auditor._client.publish("footfall/t1/cmd/ping", b"", qos=1)
    device.drain_until(lambda: auditor.on("reply/ping"), "the reply")
    assert auditor.on("t1/config")
    assert warnings(caplog) == []
    auditor.close()


def test_a_device_cannot_write_into_another_ones_topics(
    guarded: Broker, tmp_path: Path, devices: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    auditor = Subscriber(guarded.port, username="auditor", password="auditor")  # noqa: S106
    device = connected("t2", tmp_path, devices, guarded.port)  # its id, and so its topics, are t1's
    device.walk(3)
    device.drain_until(lambda: warnings(caplog), "a complaint")
    assert "check its ACL; steps wait in the outbox" in warnings(caplog)[0]
    assert device.outbox.depth == 3
    assert auditor.on("step") == []
    auditor.close()


def test_home_assistants_user_cannot_send_commands_and_the_operator_can(
    guarded: Broker, tmp_path: Path, devices: Callable[..., Device]
) -> None:
    operator = Subscriber(guarded.port, username="operator", password="operator")  # noqa: S106
    home = Subscriber(guarded.port, username="homeassistant", password="homeassistant")  # noqa: S106
    device = connected("t1", tmp_path, devices, guarded.port)
    device.connect()
    home._client.publish("footfall/t1/cmd/reset-today", b"{}", qos=1).wait_for_publish(10)
    operator._client.publish("footfall/t1/cmd/ping", b"{}", qos=1).wait_for_publish(10)
    device.drain_until(lambda: operator.on("reply/ping"), "the reply")
    assert operator.on("reply/reset-today") == []
    home.close()
    operator.close()
