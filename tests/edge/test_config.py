"""config.yaml: defaults, overrides, and every mistake named at once."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edge import config
from edge.errors import ConfigError
from edge.rules import Problem, Rotation

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "config.yaml"


def written(directory: Path, text: str) -> Path:
    path = directory / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(directory: Path, text: str, **environ: str) -> dict[str, Problem]:
    found = config.check(written(directory, text), environ)
    return {problem.path: problem for problem in found}


def test_the_shipped_file_is_what_the_code_says() -> None:
    assert SHIPPED.read_text(encoding="utf-8") == config.render()


def test_the_shipped_file_gives_the_defaults() -> None:
    assert config.load(SHIPPED, {}) == config.load(None, {})


def test_every_key_of_the_contract_is_in_the_shipped_file() -> None:
    contract = {
        "device": ["id"],
        "sensor": ["type", "bus", "address", "sampling_rate_hz", "recording", "mount_matrix"],
        "model": ["path"],
        "mqtt": ["host", "port", "base_topic", "username", "password_file", "tls", "home_assistant"],
        "outbox": ["path", "max_age_h", "max_bytes"],
        "health": ["interval_s"],
        "logging": ["level", "format"],
    }
    shipped = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    assert list(shipped) == list(contract)
    for section, names in contract.items():
        assert set(names) <= set(shipped[section])
    assert "ca_file" in shipped["mqtt"]["tls"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "mqtt:\n", "mqtt:\n  tls:\n", "{}"])
def test_an_empty_file_or_section_changes_nothing(tmp_path: Path, text: str) -> None:
    assert config.load(written(tmp_path, text), {}) == config.load(None, {})


def test_values_arrive_where_they_belong(tmp_path: Path) -> None:
    text = """
        device: {id: hall-1}
        sensor: {type: MPU6500, bus: /dev/i2c-7, address: 0x69, sampling_rate_hz: 200}
        mqtt: {host: broker.lan, port: 8883, tls: {ca_file: ca.pem}}
        outbox: {path: queue/outbox.db}
    """
    loaded = config.load(written(tmp_path, text), {})
    assert loaded.device.id == "hall-1"
    assert (loaded.sensor.type, loaded.sensor.bus, loaded.sensor.address) == ("mpu6500", Path("/dev/i2c-7"), 0x69)
    assert loaded.sensor.sampling_rate_hz == 200.0
    assert loaded.mqtt.base_topic == "footfall/hall-1"
    assert loaded.mqtt.tls.ca_file == tmp_path / "ca.pem"
    assert loaded.outbox.path == tmp_path / "queue" / "outbox.db"


def test_the_device_id_comes_from_the_host_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Anna's_Pi 4.local")
    loaded = config.load(None, {})
    assert (loaded.device.id, loaded.mqtt.base_topic) == ("anna-s-pi-4", "footfall/anna-s-pi-4")


@given(st.text())
def test_any_host_name_gives_a_valid_device_id(name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.gethostname", lambda: name)
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", config.host_device_id())


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    environ = {
        "FOOTFALL__MQTT__HOST": "other.lan",
        "FOOTFALL__MQTT__USERNAME": "1234",
        "FOOTFALL__MQTT__TLS__CA_FILE": "",
        "FOOTFALL__MQTT__HOME_ASSISTANT": "true",
        "FOOTFALL__SENSOR__MOUNT_MATRIX": "[[0, -1, 0], [1, 0, 0], [0, 0, 1]]",
        "FOOTFALL__SENSOR__RECORDING": "walk.npz",
        "HOME": "/root",
    }
    loaded = config.load(written(tmp_path, "mqtt: {host: a, tls: {ca_file: ca.pem}}"), environ)
    assert (loaded.mqtt.host, loaded.mqtt.username, loaded.mqtt.home_assistant) == ("other.lan", "1234", True)
    assert loaded.mqtt.tls.ca_file is None
    assert loaded.sensor.mount_matrix == ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    assert loaded.sensor.recording == Path.cwd() / "walk.npz"


def test_every_error_is_named_at_once(tmp_path: Path) -> None:
    text = """
        device: {id: Hall}
        sensor: {type: mpu605O, address: 68, sampling_rate_hz: .nan, bus: true}
        mqtt: {prot: 1883, port: 70000, username: 12, base_topic: a/#, keepalive_s: 30.0}
        logging: {level: 3}
        modell: {path: x}
        outbox: full
    """
    found = problems(tmp_path, text, FOOTFALL__MQTT__HSOT="x", FOOTFALL__HEALTH__INTERVAL_S="soon")
    assert set(found) == {
        "device.id", "sensor.type", "sensor.address", "sensor.sampling_rate_hz", "sensor.bus", "mqtt.prot", "mqtt.port",
        "mqtt.username", "mqtt.base_topic", "mqtt.keepalive_s", "logging.level", "modell", "outbox",
        "FOOTFALL__MQTT__HSOT", "FOOTFALL__HEALTH__INTERVAL_S",
    }  # fmt: skip
    assert found["mqtt.port"].found == "70000"
    assert found["mqtt.port"].allowed == "a whole number from 1 to 65535"
    assert found["mqtt.prot"].hint == "did you mean mqtt.port?"
    assert found["modell"].hint == "did you mean model?"
    assert found["sensor.type"].hint == "did you mean mpu6050?"
    assert found["sensor.address"].hint == "0x68"
    assert found["mqtt.username"].hint == "as text: '12'"
    assert found["FOOTFALL__MQTT__HSOT"].hint == "did you mean mqtt.host?"


def test_a_key_in_the_wrong_section_is_sent_to_the_right_one(tmp_path: Path) -> None:
    assert problems(tmp_path, "sensor: {password_file: x}")["sensor.password_file"].hint == (
        "did you mean mqtt.password_file?"
    )


def test_load_says_all_of_it_in_one_line(tmp_path: Path) -> None:
    path = written(tmp_path, "mqtt: {port: 0, hots: a}")
    with pytest.raises(ConfigError) as caught:
        config.load(path, {})
    message = str(caught.value)
    assert "\n" not in message
    for part in (str(path), "2 errors", "mqtt.port: found 0", "mqtt.hots", "did you mean mqtt.host?"):
        assert part in message


def test_broken_yaml_is_found_by_its_line(tmp_path: Path) -> None:
    (found,) = config.check(written(tmp_path, "mqtt:\n  host: a\n port: 1\n"), {})
    assert found.path.startswith("line 3")


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "\t",
        "{[a]: 1}",
        "a: 2026-99-99",
        "sensor: {mount_matrix: &a [*a]}",
        "mqtt: {host: \x00}",
        "!!python/object:os.system {}",
        "- 1",
        "7",
    ],
)
def test_whatever_the_file_holds_it_is_a_problem_not_a_traceback(tmp_path: Path, text: str) -> None:
    assert config.check(written(tmp_path, text), {})


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    for problem in config.check(path, {}):
        assert "\n" not in str(problem)


def test_a_key_written_twice_is_an_error(tmp_path: Path) -> None:
    (found,) = config.check(written(tmp_path, "mqtt:\n  host: a\nmqtt:\n  port: 1\n"), {})
    assert (found.path, found.allowed) == ("line 3", "each name once (first on line 1)")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        config.load(tmp_path / "none.yaml", {})


def test_replay_needs_a_recording_and_a_password_needs_a_user(tmp_path: Path) -> None:
    found = problems(tmp_path, "sensor: {type: replay}\nmqtt: {password_file: p}")
    assert set(found) == {"sensor.recording", "mqtt.username"}


def test_a_contradiction_is_not_reported_on_top_of_a_bad_value(tmp_path: Path) -> None:
    (found,) = config.check(written(tmp_path, "sensor: {type: replay, recording: 7}"), {})
    assert found.found == "7"


@given(st.floats(0, math.tau), st.sampled_from([0, 1, 2]))
def test_every_rotation_about_an_axis_is_accepted(angle: float, axis: int) -> None:
    c, s = math.cos(angle), math.sin(angle)
    turn = [[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]
    rows = [[turn[(i + axis) % 3][(j + axis) % 3] for j in range(3)] for i in range(3)]
    assert Rotation()(rows) == tuple(tuple(row) for row in rows)


@pytest.mark.parametrize(
    ("matrix", "hint"),
    [
        ([[1, 0, 0], [0, 1, 0], [0, 0, -1]], "determinant is -1"),
        ([[1, 0, 0], [0, 1, 0], [0, 0, 0.9]], "row 3 has length 0.9"),
        ([[1, 0, 0], [1, 0, 0], [0, 0, 1]], "rows 1 and 2"),
        ([[1, 0], [0, 1]], "three rows"),
        ([[1, 0], [0, 1], [0, 0]], "three numbers"),
    ],
)
def test_what_is_no_rotation_is_refused(matrix: list[list[float]], hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        Rotation()(matrix)


def test_the_model_is_looked_for_beside_the_file_and_then_where_footfall_is(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    assert config.load(path, {}).model.path == ROOT / "models" / "step.tflite"
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "step.tflite").touch()
    assert config.load(path, {}).model.path == tmp_path / "models" / "step.tflite"
    assert config.load(written(tmp_path, "model: {path: mine.tflite}"), {}).model.path == tmp_path / "mine.tflite"


def test_the_fingerprint_follows_the_settings() -> None:
    prints = {config.load(None, {"FOOTFALL__MQTT__PORT": port}).fingerprint() for port in ("1", "2", "1")}
    assert len(prints) == 2
