"""A real Home Assistant core and the real daemon: entities appear, count, go unavailable, come back, are removed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edge import config, home_assistant
from edge.payloads import DeviceInfo
from emulator import children
from emulator.ports import free_port
from tests.broker import Broker, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
HA_PYTHON = ROOT / "build" / "ha" / "bin" / "python"
PATIENCE_S = 120.0

pytestmark = [
    pytest.mark.ha,
    pytest.mark.broker,
    pytest.mark.skipif(
        not (HA_PYTHON.exists() and "FOOTFALL_TEST_HA" in os.environ), reason="takes minutes: run `make test-ha`"
    ),
]


def judged(*payloads: dict[str, Any]) -> list[list[str]]:
    """Return what Home Assistant's own schemas have against each message."""
    done = subprocess.run(
        [HA_PYTHON, ROOT / "tests" / "ha" / "schema.py"],
        input="".join(json.dumps(payload) + "\n" for payload in payloads),
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def discovered(**environ: str) -> dict[str, Any]:
    settings = config.load(None, {"FOOTFALL__DEVICE__ID": "t1", **environ})
    return home_assistant.discovery(settings, DeviceInfo("0.1.0", "step", "1", "aa", "mpu6050", 100.0, "b", "c", "h"))


def spoil(payload: dict[str, Any], component: str, **options: Any) -> dict[str, Any]:
    spoilt: dict[str, Any] = json.loads(json.dumps(payload))
    for name, value in options.items():
        spoilt["components"][component][name] = value
        if value is None:
            del spoilt["components"][component][name]
    return spoilt


MISTAKES: list[tuple[str, dict[str, Any]]] = [
    ("steps", {"state_class": "increasing"}),
    ("step", {"event_types": None}),
    ("today", {"unique_id": None}),
    ("cadence", {"value_template": "{{ value_json.x "}),
    ("steps", {"state_topic": "footfall/+/steps"}),
    ("steps", {"unit": "steps"}),
    ("undervoltage", {"device_class": "nonsense"}),
]


def test_home_assistants_own_schemas_accept_the_message_and_would_notice_a_mistake() -> None:
    good = [discovered(), discovered(FOOTFALL__MQTT__BATCH_S="60")]
    faults = judged(
        *good,
        good[0] | {"~": "footfall/t1"},
        *(spoil(good[0], component, **options) for component, options in MISTAKES),
    )
    assert faults[:2] == [[], []]
    for mistake, found in zip(["a topic base", *MISTAKES], faults[2:], strict=True):
        assert found, f"{mistake} was not noticed"


class HomeAssistant:
    """The core as a child process, and its REST interface."""

    def __init__(self, folder: Path, mqtt_port: int) -> None:
        self.port = free_port()
        self.log = folder.parent / "hass.log"
        script = ROOT / "tests" / "ha" / "seed.py"
        seed = [str(one) for one in (HA_PYTHON, script, folder, self.port, mqtt_port)]
        self.token = subprocess.run(seed, capture_output=True, text=True, check=True).stdout.strip()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [str(HA_PYTHON.parent / "hass"), "-c", str(self._folder), "--skip-pip"]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        wait_until(self._answers, timeout_s=PATIENCE_S, what="Home Assistant answers")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def states(self) -> dict[str, dict[str, Any]]:
        """Return every entity of ours by its id."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/states", headers={"Authorization": f"Bearer {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return {one["entity_id"]: one for one in json.load(answer) if "footfall" in one["entity_id"]}

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text(encoding="utf-8")
        try:
            self.states()
        except (urllib.error.URLError, OSError):
            return False
        return True

    def wait(self, condition: Callable[[dict[str, dict[str, Any]]], Any], what: str) -> dict[str, dict[str, Any]]:
        """Poll until the entities are as the condition wants them; return them."""
        found: dict[str, dict[str, Any]] = {}

        def met() -> Any:
            found.clear()
            found.update(self.states())
            return condition(found)

        wait_until(met, timeout_s=PATIENCE_S, what=what)
        return found


@pytest.fixture
def core(tmp_path: Path, broker: Broker) -> Iterator[HomeAssistant]:
    """Run a core on the test's own broker."""
    broker.start()
    home = HomeAssistant(tmp_path / "ha", broker.port)
    home.start()
    yield home
    home.stop()


def start_daemon(folder: Path, port: int, *, announced: bool) -> subprocess.Popen[str]:
    """Play a walk in real time through the real daemon."""
    from edge.recording import save_npz  # noqa: PLC0415
    from emulator.gait import simulate_walk  # noqa: PLC0415

    save_npz(folder / "walk.npz", simulate_walk(600.0, seed=3))
    settings = {
        "device": {"id": "hall"},
        "sensor": {"type": "replay", "recording": str(folder / "walk.npz")},
        "mqtt": {"host": "127.0.0.1", "port": port, "home_assistant": announced},
        "outbox": {"path": str(folder / "outbox.db")},
        "health": {"interval_s": 5},
    }
    (folder / "config.yaml").write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "edge", "run", "--config", str(folder / "config.yaml")]
    with (folder / "daemon.log").open("a", encoding="utf-8") as output:
        return children.start(command, stdout=output, stderr=output)


def state(found: dict[str, dict[str, Any]], entity: str) -> str:
    return str(found.get(entity, {}).get("state", "missing"))


def number(found: dict[str, dict[str, Any]], entity: str) -> float:
    try:
        return float(state(found, entity))
    except ValueError:
        return -1.0


def test_a_home_assistant_sees_the_daemon_come_count_go_return_and_be_removed(
    core: HomeAssistant, broker: Broker, tmp_path: Path
) -> None:
    daemon = start_daemon(tmp_path, broker.port, announced=True)
    try:
        found = core.wait(lambda found: len(found) == 16, "all entities appear")
        core.wait(lambda found: number(found, "sensor.footfall_hall_steps") >= 5, "it counts")
        found = core.wait(lambda found: number(found, "sensor.footfall_hall_cadence") > 60, "the cadence")
        assert found["sensor.footfall_hall_steps"]["attributes"]["state_class"] == "total_increasing"
        found = core.wait(
            lambda found: state(found, "event.footfall_hall_step") not in ("unknown", "missing", "unavailable"),
            "an event for a step",
        )
        assert found["event.footfall_hall_step"]["attributes"]["event_type"] == "step"
        core.wait(lambda found: number(found, "sensor.footfall_hall_memory") > 10, "diagnostics")
        counted = number(core.states(), "sensor.footfall_hall_steps")
        children.stop(daemon)
        core.wait(lambda found: state(found, "sensor.footfall_hall_steps") == "unavailable", "it goes unavailable")
        daemon = start_daemon(tmp_path, broker.port, announced=True)
        core.wait(lambda found: number(found, "sensor.footfall_hall_steps") > counted, "it comes back and counts on")
        core.stop()
        core.start()
        found = core.wait(lambda found: number(found, "sensor.footfall_hall_steps") > counted, "after HA's restart")
        assert len(found) == 16
        children.stop(daemon)
        daemon = start_daemon(tmp_path, broker.port, announced=False)
        core.wait(lambda found: not found, "the entities are removed")
    finally:
        children.stop(daemon)
    complaints = [
        line
        for line in core.log.read_text(encoding="utf-8").splitlines()
        if "footfall" in line.lower() and "ERROR" in line
    ]
    assert complaints == []
