"""config.yaml: defaults, overrides, and every mistake named at once."""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edge import config
from edge.errors import ConfigError
from edge.machine import default_outbox_path, host_device_id
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
        "sensor": ["type", "bus", "address", "sampling_rate_hz", "firmware", "recording", "mount_matrix"],
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
    (tmp_path / "ca.pem").touch()
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
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", host_device_id())


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


@pytest.mark.parametrize(
    ("name", "reason"), [("none.yaml", "No such file or directory"), ("", "Is a directory"), ("zero", "too large for")]
)
def test_a_file_that_cannot_be_read_is_named_once(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "zero").write_bytes(b"#" * 2_000_000)
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path / name, {})
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / name}: cannot be read: {reason}")
    assert message.endswith("; give the path of a YAML file")
    assert message.count(str(tmp_path / name)) == 1


BOMBS = {
    "anchor": "a: &a [x]\nmqtt: {host: *a}",
    "laughs": "a: &a [x,x,x,x,x,x,x,x]\n"
    + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9))
    + "sensor: {mount_matrix: *j}",
    "merges": "x0: &x0 {a: 1}\n"
    + "".join(f"x{i}: &x{i} {{<<: [{','.join([f'*x{i - 1}'] * 9)}]}}\n" for i in range(1, 9)),
    "undefined alias": "mqtt: *a",
    "in itself": "mqtt: &a {tls: *a}",
}


@pytest.mark.parametrize("case", BOMBS)
def test_anchors_and_aliases_are_refused_at_once(tmp_path: Path, case: str) -> None:
    began_s = time.process_time()
    found = config.check(written(tmp_path, BOMBS[case]), {})
    told = [one for one in found if "anchors and aliases are not read; write the value out" in str(one)]
    assert told
    assert all(one.path.startswith("line ") for one in told)
    assert time.process_time() - began_s < 1.0


def test_what_is_refused_hides_no_other_mistake(tmp_path: Path) -> None:
    text = "device: {id: 2026-99-99}\nmqtt: &a {port: x, host: 3}\n? [a]\n: 3\nfoo: !!str 1\n"
    text += "health: {<<: *a, interval_s: 0}\n"
    found = "\n".join(map(str, config.check(written(tmp_path, text), {})))
    assert len(found.splitlines()) == 10
    for said in (
        "2026-99-99",
        "&a",
        "a list or a section as a name",
        "!!str",
        "<<",
        "*a",
        "foo",
        "mqtt.port",
        "mqtt.host",
    ):
        assert said in found
    assert "health.interval_s" in found


def test_a_refused_part_of_a_list_is_named_as_such(tmp_path: Path) -> None:
    found = "\n".join(map(str, config.check(written(tmp_path, "sensor: {mount_matrix: [*a, [0, 1, 0]]}\n"), {})))
    assert "*a: anchors and aliases are not read" in found
    assert "object at 0x" not in found


