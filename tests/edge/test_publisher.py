"""The MQTT contract against a real Mosquitto, with brokers that are late, die, refuse or speak only MQTT 3."""

from __future__ import annotations

import dataclasses
import gc
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge import config
from edge.complaints import Complaints
from edge.mqtt import Backoff
from edge.mqtt_connect import read_password
from edge.outbox import Outbox
from edge.settings import Mqtt, Tls
from emulator.ports import free_port
from tests.broker import Broker, Subscriber, wait_until
from tests.edge.device import STEP, MuteBroker, named, warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.edge.device import Device

pytestmark = pytest.mark.broker


def test_a_step_is_published_acknowledged_and_removed(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]
) -> None:
    device = devices(broker.port)
    device.connect()
    device.walk(3)
    device.deliver()
    wait_until(lambda: len(subscriber.on("step")) == 3)
    message = subscriber.on("step")[1]
    assert (message.topic, message.retained, message.qos) == ("footfall/t1/step", False, 1)
    body = message.json()
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body.pop("ts"))
    assert body == {
        "v": 1,
        "event_type": "step",
        "boot_id": device.outbox.boot_id,
        "seq": 2,
        "total": 2,
        "confidence": 0.914,
        "cadence_spm": 104.0,
    }


def test_a_step_comes_before_the_total_that_counts_it(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]
) -> None:
    def total_is(count: int) -> bool:
        return subscriber.on("steps")[-1:] != [] and subscriber.on("steps")[-1].payload == str(count).encode()

    device = devices(broker.port)
    device.connect()
    for count in range(1, 6):
        device.walk(1)
        device.deliver()
        device.drain_until(partial(total_is, count), "the total")
    order = [one.topic.rsplit("/", 1)[-1] for one in subscriber._messages if one.topic.endswith(("/step", "/steps"))]
    assert order == ["steps"] * (order[0] == "steps") + ["step", "steps"] * 5
    assert [one.topic.rsplit("/", 1)[-1] for one in subscriber._messages][:2] == ["availability", "info"]


def test_a_full_disk_keeps_no_delivered_step_for_ever_and_stops_nothing(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    offset_s = [0.0]
    device = devices(broker.port, clock=lambda: time.monotonic() + offset_s[0])
    device.connect()
    device.drain_until(device.idle, "all acknowledged")
    device.outbox.append(STEP, time.time())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        device.drain_until(lambda: warnings(caplog), "a complaint")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert device.outbox.depth == 1
    offset_s[0] += 2.0
    device.deliver()
    wait_until(lambda: subscriber.steps() == named(device.outbox.boot_id, 1))
    assert "cannot be removed yet" in warnings(caplog)[0]


def test_retained_topics_wait_for_a_subscriber_that_comes_later(broker: Broker, devices: Callable[..., Device]) -> None:
    broker.start()
    device = devices(broker.port)
    device.connect()
    device.walk(2)
    device.deliver()
    device.drain_until(device.idle, "all acknowledged")
    late = Subscriber(broker.port)
    names = ("availability", "info", "steps", "state", "health")
    wait_until(lambda: all(late.on(name) for name in names))
    late.close()
    assert all(late.on(name)[0].retained for name in names)
    assert late.on("availability")[0].payload == b"online"
    assert late.on("steps")[0].payload == b"2"
    assert set(late.on("info")[0].json()) == {
        "schema", "software_version", "model", "sensor", "boot_id", "config_hash", "host",
    }  # fmt: skip
    assert set(late.on("state")[0].json()) == {
        "total", "today", "cadence_spm", "last_step", "seq", "boot_id", "ts", "quality", "hardware_total",
    }  # fmt: skip
    assert {"inference_p50_ms", "inference_p99_ms", "samples_dropped", "bus_errors", "outbox_depth"} <= set(
        late.on("health")[0].json()
    )
    assert late.on("step") == []


def test_a_clean_stop_says_offline_after_the_last_step(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]
) -> None:
    device = devices(broker.port)
    device.connect()
    device.walk(20)
    device.publisher.close(device.outbox)
    assert device.outbox.depth == 0
    wait_until(lambda: subscriber.on("availability")[-1].payload == b"offline")
    assert subscriber.on("state")[-1].json()["total"] == int(subscriber.on("steps")[-1].payload) == device.outbox.total
    assert subscriber.steps() == named(device.outbox.boot_id, 20)
    assert len([one for one in subscriber.on("availability") if one.payload == b"offline"]) == 1


