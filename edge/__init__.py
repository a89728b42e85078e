"""Footfall on the device: IMU samples in, step events out over MQTT."""

from __future__ import annotations

__version__ = "0.1.0"
