"""`make run` and `make convert` with arguments that cannot be: told at once, nothing is passed over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_sensor_has_no_place_where_nothing_is_sensed() -> None:
    command = [sys.executable, "-m", "emulator.demo", "--sensor", "bmi270", "--speed", "max"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "SENSOR is of no use with SPEED=max" in done.stderr


def test_make_convert_tells_a_typo_before_it_installs_anything() -> None:
    command = ["make", "--silent", "convert", "MODEL=models/step.keras", "CALIBRATION=no such folder"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "make convert: no such folder: no such file or directory" in done.stderr
    assert "TensorFlow" not in done.stdout