def test_what_happens_again_and_again_hurries_health_less_and_less(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]
) -> None:
    offset_s = [0.0]
    device = devices(broker.port, clock=lambda: time.monotonic() + offset_s[0], HEALTH__INTERVAL_S="60")
    device.connect()
    device.drain_until(device.idle, "all acknowledged")
    for _ in range(600):
        offset_s[0] += 1.0
        device.publisher.hurry_health()
        device.publisher.drain(device.outbox)
        device.drain_until(device.idle, "all acknowledged")
    wait_until(lambda: len(subscriber.on("health")) >= 13)
    assert len(subscriber.on("health")) <= 15, "5, 10, 20, 40 s, then the ordinary 60"


def test_the_will_says_offline_when_the_process_is_killed(
    broker: Broker, subscriber: Subscriber, tmp_path: Path
) -> None:
    program = f"""
import time
from pathlib import Path
from tests.edge.device import Device
device = Device(Path({str(tmp_path)!r}), {broker.port})
while True:
    device.publisher.drain(device.outbox)
    time.sleep(0.01)
"""
    child = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2])
    wait_until(lambda: subscriber.on("availability"), what="online")
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    wait_until(lambda: subscriber.on("availability")[-1].payload == b"offline", what="the will")


def test_no_broker_at_the_start_costs_one_line_and_no_step(
    broker: Broker, devices: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    device = devices(broker.port)
    device.walk(25, pause_s=0.02)
    assert device.outbox.depth == 25
    broker.start()
    subscriber = Subscriber(broker.port)
    device.deliver()
    wait_until(lambda: len(subscriber.steps()) == 25)
    subscriber.close()
    assert subscriber.steps() == named(device.outbox.boot_id, 25)
    (line,) = warnings(caplog)
    assert f"127.0.0.1:{broker.port}" in line
    assert "refused" in line


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_broker_restart_loses_nothing_and_repeats_only_what_was_in_flight(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device], end: str
) -> None:
    device = devices(broker.port)
    device.connect()
    device.walk(40, pause_s=0.002)
    getattr(broker, end)()
    device.walk(40, pause_s=0.002)
    broker.start()
    subscriber.wait_subscribed()
    device.walk(40, pause_s=0.002)
    device.deliver()
    # Nothing is sent between two drains, so the subscriber is back before the first message.
    wait_until(lambda: len(set(subscriber.steps())) == 120)
    received = subscriber.steps()
    assert set(received) == set(named(device.outbox.boot_id, 120))
    assert len(received) - 120 <= 8, "more repeats than the in-flight window"
    totals = [int(one.payload) for one in subscriber.on("steps")]
    assert totals == sorted(totals)


def test_a_slow_broker_is_offered_few_messages_and_each_once(devices: Callable[..., Device]) -> None:
    """A broker that accepts everything and acknowledges nothing: nothing leaves the outbox, nothing is repeated."""
    with MuteBroker() as mute:
        device = devices(mute.port)
        device.connect()
        device.walk(100, pause_s=0.005)
        assert device.outbox.depth == 100
        wait_until(lambda: mute.received.count(b'"event_type":"step"') > 0)
        time.sleep(0.2)
        offered = re.findall(rb'"event_type":"step","boot_id":"[^"]+","seq":(\d+)', bytes(mute.received))
        assert 1 <= len(offered) <= 8
        assert len(set(offered)) == len(offered)


