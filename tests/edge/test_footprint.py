"""What the daemon must not load, because it never calls it; each would be there for good."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOT_NEEDED = ["asyncio", "difflib", "email", "http.client", "multiprocessing", "tempfile", "unittest", "urllib.request"]
LOADED = """
import json, sys
import edge.daemon
edge.daemon.StepClassifier("models/step.tflite")
print(json.dumps([sorted(sys.modules), open("/proc/self/maps").read()]))
"""
STAND_IN = """
import sys, urllib
import edge.mqtt_connect
before = "urllib.request" in sys.modules
proxies = urllib.request.getproxies_environment()
print(before, proxies.get("mqtt"), "urllib.request" in sys.modules, type(urllib.request).__name__)
"""


def run(script: str, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={"PYTHONPATH": str(ROOT)} | environ,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def test_the_daemon_loads_nothing_that_it_never_calls() -> None:
    modules, maps = json.loads(run(LOADED))
    assert [name for name in NOT_NEEDED if name in modules] == []
    assert "paho.mqtt.client" in modules
    assert "libLiteRt.so" not in maps, "ai-edge-litert's __init__ loads it"


def test_what_paho_may_ask_for_is_there_when_it_asks() -> None:
    assert run(STAND_IN, mqtt_proxy="http://proxy").split() == ["False", "http://proxy", "True", "module"]
