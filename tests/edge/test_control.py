"""Commands over MQTT: served, refused, bounded; first the rules alone, then through a real Mosquitto."""

from __future__ import annotations

import contextlib
import json
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.complaints import Complaints
from edge.control import BURST, CommandError, Control, is_harmless, parse
from edge.mqtt_session import Incoming
from edge.snapshot import LONGEST_S, Recent
from edge.types import SampleBatch
from edge.verbs import verbs
from tests.broker import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.broker import Broker, Subscriber
    from tests.edge.device import Device

BASE = "footfall/t1"


def samples(count: int, *, start_s: float = 0.0, rate_hz: float = 200.0) -> SampleBatch:
    time_s = start_s + np.arange(count) / rate_hz
    return SampleBatch(time_s, np.full((count, 6), 9.80665, np.float32))


class Bench:
    """Control with a clock that the test turns, and the verbs of a device."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.control = Control(BASE, complaints=Complaints(lambda: self.now_s), clock=lambda: self.now_s)
        self.recent = Recent()
        nothing: Any = None
        self.verbs = verbs(
            nothing, nothing, self.recent, wall_clock=lambda: 1000.0 + self.now_s, clock=lambda: self.now_s
        )

    def ask(self, verb: str, payload: bytes = b"", **properties: Any) -> list[tuple[str, dict[str, Any]]]:
        message = Incoming(f"{BASE}/cmd/{verb}", payload, retained=properties.pop("retained", False), **properties)
        assert self.control.hear(message, self.verbs)
        return self.replies()

    def replies(self) -> list[tuple[str, dict[str, Any]]]:
        found = []
        while self.control.replies:
            reply = self.control.replies[0]
            while (payload := reply.next_payload()) is not None:
                found.append((reply.topic, json.loads(payload)))
                reply.sent()
            self.control.replies.popleft()
        return found


def test_a_ping_is_answered_with_its_transaction() -> None:
    ((topic, body),) = Bench().ask("ping", b'{"transaction":"a-1"}')
    assert topic == "footfall/t1/reply/ping"
    assert body == {"transaction": "a-1", "status": "ok", "data": {"ts": "1970-01-01T00:16:40.000Z"}, "error": None}


@pytest.mark.parametrize("payload", [b"", b" ", b"{}", b'{"transaction":null}', b'{"transaction":7}'])
def test_what_a_person_types_is_understood(payload: bytes) -> None:
    assert Bench().ask("ping", payload)[0][1]["status"] == "ok"


@pytest.mark.parametrize(
    ("verb", "payload", "words"),
    [
        ("reboot", b"{}", "unknown command; there are: info, ping, reset-today, snapshot"),
        ("ping", b"[]", "no JSON object"),
        ("ping", b"{", "no JSON object"),
        ("ping", b"\xff\xfe", "no JSON object"),
        ("ping", b"[" * 4000, "no JSON object"),
        ("ping", b'{"transaction":1,"transaction":2}', "no JSON object"),
        ("ping", b'{"x":NaN}', "no JSON object"),
        ("ping", b'{"transaction":"%s"}' % (b"a" * 65), "transaction: allowed"),
        ("ping", b'{"transaction":"a\\u0000"}', "transaction: allowed"),
        ("ping", b'{"transaction":true}', "transaction: allowed"),
        ("ping", b'{"transaction":{}}', "transaction: allowed"),
        ("ping", b'{"verbose":true}', "unknown key 'verbose'; allowed: transaction"),
        ("ping", b" " * 4097, "4097 bytes"),
        ("snapshot", b'{"seconds":0}', "seconds: allowed"),
        ("snapshot", b'{"seconds":1e999}', "seconds: allowed"),
        ("snapshot", b'{"seconds":true}', "seconds: allowed"),
        ("snapshot", b'{"seconds":"1"}', "seconds: allowed"),
    ],
)
def test_everything_else_is_refused_with_a_reply(verb: str, payload: bytes, words: str) -> None:
    ((topic, body),) = Bench().ask(verb, payload)
    assert topic == f"footfall/t1/reply/{verb}"
    assert (body["status"], body["data"]) == ("error", None)
    assert words in body["error"]


@pytest.mark.parametrize("verb", ["", "PING", "ping ", "../ping", "p\u0000", "x" * 300])
def test_a_verb_that_is_no_name_is_not_echoed_into_a_topic(verb: str) -> None:
    ((topic, body),) = Bench().ask(verb)
    assert topic == "footfall/t1/reply/error"
    assert body["status"] == "error"


def test_a_retained_command_is_ignored() -> None:
    assert Bench().ask("ping", retained=True) == []


def test_other_topics_are_nobodys_command() -> None:
    control = Bench().control
    assert not control.hear(Incoming("footfall/t1/steps", b"1", retained=False), {})


def test_a_flood_gets_few_replies_and_is_heard_again_later() -> None:
    bench = Bench()
    answered = [bench.ask("ping") for _ in range(500)]
    assert sum(1 for one in answered if one and one[0][1]["status"] == "ok") == BURST
    refused = [one[0][1]["error"] for one in answered if one and one[0][1]["status"] == "error"]
    assert len(refused) == 1
    assert "too many commands" in refused[0]
    bench.now_s += 1.0
    answered = [bench.ask("ping") for _ in range(5)]
    assert sum(1 for one in answered if one and one[0][1]["status"] == "ok") == 2


def test_replies_that_nobody_takes_do_not_pile_up() -> None:
    bench = Bench()
    for batch in range(20):
        bench.recent.keep(samples(200, start_s=float(batch)))
    tracemalloc.start()
    for _ in range(2000):
        bench.now_s += 10.0
        bench.control.hear(Incoming(f"{BASE}/cmd/snapshot", b'{"seconds":10}', retained=False), bench.verbs)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(bench.control.replies) == 16
    assert peak < 4_000_000


def test_a_snapshot_comes_in_parts_that_make_the_last_seconds() -> None:
    bench = Bench()
    for batch in range(30):
        bench.recent.keep(samples(100, start_s=batch * 0.5))
    bench.now_s = 15.0
    bodies = [body["data"] for _, body in bench.ask("snapshot", b'{"seconds":2.5,"transaction":"s"}')]
    assert [body["part"] for body in bodies] == list(range(1, 11))
    assert {body["parts"] for body in bodies} == {10}
    stamps = [body["t0"] + dt for body in bodies for dt in body["dt_ms"]]
    assert len(stamps) == 500
    assert stamps[-1] == pytest.approx((1000.0 + 14.995) * 1000.0, abs=1.0)
    assert np.diff(stamps) == pytest.approx(5.0, abs=1.01)
    assert bodies[0]["imu"][0] == pytest.approx([9.8066] * 6, abs=1e-4)
    assert bodies[0]["channels"] == ["acc_x", "acc_y", "acc_z", "gyr_x", "gyr_y", "gyr_z"]


def test_a_snapshot_without_a_sensor_is_empty_and_missing_channels_are_null() -> None:
    bench = Bench()
    ((_, body),) = bench.ask("snapshot")
    assert (body["status"], body["data"]["imu"], body["data"]["t0"]) == ("ok", [], None)
    bench.recent.keep(SampleBatch(np.array([1.0]), np.array([[1, 2, 3, np.nan, np.nan, np.nan]], np.float32)))
    ((_, body),) = bench.ask("snapshot")
    assert body["data"]["imu"] == [[1.0, 2.0, 3.0, None, None, None]]


def test_what_is_remembered_is_bounded_in_time_and_number() -> None:
    recent = Recent()
    for batch in range(1000):
        recent.keep(samples(20, start_s=batch * 0.1))
    assert recent._samples <= 20 * (LONGEST_S / 0.1 + 2)
    for _ in range(1000):
        recent.keep(samples(20))  # a clock that stands still
    assert recent._samples <= 4096


@pytest.mark.parametrize(
    ("topic", "harmless"),
    [
        ("footfall/t1/reply/ping", True),
        ("footfall/t1/reply/backend/7", True),
        ("backend/response/7", True),
        ("replies/a", True),
        ("Response", True),
        ("footfall/t1/steps", False),
        ("footfall/t1", False),
        ("footfall/t1/cmd/reset-today", False),
        ("footfall/t2/cmd/reset-today", False),
        ("footfall/t2/cmd/reply", False),
        ("footfall", False),
        ("footfall/t2/reply/1", False),
        ("footfall/replying/reply", False),
        ("footfall/reply/1", True),
        ("cmnd/lamp/POWER", False),
        ("CMND/reply/POWER", False),
        ("zigbee2mqtt/lamp/set", False),
        ("zigbee2mqtt/lamp/SET/reply", False),
        ("homeassistant/device/x/config", False),
        ("homeassistant/reply", False),
        ("$SYS/reply", False),
        ("a/$share/reply", False),
        ("reply/#", False),
        ("reply/+/x", False),
        ("", False),
        ("anything", False),
        ("reply/\u0000", False),
        ("reply/\ud800", False),
        ("reply/" + "x" * 260, False),
    ],
)
def test_a_response_topic_must_be_a_place_for_replies(topic: str, harmless: bool) -> None:
    assert is_harmless(topic, BASE) is harmless
    ((reply_topic, body),) = Bench().ask("ping", response_topic=topic, correlation=b"c")
    assert reply_topic == (topic if harmless else "footfall/t1/reply/ping")
    assert body["status"] == ("ok" if harmless else "error")


def test_too_much_correlation_data_is_refused_and_not_sent_back() -> None:
    bench = Bench()
    bench.control.hear(Incoming(f"{BASE}/cmd/ping", b"", retained=False, correlation=b"x" * 129), bench.verbs)
    assert bench.control.replies[0].correlation is None
    assert "correlation data" in bench.replies()[0][1]["error"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=20), inner, max_size=5),
    max_leaves=20,
)
requests = st.dictionaries(
    st.sampled_from(["transaction", "seconds", "x"]) | st.text(max_size=5), json_values, max_size=4
)


@given(
    verb=st.sampled_from(["ping", "snapshot", "info", "reset-today", "x"]) | st.text(max_size=40),
    payload=st.binary(max_size=5000) | requests.map(lambda value: json.dumps(value).encode()),
    response_topic=st.none() | st.text(max_size=300) | st.sampled_from(["a/reply", "cmnd/reply", "reply/#"]),
    correlation=st.none() | st.binary(max_size=300),
    retained=st.booleans(),
)
def test_nothing_that_comes_raises_or_breaks_the_replies(
    verb: str, payload: bytes, response_topic: str | None, correlation: bytes | None, retained: bool
) -> None:
    bench = Bench()
    bench.recent.keep(samples(300))
    served = {name: bench.verbs[name] for name in ("ping", "snapshot")}  # this bench has no outbox
    assert bench.control.hear(Incoming(f"{BASE}/cmd/{verb}", payload, retained, response_topic, correlation), served)
    for topic, body in bench.replies():
        assert topic.startswith(f"{BASE}/reply/") or topic == response_topic
        assert set(body) == {"transaction", "status", "data", "error"}
        assert not set("+#") & set(topic)


@given(payload=st.binary(max_size=6000))
def test_parsing_gives_an_object_or_one_sentence(payload: bytes) -> None:
    with contextlib.suppress(CommandError):
        assert isinstance(parse(payload), dict)


@pytest.mark.broker
def test_commands_through_a_broker(broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]) -> None:
    device = devices(broker.port)
    device.connect()
    device.walk(7)
    device.publisher.observe(samples(300, start_s=time.monotonic()))
    asker = Asker(broker.port)
    asker.ask("footfall/t1/cmd/ping", b'{"transaction":"p"}', response_topic="desk/reply/1", correlation=b"\x01\x02")
    asker.ask("footfall/t1/cmd/info", b"")
    asker.ask("footfall/t1/cmd/snapshot", b'{"seconds":1}')
    asker.ask("footfall/t1/cmd/reset-today", b'{"transaction":9}')
    asker.ask("footfall/t1/cmd/format", b"")
    names = ("info", "snapshot", "reset-today", "format")
    device.drain_until(lambda: all(subscriber.on(f"reply/{name}") for name in names) and asker.correlations, "replies")
    assert asker.correlations == [b"\x01\x02"]
    assert subscriber.on("reply/1")[0].json()["transaction"] == "p"
    assert subscriber.on("reply/info")[0].json()["data"]["boot_id"] == device.outbox.boot_id
    assert subscriber.on("reply/snapshot")[0].json()["data"]["parts"] == 4
    assert subscriber.on("reply/reset-today")[0].json()["data"] == {"was": 7, "today": 0}
    assert subscriber.on("reply/format")[0].json()["status"] == "error"
    device.walk(1)
    assert device.outbox.today(time.time()) == 1
    assert device.outbox.total == 8
    asker.close()


@pytest.mark.broker
def test_a_retained_command_is_not_carried_out_at_the_start(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]
) -> None:
    asker = Asker(broker.port)
    asker.ask("footfall/t1/cmd/reset-today", b"{}", retain=True)
    device = devices(broker.port)
    device.connect()
    device.walk(3)
    device.deliver()
    asker.ask("footfall/t1/cmd/ping", b"")
    device.drain_until(lambda: subscriber.on("reply/ping"), "the reply")
    assert subscriber.on("reply/reset-today") == []
    assert device.outbox.today(time.time()) == 3
    asker.close()


@pytest.mark.broker
def test_without_the_option_nobody_listens(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]
) -> None:
    device = devices(broker.port, MQTT__COMMANDS="false")
    device.connect()
    asker = Asker(broker.port)
    asker.ask("footfall/t1/cmd/ping", b"")
    wait_until(lambda: subscriber.on("cmd/ping"))
    device.walk(20, pause_s=0.02)
    device.deliver()
    assert subscriber.on("reply/ping") == []
    asker.close()


def test_reset_today_survives_a_restart_and_ends_with_the_day(tmp_path: Path) -> None:
    from edge.outbox import Outbox  # noqa: PLC0415
    from tests.edge.device import STEP  # noqa: PLC0415

    def opened() -> Outbox:
        return Outbox(tmp_path / "outbox.db", max_age_h=24, max_bytes=2**24)

    now_s = time.time()
    outbox = opened()
    for _ in range(3):
        outbox.append(STEP, now_s)
    assert outbox.reset_today(now_s) == 3
    assert outbox.reset_today(now_s) == 0
    outbox.append(STEP, now_s)
    outbox.close()
    outbox = opened()
    assert (outbox.today(now_s), outbox.total) == (1, 4)
    outbox.append(STEP, now_s + 86400.0)
    assert outbox.today(now_s + 86400.0) == 1
    outbox.close()


class Asker:
    """Sends commands as an MQTT 5 client does, and hears what comes to its own reply topics."""

    def __init__(self, port: int) -> None:
        self.correlations: list[bytes] = []
        options: dict[str, Any] = {"protocol": paho.MQTTv5}
        if hasattr(paho, "CallbackAPIVersion"):
            options["callback_api_version"] = paho.CallbackAPIVersion.VERSION2
        self._client: Any = paho.Client(**options)
        self._client.on_message = lambda *call: self.correlations.append(call[2].properties.CorrelationData)
        self._subscribed = False
        self._client.on_subscribe = self._on_subscribe
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        wait_until(self._client.is_connected)
        self._client.subscribe("desk/reply/+", qos=1)
        wait_until(lambda: self._subscribed)

    def _on_subscribe(self, *_: object) -> None:
        self._subscribed = True

    def ask(
        self,
        topic: str,
        payload: bytes,
        *,
        response_topic: str | None = None,
        correlation: bytes | None = None,
        retain: bool = False,
    ) -> None:
        properties = Properties(PacketTypes.PUBLISH)
        if response_topic is not None:
            properties.ResponseTopic = response_topic
        if correlation is not None:
            properties.CorrelationData = correlation
        self._client.publish(topic, payload, qos=1, retain=retain, properties=properties).wait_for_publish(30)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client.on_message = self._client.on_subscribe = None