def test_after_a_connection_is_cut_the_unacknowledged_are_sent_again_once(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]
) -> None:
    with MuteBroker() as mute:
        device = devices(mute.port)
        device.connect()
        device.walk(30)
        mute.forward_to(broker.port)
        device.deliver()
        wait_until(lambda: len(subscriber.steps()) >= 30)
        device.close()
    assert subscriber.steps() == named(device.outbox.boot_id, 30)


def test_rows_older_than_live_age_go_to_batch(
    broker: Broker, subscriber: Subscriber, tmp_path: Path, devices: Callable[..., Device]
) -> None:
    now = time.time()
    earlier = Outbox(tmp_path / "outbox.db", max_age_h=24, max_bytes=2**24)
    for index in range(450):
        earlier.append(dataclasses.replace(STEP, confidence=0.5), now - 600.0 + index * 0.5)
    earlier.acknowledge(earlier.pending(1, after=100))  # leaves a hole at seq 101
    earlier.close()
    device = devices(broker.port)
    device.walk(2)
    device.deliver()
    wait_until(lambda: len(subscriber.steps()) == 451)
    assert subscriber.steps() == [
        *[name for name in named(earlier.boot_id, 450) if name[1] != 101],
        *named(device.outbox.boot_id, 2),
    ]
    assert [one.json()["seq"] for one in subscriber.on("step")] == [1, 2]
    batches = [one.json() for one in subscriber.on("batch")]
    assert [(one["seq0"], len(one["dt"]), one["total"]) for one in batches] == [
        (1, 100, 100), (102, 349, 450),
    ]  # fmt: skip
    assert all(one["late"] and one["v"] == 1 for one in batches)
    assert batches[0]["t0"] == round((now - 600.0) * 1000)
    assert batches[0]["dt"][:3] == pytest.approx([0, 500, 1000], abs=1)
    assert batches[0]["confidence"] == [50] * 100


def test_live_and_late_are_told_apart_by_the_monotonic_clock(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]
) -> None:
    """The wall clock may say 1970: a step of this boot is late only if it really waited."""
    offset_s = [0.0]
    device = devices(broker.port, clock=lambda: time.monotonic() + offset_s[0], MQTT__LIVE_AGE_S="30")
    device.outbox.append(STEP, 0.0)
    offset_s[0] += 31.0
    device.outbox.append(STEP, 1.0)
    device.deliver()
    wait_until(lambda: len(subscriber.steps()) == 2)
    assert [one.json()["seq0"] for one in subscriber.on("batch")] == [1]
    assert [one.json()["seq"] for one in subscriber.on("step")] == [2]


def test_state_comes_at_most_every_five_seconds_and_cadence_ends_with_the_walk(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]
) -> None:
    offset_s = [0.0]

    def clock() -> float:
        return time.monotonic() + offset_s[0]

    device = devices(broker.port, clock=clock)
    device.connect()
    device.walk(30, pause_s=0.01)
    device.deliver()
    wait_until(lambda: len(subscriber.on("step")) == 30)
    assert len(subscriber.on("state")) == 1
    offset_s[0] += 4.9
    device.walk(1)
    time.sleep(0.2)
    device.drain_until(lambda: len(subscriber.on("state")) == 2, "the next state")
    assert subscriber.on("state")[1].json()["total"] == 31
    assert subscriber.on("state")[1].json()["cadence_spm"] == 104.0
    offset_s[0] += 6.0
    device.publisher.quality = "no_sensor"
    device.drain_until(lambda: len(subscriber.on("state")) == 3, "the state at rest")
    body = subscriber.on("state")[2].json()
    assert (body["cadence_spm"], body["total"], body["today"], body["seq"]) == (None, 31, 31, 31)
    assert body["quality"] == "no_sensor"


