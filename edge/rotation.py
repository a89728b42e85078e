"""A sensor mounted any way up: recordings turned at random, to see whether the model minds."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edge.recording import Recording
    from edge.types import FloatArray


def random_rotation(rng: np.random.Generator) -> FloatArray:
    """Return a [3, 3] rotation, uniform over SO(3): QR of a Gaussian matrix, its signs made unique (Stewart 1980)."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    q[:, 0] *= np.linalg.det(q)
    return q.astype(np.float32)


def rotated(recording: Recording, seed: int) -> Recording:
    """Turn accelerometer and gyroscope by one rotation, drawn from the seed and the recording's name alone."""
    name = f"{recording.dataset}/{recording.name}"
    rotation = random_rotation(np.random.default_rng([seed, zlib.crc32(name.encode())]))
    imu = np.concatenate([recording.imu[:, :3] @ rotation.T, recording.imu[:, 3:] @ rotation.T], axis=1)
    return replace(recording, imu=imu)