@pytest.mark.parametrize("name", ["mqtt.password_file", "mqtt.tls.ca_file", "model.path"])
def test_a_file_that_never_ends_is_refused(tmp_path: Path, name: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    variable = "FOOTFALL__" + name.upper().replace(".", "__")
    for path in (pipe, Path("/dev/zero")):
        (found,) = config.check(written(tmp_path, "mqtt: {username: x}\n"), {variable: str(path)})
        assert (found.path, "it is no regular file" in str(found)) == (variable, True)


def test_a_merge_key_is_refused(tmp_path: Path) -> None:
    (found,) = config.check(written(tmp_path, "mqtt:\n  <<: {host: a}\n"), {})
    assert (found.path, found.found) == ("line 2, column 3", "<<: merge keys are not read")


TRAPS = (
    '!!int ""', "!!bool foo", "!!timestamp foo", "!!float x", "!!int 0x", "!foo x", '!!null "x"', '!!binary "a"', "0x_",
    "2026-99-99", "9" * 400, "9" * 5000, "0x" + "f" * 9000, "[" * 5000, '"\\ud800"', "&a x", "\x07", "1e999", ".nan",
)  # fmt: skip


@pytest.mark.parametrize("text", TRAPS)
@pytest.mark.parametrize("name", ["mqtt.port", "health.interval_s", "sensor.mount_matrix", "mqtt.host", "outbox.path"])
def test_no_value_raises_anything_but_a_config_error(tmp_path: Path, text: str, name: str) -> None:
    section, key = name.split(".")
    path = written(tmp_path, f"{section}:\n  {key}: {text}\n")
    assert all(len(str(found)) < 400 and "\n" not in str(found) for found in config.check(path, {}))
    if text != "1e999" or key not in ("host", "path"):  # which is text to YAML 1.1
        with pytest.raises(ConfigError):
            config.load(path, {})
    variable = f"FOOTFALL__{section}__{key}".upper()
    for found in config.check(written(tmp_path, ""), {variable: text}):
        assert found.path == variable


@given(st.sampled_from(["PORT", "HOST", "USERNAME", "KEEPALIVE_S", "HOME_ASSISTANT"]), st.text(max_size=40))
def test_any_variable_is_read_or_refused(key: str, text: str) -> None:
    variable = f"FOOTFALL__MQTT__{key}"
    with contextlib.suppress(ConfigError):
        config.load(None, {variable: text})


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("device: {id: %s}" % ("a" * 65), "it has 65 bytes, 64 are the most"),
        ("mqtt: {base_topic: %s}" % ("a" * 70000), "it has 70000 bytes, 256 are the most"),
        ("mqtt: {base_topic: %s}" % ("ü" * 129), "it has 258 bytes, 256 are the most"),
        (r'mqtt: {base_topic: "a\nb"}', "it holds the character U+000A"),
        (r'mqtt: {base_topic: "\ud800"}', "it holds the character U+D800"),
        (r'mqtt: {host: "a\0b"}', "it holds the character U+0000"),
        (r'mqtt: {username: "\udcff"}', "it holds the character U+DCFF"),
        (r'outbox: {path: "/tmp/\ud800"}', "it holds the character U+D800"),
        ("outbox: {path: ~nosuchuser/x}", "there is no user 'nosuchuser'"),
        ("mqtt: {host: 'broker.lan:1883'}", "put the port under mqtt.port"),
        ("mqtt: {host: '10.0.0.7:1883'}", "put the port under mqtt.port"),
        ("mqtt: {host: '[::1]:1883'}", "put the port under mqtt.port"),
        ("mqtt: {host: '[::1]'}", "an IPv6 address without brackets"),
        ("mqtt: {host: 'mqtt://broker.lan'}", "the host alone, without ://; the port goes under mqtt.port"),
        ("sensor: {bus: i2c-1}", "/dev/i2c-1"),
        ("sensor: {address: '0x68'}", "without quotes"),
    ],
)
def test_a_hint_says_what_is_wrong_with_a_value(tmp_path: Path, text: str, hint: str) -> None:
    (found,) = config.check(written(tmp_path, text), {})
    assert found.hint == hint
    assert len(str(found)) < 300


@pytest.mark.parametrize("host", ["::1", "fe80::1%eth0", "2001:db8::7", "10.0.0.7", "broker.lan", "bröker.example"])
def test_every_kind_of_host_is_taken(host: str) -> None:
    assert config.load(None, {"FOOTFALL__MQTT__HOST": host}).mqtt.host == host


def test_a_bus_is_a_number_or_a_path(tmp_path: Path) -> None:
    (found,) = config.check(written(tmp_path, "sensor: {bus: one}"), {})
    assert "or a path such as /dev/i2c-1" in found.allowed


def test_a_wrong_address_is_shown_as_it_was_written(tmp_path: Path) -> None:
    assert problems(tmp_path, "sensor: {address: 0x70}")["sensor.address"].found == "112 (0x70)"


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("model.path", ""),
        ("mqtt.tls.ca_file", ""),
        ("mqtt.password_file", "FOOTFALL__MQTT__USERNAME"),
        ("sensor.recording", "FOOTFALL__SENSOR__TYPE"),
    ],
)
@pytest.mark.parametrize("file", ["none.bin", "folder", "n" * 300])
def test_a_named_file_that_cannot_be_read_is_a_mistake(tmp_path: Path, name: str, rest: str, file: str) -> None:
    (tmp_path / "folder").mkdir()
    *sections, key = name.split(".")
    text = "".join(f"{'  ' * depth}{section}:\n" for depth, section in enumerate(sections))
    path = written(tmp_path, f"{text}{'  ' * len(sections)}{key}: {file}\n")
    environ = {rest: "replay"} if rest else {}
    (found,) = config.check(path, environ)
    assert found.path == name
    assert found.allowed == "a file that can be read"
    with pytest.raises(ConfigError, match=name):
        config.load(path, environ)
    variable = "FOOTFALL__" + name.replace(".", "__").upper()
    (found,) = config.check(written(tmp_path, ""), {**environ, variable: str(tmp_path / file)})
    assert found.path == variable