def test_a_new_sensor_changes_the_birth_message(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device]
) -> None:
    device = devices(broker.port)
    device.drain_until(lambda: subscriber.on("info"), "the first info")
    device.publisher.set_info(dataclasses.replace(device.info, sensor="mpu6050"))
    device.drain_until(lambda: len(subscriber.on("info")) == 2, "the second info")
    assert subscriber.on("info")[1].json()["sensor"] == {"name": "mpu6050", "odr_hz": 100.0}


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Broker]:
    """Run a broker that wants a password, and lets `denied` connect but publish nothing."""
    directory = tmp_path / "guarded"
    directory.mkdir()
    passwords, acl = directory / "passwords", directory / "acl"
    for user, flags in (("walker", ["-c"]), ("denied", [])):
        subprocess.run(["mosquitto_passwd", *flags, "-b", passwords, user, "right"], check=True)
    acl.write_text("user walker\ntopic readwrite #\nuser denied\ntopic read #\n")
    broker = Broker(directory, "allow_anonymous false", f"password_file {passwords}", f"acl_file {acl}")
    broker.start()
    yield broker
    broker.stop()


def test_the_password_comes_from_a_file(guarded: Broker, tmp_path: Path, devices: Callable[..., Device]) -> None:
    secret = tmp_path / "password"
    secret.write_text("right\n")
    device = devices(guarded.port, MQTT__USERNAME="walker", MQTT__PASSWORD_FILE=str(secret))
    device.connect()
    device.walk(3)
    device.deliver()


def test_the_password_comes_from_a_systemd_credential(
    guarded: Broker, tmp_path: Path, devices: Callable[..., Device]
) -> None:
    (tmp_path / "footfall.mqtt-password").write_text("right")
    device = devices(guarded.port, MQTT__USERNAME="walker", credentials=tmp_path)
    device.connect()


