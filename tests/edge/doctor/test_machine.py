"""The report as a whole, on a machine where nothing is attached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.edge.doctor.clinic import footfall, visit

if TYPE_CHECKING:
    from pathlib import Path


def test_with_nothing_attached_every_area_is_judged(tmp_path: Path) -> None:
    found = visit(tmp_path, sensor={"bus": str(tmp_path / "i2c-9")}, mqtt={"host": "127.0.0.1", "port": 1})
    assert found.status == 1
    areas = {one["area"] for one in found.findings}
    assert {"config", "machine", "model", "bus", "disk", "clock", "broker"} <= areas
    assert found.the("bus", "fail")["text"] == f"there is no I2C bus at {tmp_path}/i2c-9"
    assert "enable I2C" in found.the("bus", "fail")["advice"]
    assert "self-test gives the expected bytes" in found.the("model", "ok")["text"]
    assert all(one["advice"] for one in found.findings if one["level"] != "ok")


def test_text_has_one_line_per_finding_and_no_colour_in_a_pipe(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"sensor: {{bus: {tmp_path}/i2c-9}}\noutbox: {{path: {tmp_path}/o.db}}\n", encoding="utf-8")
    done = footfall("doctor", "--config", config, "--seconds", "0")
    lines = done.stdout.splitlines()
    assert all(line.startswith(("ok    ", "warn  ", "fail  ")) for line in lines[:-1]), done.stdout
    assert lines[-1].startswith("summary: ")
    assert "\033" not in done.stdout
    assert done.stderr == ""


def test_every_error_of_a_config_is_a_line_of_its_own(tmp_path: Path) -> None:
    found = visit(tmp_path, sensor={"typ": "auto"}, mqtt={"port": 70000})
    assert [one["level"] for one in found.of("config")] == ["fail", "fail"]
    assert "sensor.typ" in found.texts("config")
    assert "mqtt.port" in found.texts("config")
    assert found.of("machine"), "what does not need the config is still checked"


def test_a_replayed_recording_needs_no_bus(tmp_path: Path) -> None:
    recording = tmp_path / "short.csv"
    rows = [f"{index / 100:.2f},0,0,9.8,0,0,0" for index in range(200)]
    header = "time_s,acc_x,acc_y,acc_z,gyr_x,gyr_y,gyr_z"
    recording.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    found = visit(tmp_path, sensor={"type": "replay", "recording": str(recording)})
    assert "holds 2 s at 100 Hz; no bus is used" in found.the("bus", "ok")["text"]