def test_a_recording_that_is_not_played_need_not_exist(tmp_path: Path) -> None:
    assert config.check(written(tmp_path, "sensor: {type: mpu6050, recording: none.npz}"), {}) == []


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("FOOTFALL_MQTT_HOST", "FOOTFALL__MQTT__HOST"),
        ("FOOTFALL_MQTT_TLS_CA_FILE", "FOOTFALL__MQTT__TLS__CA_FILE"),
        ("FOOTFALL_SENSOR_TIPE", "FOOTFALL__SENSOR__TYPE"),
    ],
)
def test_single_underscores_are_noticed(tmp_path: Path, variable: str, meant: str) -> None:
    (found,) = config.check(written(tmp_path, ""), {variable: "x"})
    assert str(found) == f"{variable}: a name with single underscores; did you mean {meant}?"


def test_a_variable_in_lower_case_is_noticed(tmp_path: Path) -> None:
    found = problems(tmp_path, "", footfall__mqtt__host="x")
    assert found["footfall__mqtt__host"].hint == "did you mean FOOTFALL__MQTT__HOST?"


def test_a_variable_that_names_a_section_is_told_its_keys(tmp_path: Path) -> None:
    found = problems(tmp_path, "", FOOTFALL__MQTT__TLS="{ca_file: x}")
    assert "FOOTFALL__MQTT__TLS__CA_FILE" in found["FOOTFALL__MQTT__TLS"].hint


@pytest.mark.parametrize("text", ["", "null"])
def test_the_environment_can_switch_tls_off(tmp_path: Path, text: str) -> None:
    ca_file = written(tmp_path, "x").rename(tmp_path / "ca.pem")
    file = written(tmp_path, f"mqtt:\n  tls:\n    ca_file: {ca_file}\n")
    assert config.load(file, {}).mqtt.tls.ca_file == ca_file
    assert config.load(file, {"FOOTFALL__MQTT__TLS__CA_FILE": text}).mqtt.tls.ca_file is None


def test_an_outbox_that_is_a_directory_is_a_mistake(tmp_path: Path) -> None:
    assert "a directory" in problems(tmp_path, f"outbox:\n  path: {tmp_path}\n")["outbox.path"].found
    assert "FOOTFALL__OUTBOX__PATH" in problems(tmp_path, "", FOOTFALL__OUTBOX__PATH="~")


def test_other_peoples_variables_are_none_of_our_business(tmp_path: Path) -> None:
    assert config.check(written(tmp_path, ""), {"FOOTFALL_HOME": "x", "FOOTFALLS_MQTT_HOST": "x"}) == []


def test_a_near_name_spares_the_list_of_all(tmp_path: Path) -> None:
    found = problems(tmp_path, "mqtt: {prot: 1, zzzzzz: 1}", FOOTFALL__MQTT__PROT="1")
    assert str(found["mqtt.prot"]) == "mqtt.prot: an unknown name; did you mean mqtt.port?"
    assert str(found["FOOTFALL__MQTT__PROT"]) == "FOOTFALL__MQTT__PROT: an unknown name; did you mean mqtt.port?"
    assert "allowed: host, port, base_topic" in str(found["mqtt.zzzzzz"])


