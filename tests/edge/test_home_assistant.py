"""Home Assistant: the shape of the discovery message, and when it is sent and taken back."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from edge import config, home_assistant
from edge.payloads import DeviceInfo
from tests.broker import wait_until
from tests.edge.test_control import Asker

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.broker import Broker, Subscriber
    from tests.edge.device import Device

INFO = DeviceInfo("0.1.0", "step", "1", "aa", "mpu6050", 100.0, "boot", "cc", "host")
TOPIC = "homeassistant/device/t1/config"


def discovered(**environ: str) -> dict[str, Any]:
    settings = {"DEVICE__ID": "t1", **environ}
    return home_assistant.discovery(
        config.load(None, {config.ENV_PREFIX + name: value for name, value in settings.items()}), INFO
    )


def test_the_message_has_what_home_assistant_insists_on() -> None:
    body = json.loads(json.dumps(discovered()))
    assert body["device"]["identifiers"] == ["footfall_t1"]
    assert body["origin"]["name"] == "Footfall"
    identities = [one["unique_id"] for one in body["components"].values()]
    assert len(identities) == len(set(identities)) == 16
    for name, options in body["components"].items():
        assert options["platform"] in {"sensor", "binary_sensor", "event"}
        assert re.fullmatch(r"footfall/t1/(steps|state|health|step)", options["state_topic"])
        assert options["unique_id"] == f"footfall_t1_{name}"
        assert options["name"]
    assert body["components"]["steps"]["state_class"] == "total_increasing"
    assert body["components"]["step"]["event_types"] == ["step"]


def test_every_template_reads_a_field_that_is_published(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]
) -> None:
    device = devices(broker.port)
    device.drain_until(lambda: subscriber.on("state") and subscriber.on("health"), "state and health")
    for name, options in discovered()["components"].items():
        if "value_template" in options:
            topic = options["state_topic"].removeprefix("footfall/t1/")
            (field, *_) = re.findall(r"value_json\.(\w+)", options["value_template"])
            assert field in subscriber.on(topic)[0].json(), name


def test_a_fleet_device_has_no_event_for_a_single_step() -> None:
    assert "step" not in discovered(MQTT__BATCH_S="10")["components"]


def test_discovery_comes_first_and_the_states_when_home_assistant_has_subscribed(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]
) -> None:
    device = devices(broker.port, MQTT__HOME_ASSISTANT="true")
    device.connect()
    device.walk(3)
    device.deliver()
    device.drain_until(lambda: subscriber.on("steps") and subscriber.on("health"), "the states")
    (config_message,) = [one for one in subscriber._messages if one.topic == TOPIC]
    first = min(
        one.received_s for one in subscriber._messages if one.topic.endswith(("/step", "/steps", "/state", "/health"))
    )
    assert first - config_message.received_s > 1.5
    assert config_message.json()["availability_topic"] == "footfall/t1/availability"


def test_home_assistants_start_makes_us_announce_again_after_a_random_delay(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]
) -> None:
    offset_s = [0.0]
    device = devices(broker.port, MQTT__HOME_ASSISTANT="true", clock=lambda: time.monotonic() + offset_s[0])
    asked: list[tuple[float, float]] = []
    device.publisher._home._uniform = lambda low, high: asked.append((low, high)) or 7.0  # type: ignore[func-returns-value]
    device.drain_until(lambda: subscriber.on("t1/config"), "the first announcement")
    asker = Asker(broker.port)
    asker.ask("homeassistant/status", b"offline")
    asker.ask("homeassistant/status", b"online")
    device.drain_until(lambda: asked, "home assistant is heard")
    assert asked == [(0.0, 10.0)]
    device.walk(5, pause_s=0.01)
    assert len(subscriber.on("t1/config")) == 1
    before = len(subscriber.on("availability"))
    offset_s[0] += 7.0
    device.drain_until(lambda: len(subscriber.on("t1/config")) == 2, "the second announcement")
    offset_s[0] += home_assistant.SETTLE_S
    device.deliver()
    device.drain_until(lambda: len(subscriber.on("availability")) > before, "the states again")
    asker.close()


def test_switched_off_again_the_device_is_removed(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]
) -> None:
    device = devices(broker.port, MQTT__HOME_ASSISTANT="true")
    device.drain_until(lambda: subscriber.on("t1/config"), "the announcement")
    device.close()
    device = devices(broker.port)
    device.drain_until(lambda: subscriber.on("t1/config")[-1].payload == b"", "the removal")
    device.close()
    device = devices(broker.port)
    device.connect()
    device.walk(10, pause_s=0.02)
    assert len(subscriber.on("t1/config")) == 2, "nothing is left to remove"


def test_somebody_elses_message_there_is_left_alone(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]
) -> None:
    asker = Asker(broker.port)
    asker.ask(TOPIC, b'{"origin":{"name":"another"}}', retain=True)
    device = devices(broker.port)
    device.connect()
    device.walk(10, pause_s=0.02)
    device.deliver()
    wait_until(lambda: len(subscriber.steps()) == 10)
    assert [one.payload for one in subscriber.on("t1/config")] == [b'{"origin":{"name":"another"}}']
    asker.close()


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[]", b"[" * 5000, b'{"origin":1}', b'{"origin":{}}', b"null", b"\xff"]
)
def test_what_is_not_ours_is_not_taken_for_it(payload: bytes) -> None:
    assert not home_assistant._is_ours(payload)