def test_a_wrong_password_gives_one_line_and_is_mended_without_a_restart(
    guarded: Broker, tmp_path: Path, devices: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "password"
    secret.write_text("wrong\n")
    device = devices(guarded.port, MQTT__USERNAME="walker", MQTT__PASSWORD_FILE=str(secret))
    device.walk(50, pause_s=0.02)
    assert not device.publisher.connected
    (line,) = warnings(caplog)
    assert "mqtt.password_file" in line
    assert "wrong" not in line
    secret.write_text("right\n")
    device.deliver()


def test_a_missing_password_file_gives_one_line(
    guarded: Broker, tmp_path: Path, devices: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    def vanished(settings: Mqtt) -> Mqtt:
        return dataclasses.replace(settings, password_file=tmp_path / "none")

    device = devices(guarded.port, MQTT__USERNAME="walker", changed=vanished)
    device.walk(20, pause_s=0.02)
    (line,) = warnings(caplog)
    assert str(tmp_path / "none") in line


def test_what_the_acl_refuses_stays_in_the_outbox(
    guarded: Broker, tmp_path: Path, devices: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "password"
    secret.write_text("right\n")
    device = devices(guarded.port, MQTT__USERNAME="denied", MQTT__PASSWORD_FILE=str(secret))
    device.connect()
    device.walk(30, pause_s=0.01)
    device.drain_until(lambda: warnings(caplog), "a complaint")
    (line,) = warnings(caplog)
    assert "refuses messages on footfall/t1/availability, footfall/t1/" in line
    assert "footfall/t1/step" in line
    assert "check its ACL; steps wait in the outbox" in line
    assert device.outbox.depth == 30


def test_a_broker_that_closes_on_mqtt_5_is_asked_again_with_3_1_1(
    broker: Broker, subscriber: Subscriber, devices: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    with MuteBroker(refuse_mqtt5=True) as old:
        old.forward_to(broker.port)
        device = devices(old.port)
        device.connect()
        device.walk(5)
        device.deliver()
        wait_until(lambda: len(subscriber.steps()) == 5)
        device.close()
    assert warnings(caplog) == []


def test_something_that_is_no_broker_gives_one_line(
    devices: Callable[..., Device], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def hang_up() -> None:
            server.settimeout(0.1)
            while not stop.is_set():
                try:
                    server.accept()[0].close()
                except TimeoutError:
                    continue

        thread = threading.Thread(target=hang_up)
        thread.start()
        device = devices(server.getsockname()[1])
        device.walk(30, pause_s=0.02)
        (line,) = warnings(caplog)
        assert "is this an MQTT broker" in line
        device.close()
        stop.set()
        thread.join()


def certificate(directory: Path, name: str) -> Path:
    """Make a self-signed certificate for 127.0.0.1, which is its own CA, and its key beside it."""
    path = directory / f"{name}.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", directory / f"{name}.key",
         "-out", path],
        check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return path


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[Broker]:
    """Run a broker that speaks TLS with the certificate broker.pem."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here: apt install openssl")
    mine = certificate(tmp_path, "broker")
    broker = Broker(tmp_path, "allow_anonymous true", f"certfile {mine}", f"keyfile {mine.with_suffix('.key')}")
    broker.start()
    yield broker
    broker.stop()


def test_tls_with_the_right_ca_delivers(encrypted: Broker, tmp_path: Path, devices: Callable[..., Device]) -> None:
    device = devices(encrypted.port, MQTT__TLS__CA_FILE=str(tmp_path / "broker.pem"))
    device.connect()
    device.walk(5)
    device.deliver()


# paho drops the socket of a failed handshake without closing it; the garbage collector does, and says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda directory: certificate(directory, "other"), "its certificate is not accepted"),
        (lambda directory: directory / "mosquitto.conf", "mosquitto.conf: NO_CERT"),
        (lambda directory: directory / "missing.pem", "missing.pem: No such file"),
    ],
)
def test_tls_with_a_wrong_ca_gives_one_line(
    encrypted: Broker,
    devices: Callable[..., Device],
    caplog: pytest.LogCaptureFixture,
    make: Callable[[Path], Path],
    words: str,
) -> None:
    tls = Tls(ca_file=make(encrypted.directory))  # the file may vanish after the config was read
    device = devices(encrypted.port, changed=lambda settings: dataclasses.replace(settings, tls=tls))
    device.walk(20, pause_s=0.02)
    (line,) = warnings(caplog)
    assert words in line
    assert "mqtt.tls.ca_file" in line
    assert device.outbox.depth == 20
    device.close()
    gc.collect()  # here, and not in some other test


def test_close_without_a_broker_returns_at_once(devices: Callable[..., Device]) -> None:
    device = devices(free_port())
    device.walk(3)
    began_s = time.monotonic()
    device.close()
    assert time.monotonic() - began_s < 1.0


def test_an_idle_drain_costs_microseconds(broker: Broker, devices: Callable[..., Device]) -> None:
    broker.start()
    device = devices(broker.port)
    device.connect()
    device.walk(1)
    device.drain_until(device.idle, "all acknowledged")
    began_s = time.process_time()
    for _ in range(1000):
        device.publisher.drain(device.outbox)
    assert (time.process_time() - began_s) / 1000 < 500e-6


def test_the_back_off_uses_full_jitter() -> None:
    bounds: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        bounds.append((low, high))
        return high

    delays = [Backoff(base_s=1.0, cap_s=60.0).delay_s(failures, uniform) for failures in (0, 1, 5, 6, 10**6)]
    assert delays == [1.0, 2.0, 32.0, 60.0, 60.0]
    assert {low for low, _ in bounds} == {0.0}


def test_a_complaint_is_repeated_ever_more_rarely(caplog: pytest.LogCaptureFixture) -> None:
    now_s = [0.0]
    complaints = Complaints(lambda: now_s[0])
    times = []
    for second in range(20000):
        now_s[0] = float(second)
        before = len(caplog.records)
        complaints.log("no broker")
        if len(caplog.records) > before:
            times.append(second)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]
    complaints.log("another reason")
    assert caplog.records[-1].getMessage() == "another reason"


def test_only_the_first_line_of_the_password_file_counts(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_bytes(b" a b \r\nsecond line\n")
    settings = config.load(None, {"FOOTFALL__MQTT__USERNAME": "u", "FOOTFALL__MQTT__PASSWORD_FILE": str(secret)}).mqtt
    assert read_password(settings, {}) == " a b "
    assert read_password(dataclasses.replace(settings, password_file=None), {"CREDENTIALS_DIRECTORY": "/none"}) is None