def test_a_thousand_mistakes_fit_a_line(tmp_path: Path) -> None:
    path = written(tmp_path, "".join(f"k{i}: 1\n" for i in range(1000)) + f"{'k' * 900}: 1\n" + '"a\\nb": 1\n')
    with pytest.raises(ConfigError, match=r"1002 errors.*and 982 more") as caught:
        config.load(path, {})
    assert len(str(caught.value)) < 4000
    assert all(len(str(found)) < 200 and "\n" not in str(found) for found in config.check(path, {}))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("mqtt:\n\thost: x\n", "indent with spaces, not with tabs"),
        ("a: [", "no valid YAML: expected"),
        ("a: 1\n---\nb: 2\n", "expected a single document in the stream, but found another document"),
    ],
)
def test_faults_of_the_syntax_read_well(tmp_path: Path, text: str, sentence: str) -> None:
    (found,) = config.check(written(tmp_path, text), {})
    assert sentence in str(found)
    assert "found found" not in str(found)
    assert "found but" not in str(found)


@pytest.mark.parametrize(
    ("user", "environ", "path"),
    [
        (0, {"STATE_DIRECTORY": "/run/a:/run/b", "HOME": "/root"}, "/run/a/outbox.db"),
        (0, {"HOME": "/root", "XDG_STATE_HOME": "/x"}, "/var/lib/footfall/outbox.db"),
        (1000, {"HOME": "/home/anna"}, "/home/anna/.local/state/footfall/outbox.db"),
        (1000, {"HOME": "/home/anna", "XDG_STATE_HOME": "/x"}, "/x/footfall/outbox.db"),
        (1000, {"HOME": "/home/anna", "XDG_STATE_HOME": "x"}, "/home/anna/.local/state/footfall/outbox.db"),
    ],
)
def test_the_outbox_is_where_this_user_keeps_state(
    monkeypatch: pytest.MonkeyPatch, user: int, environ: dict[str, str], path: str
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    assert default_outbox_path(environ) == config.load(None, environ).outbox.path == Path(path)


def test_a_user_without_a_home_has_an_outbox_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError

    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(Path, "home", homeless)
    assert default_outbox_path({}) == Path("/var/lib/footfall/outbox.db")


def test_replay_needs_a_recording_and_a_password_needs_a_user(tmp_path: Path) -> None:
    (tmp_path / "p").touch()
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
    (tmp_path / "mine.tflite").touch()
    assert config.load(path, {}).model.path == tmp_path / "models" / "step.tflite"
    assert config.load(written(tmp_path, "model: {path: mine.tflite}"), {}).model.path == tmp_path / "mine.tflite"


def test_the_fingerprint_follows_the_settings() -> None:
    prints = {config.load(None, {"FOOTFALL__MQTT__PORT": port}).fingerprint() for port in ("1", "2", "1")}
    assert len(prints) == 2


def test_fallback_brokers_are_hosts_with_or_without_a_port(tmp_path: Path) -> None:
    text = 'mqtt: {fallback_hosts: [b.lan, "c.lan:1884", "::1", "[fe80::1]:1885"]}'
    loaded = config.load(written(tmp_path, text), {})
    assert loaded.mqtt.fallback_hosts == (("b.lan", None), ("c.lan", 1884), ("::1", None), ("fe80::1", 1885))
    loaded = config.load(None, {"FOOTFALL__MQTT__FALLBACK_HOSTS": "[b.lan]"})
    assert loaded.mqtt.fallback_hosts == (("b.lan", None),)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("b.lan", ""),
        ("[1]", "1"),
        ('["b.lan:0"]', "b.lan:0"),
        ('["b.lan:99999"]', "b.lan:99999"),
        ('["mqtt://b"]', "://"),
    ],
)
def test_a_wrong_fallback_broker_is_named(tmp_path: Path, value: str, hint: str) -> None:
    found = problems(tmp_path, f"mqtt: {{fallback_hosts: {value}}}")
    assert "HOST or HOST:PORT" in found["mqtt.fallback_hosts"].allowed
    assert hint in found["mqtt.fallback_hosts"].hint


def test_a_client_certificate_needs_a_ca_and_a_key_its_certificate(tmp_path: Path) -> None:
    (tmp_path / "x.pem").touch()
    assert "mqtt.tls.ca_file" in problems(tmp_path, "mqtt: {tls: {cert_file: x.pem}}")
    assert "mqtt.tls.cert_file" in problems(tmp_path, "mqtt: {tls: {key_file: x.pem, ca_file: x.pem}}")
