"""A small gait simulator: what an IMU at the waist, in a hand or on a wrist would see of a walk with known steps.

Kinematics first, sensor last. Step instants (initial contacts) come from cadence, its ramps and its variability. A
smooth phase that counts steps drives the motion of the trunk; the sensor sits on the trunk, in a hand held before it,
or at the end of a swinging arm. Acceleration, gravity and rotation are then expressed in the sensor's own axes, so that
accelerometer and gyroscope tell the same story; a sensor of MPU-6050 grade adds bias, scale error, noise and clipping.

World axes: x forward at the start, y left, z up. Sources for shapes and sizes:
[1] Zijlstra & Hof, Gait & Posture 18 (2003): the trunk as an inverted pendulum, lowest in double support, moving up and
    down once and left and right half a time per step; forward acceleration peaks around initial contact.
[2] Menz, Lord & Fitzpatrick, Gait & Posture 18 (2003): trunk accelerations are largest vertically; up and forward they
    are even harmonics of the stride, sideways odd ones.
[3] Kavanagh, J. NeuroEng. Rehabil. 6:9 (2009): they grow with speed in every direction.
[4] Beauchet et al., J. NeuroEng. Rehabil. 6:32 (2009): stride times of healthy walkers vary by about 2 to 3 %.
[5] InvenSense PS-MPU-6000A rev. 3.4, sections 6.1 and 6.2: sensor errors.
Sizes were then held against public recordings (lower back: 1.2 to 3.1 m/s² RMS vertically; hand: 1.9 to 2.7). Nothing
was fitted to a detector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge.errors import UsageError
from edge.recording import Recording

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

GRAVITY = 9.80665
MIN_SECONDS = 15.0
ACTIVITY_NAMES = ("standing", "walking", "turning")

_REFERENCE_CADENCE_SPM = 110.0
_ONSET_S = 0.65
"""From the first sway of gait initiation to the first contact, and from the last contact to rest."""


@dataclass(frozen=True, slots=True)
class Placement:
    """How the place on the body changes the motion of the trunk.

    up, forward, left: share of the trunk's acceleration that arrives. heel_strike: peak of the transient in m/s².
    sway_rad: rotation in step with the gait. wander_rad: slow turning of the sensor. tremor: m/s² RMS at 7 to 12 Hz.
    swing_rad: half the arc of a swinging arm, arm_m its length from the shoulder to the sensor.
    """

    up: float
    forward: float
    left: float
    heel_strike: float
    sway_rad: float
    wander_rad: float
    tremor: float
    swing_rad: float = 0.0
    arm_m: float = 0.0


PLACEMENTS = {
    "waist": Placement(1.0, 1.0, 1.0, 3.0, 0.05, 0.01, 0.0),
    "hand": Placement(1.0, 0.7, 0.7, 1.0, 0.05, 0.06, 0.06),
    "wrist": Placement(1.0, 0.7, 0.7, 1.0, 0.05, 0.05, 0.04, swing_rad=0.28, arm_m=0.6),
}


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of the script: standing if cadence is 0, else walking at that multiple of the walker's cadence."""

    seconds: float
    cadence: float = 0.0
    turn_rad: float = 0.0


WALK = (
    Part(3.0),
    Part(17.0, 1.0),
    Part(3.0, 0.85, np.pi),
    Part(10.0, 1.0),
    Part(5.0),
    Part(18.0, 1.12),
    Part(4.0),
)
"""A minute: stand, walk, turn about, walk back, pause, walk faster, stand."""


def simulate_walk(
    seconds: float = 60.0,
    seed: int = 0,
    *,
    placement: str = "hand",
    sampling_rate_hz: float = 100.0,
    cadence_spm: float | None = None,
) -> Recording:
    """Simulate a walk whose every step is known: `steps` are the instants of initial contact.

    seed: the walker, the walk, and the sensor with its mounting; the same seed gives the same recording.
    placement: `waist`, `hand` (held before the body) or `wrist` (swinging arm).
    cadence_spm: steps per minute of the ordinary parts; by default the walker's own, 100 to 118.
    Raises UsageError for settings outside what people do.
    """
    _check(seconds, placement, cadence_spm)
    rng = np.random.default_rng([seed, sorted(PLACEMENTS).index(placement)])
    parts = _script(seconds)
    cadence_spm = float(rng.uniform(100.0, 118.0)) if cadence_spm is None else cadence_spm
    time_s = np.arange(round(seconds * sampling_rate_hz)) / sampling_rate_hz
    bouts = _bouts(parts, cadence_spm, rng)
    body = _Walker(time_s, bouts, _heading(time_s, parts), PLACEMENTS[placement], rng)
    imu = _sensor(*body.motion(), sampling_rate_hz, rng)
    return Recording(
        name=f"simulated-{placement}-{seed}",
        time_s=time_s,
        imu=imu,
        sampling_rate_hz=sampling_rate_hz,
        steps=np.concatenate(bouts),
        steps_known="all",
        dataset="simulated",
        subject=f"seed {seed}",
        placement=placement,
        activity=_activity(time_s, parts),
        activity_names=ACTIVITY_NAMES,
        metadata={"note": f"simulated walk at {cadence_spm:.0f} steps/min, not a recording of a person"},
    )


def _check(seconds: float, placement: str, cadence_spm: float | None) -> None:
    if not MIN_SECONDS <= seconds <= 86_400:
        raise UsageError(f"a simulated walk of {seconds:g} s; allowed are {MIN_SECONDS:g} to 86400 s")
    if placement not in PLACEMENTS:
        raise UsageError(f"placement {placement!r}; allowed are {', '.join(PLACEMENTS)}")
    if cadence_spm is not None and not 60 <= cadence_spm <= 150:
        raise UsageError(f"a cadence of {cadence_spm:g} steps/min; allowed are 60 to 150")


def _script(seconds: float) -> list[Part]:
    """Repeat the minute's walk as often as needed and stretch it to the length asked for."""
    whole_s = sum(part.seconds for part in WALK)
    rounds = max(1, round(seconds / whole_s))
    stretch = seconds / (rounds * whole_s)
    return [Part(stretch * part.seconds, part.cadence, part.turn_rad) for part in WALK * rounds]


def _edges(parts: list[Part]) -> Array:
    return np.concatenate([[0.0], np.cumsum([part.seconds for part in parts])])


def _activity(time_s: Array, parts: list[Part]) -> npt.NDArray[np.int64]:
    codes = np.array([(part.cadence > 0) + (part.turn_rad != 0) for part in parts])
    index = np.searchsorted(_edges(parts)[1:], time_s, side="right")
    return codes[np.minimum(index, len(parts) - 1)].astype(np.int64)


def _heading(time_s: Array, parts: list[Part]) -> Array:
    """Direction of walking in rad; a turn starts and ends gently."""
    heading = np.zeros_like(time_s)
    for start_s, part in zip(_edges(parts), parts, strict=False):
        progress = np.clip((time_s - start_s) / part.seconds, 0.0, 1.0)
        heading += _ease(progress, np.array([0.0, part.turn_rad]))
    return heading


def _bouts(parts: list[Part], cadence_spm: float, rng: np.random.Generator) -> list[Array]:
    """Step instants of each uninterrupted stretch of walking parts."""
    bouts: list[Array] = []
    asymmetry = rng.uniform(-0.02, 0.02)  # left steps a little longer than right ones, or the other way round
    edges = _edges(parts)
    walking = np.array([part.cadence > 0 for part in parts])
    starts = np.flatnonzero(walking & ~np.concatenate([[False], walking[:-1]]))
    ends = np.flatnonzero(walking & ~np.concatenate([walking[1:], [False]])) + 1
    for first, end in zip(starts, ends, strict=True):
        until_s = edges[end] - _ONSET_S
        steps_s = [edges[first] + _ONSET_S]
        drift = 0.0
        while True:
            part = parts[min(int(np.searchsorted(edges, steps_s[-1], side="right")) - 1, len(parts) - 1)]
            drift = 0.5 * drift + rng.normal(0.0, 0.017)  # successive steps resemble each other; 2 % in all [4]
            ramp = {1: 1.15, 2: 1.05}.get(len(steps_s), 1.0)
            side = 1 + asymmetry * (-1) ** len(steps_s)
            next_s = steps_s[-1] + 60.0 / (cadence_spm * part.cadence) * ramp * side * (1 + drift)
            if next_s > until_s:
                break
            steps_s.append(next_s)
        bouts.append(np.array(steps_s))
    return bouts


class _Walker:
    """The motion of one point of a walking body."""

    def __init__(
        self, time_s: Array, bouts: list[Array], heading: Array, place: Placement, rng: np.random.Generator
    ) -> None:
        self.time_s, self.heading, self.place, self.rng = time_s, heading, place, rng
        self.rate_hz = 1.0 / (time_s[1] - time_s[0])
        self.phase = np.zeros_like(time_s)  # counts steps: an integer at each initial contact
        self.size = np.zeros_like(time_s)  # 0 at rest, 1 at 110 steps a minute
        self.contacts = np.concatenate(bouts)
        self.strength = np.concatenate([self._strength(bout) for bout in bouts])
        for bout in bouts:
            self._add_bout(bout)

    def motion(self) -> tuple[Array, Array]:
        """Specific force in m/s² [N, 3] and angular velocity in rad/s [N, 3], in the axes of an ideal sensor."""
        force = self._trunk() * [self.place.forward, self.place.left, self.place.up] + self._heel_strikes()
        swing = self._swing()
        force[:, [0, 2]] += self._arm(swing)
        force += self._restlessness()
        force[:, 1] += 0.5 * np.gradient(self.heading, self.time_s)  # a turn is walked at about 0.5 m/s
        force[:, 2] += GRAVITY
        pitch, roll, yaw = self._attitude()
        rotation = _rotation_z(self.heading + yaw) @ _rotation_y(pitch - swing) @ _rotation_x(roll)
        # Force is in walking axes, that is without the heading; the rate is that of the whole rotation.
        local = _rotation_z(yaw) @ _rotation_y(pitch - swing) @ _rotation_x(roll)
        return np.einsum("nij,ni->nj", local, force), _angular_velocity(rotation, self.rate_hz)

    def _strength(self, contacts: Array) -> Array:
        """How hard each step is, relative to 1 at 110 steps a minute: displacements change little, so as f² [3]."""
        cadence_spm = 60.0 / np.gradient(contacts)
        ramp = np.ones(len(contacts))
        ramp[:2], ramp[-2:] = (0.6, 0.85), (0.85, 0.6)  # nobody starts or stops within one step
        variation = self.rng.normal(1.0, 0.1, len(contacts))
        return (cadence_spm / _REFERENCE_CADENCE_SPM) ** 2 * ramp * variation

    def _add_bout(self, contacts: Array) -> None:
        knots_s = np.concatenate([[contacts[0] - _ONSET_S], contacts, [contacts[-1] + _ONSET_S]])
        here = (self.time_s >= knots_s[0]) & (self.time_s < knots_s[-1])
        strength = self.strength[np.isin(self.contacts, contacts)]
        count = _smooth_count(self.time_s[here], knots_s)
        self.phase[here] = count - 1
        self.size[here] = _ease(count, np.concatenate([[0.0], strength, [0.0]]))

    def _waves(self, *terms: tuple[float, float, float]) -> Array:
        """Sum of (amplitude, cycles per step, where in the step it peaks), each a little different in every walker."""
        total = np.zeros_like(self.phase)
        for amplitude, cycles, peak in terms:
            own = amplitude * self.rng.normal(1.0, 0.15)
            total += own * np.cos(2 * np.pi * cycles * (self.phase - peak - self.rng.normal(0.0, 0.02)))
        return self.size * total

    def _trunk(self) -> Array:
        """Accelerations forward, left, up in m/s²: 4 cm up and down, 4 cm side to side at 110 steps a minute [1, 2]."""
        forward = self._waves((1.4, 1.0, 0.92), (0.7, 2.0, 0.98), (0.2, 0.5, 0.3))
        left = self._waves((0.7, 0.5, 0.4), (0.7, 1.5, 0.1), (0.3, 2.5, 0.2))
        up = self._waves((2.6, 1.0, 0.11), (0.6, 2.0, 0.10), (0.4, 3.0, 0.08), (0.25, 0.5, 0.6))
        wobble = np.column_stack([_band_noise(self.rng, self.time_s, 2.0, 6.0) for _ in range(3)])
        return np.column_stack([forward, left, up]) + 0.6 * self.size[:, None] * wobble

    def _heel_strikes(self) -> Array:
        """Sum the shocks that travel up from the heel: damped oscillations of 12 to 17 Hz, gone in 0.1 s."""
        force = np.zeros((len(self.time_s), 3))
        frequency_hz, decay_s = self.rng.uniform(12.0, 17.0), 0.03
        for contact_s, strength in zip(self.contacts, self.strength, strict=True):
            first, end = np.searchsorted(self.time_s, [contact_s, contact_s + 6 * decay_s])
            after_s = self.time_s[first:end] - contact_s
            shock = strength * np.exp(-after_s / decay_s) * np.sin(2 * np.pi * frequency_hz * after_s)
            force[first:end] += 2.0 * self.place.heel_strike * shock[:, None] * [-0.5, 0.0, 1.0]  # peaks near 1
        return force

    def _swing(self) -> Array:
        """Angle of the arm in rad, forward positive: one swing a stride, with the opposite leg."""
        return self.place.swing_rad * np.minimum(self.size, 1.3) * np.cos(np.pi * (self.phase - 0.1))

    def _arm(self, swing: Array) -> Array:
        """Forward and upward acceleration in m/s² of the end of a stiff arm, relative to its shoulder."""
        position_m = self.place.arm_m * np.column_stack([np.sin(swing), -np.cos(swing)])
        smooth = _low_pass(position_m, self.rate_hz, 6.0) if self.place.arm_m else position_m
        return np.gradient(np.gradient(smooth, self.time_s, axis=0), self.time_s, axis=0)

    def _attitude(self) -> tuple[Array, Array, Array]:
        """Pitch, roll and yaw of the sensor's carrier in rad: in step with the gait, and wandering."""
        sway = self.place.sway_rad
        gait = [
            self._waves((0.6 * sway, 1.0, 0.3), (0.3 * sway, 2.0, 0.1)),
            self._waves((0.7 * sway, 0.5, 0.1), (0.3 * sway, 1.5, 0.4)),
            self._waves((1.2 * sway, 0.5, 0.6)),
        ]
        pitch, roll, yaw = (g + self.place.wander_rad * _band_noise(self.rng, self.time_s, 0.02, 0.2) for g in gait)
        return pitch, roll, yaw

    def _restlessness(self) -> Array:
        """Acceleration of somebody who stands: postural sway below 1 Hz, and the tremor of a hand."""
        sway = np.column_stack([_band_noise(self.rng, self.time_s, 0.1, 1.0) for _ in range(3)])
        tremor = np.column_stack([_band_noise(self.rng, self.time_s, 7.0, 12.0) for _ in range(3)])
        return sway * [0.05, 0.04, 0.01] + self.place.tremor * tremor


def _sensor(force: Array, rate: Array, sampling_rate_hz: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Mount a sensor of MPU-6050 grade any way up, with its typical errors: a third of the data sheet's limits [5]."""
    mounting = _random_rotation(rng)
    bandwidth_hz = sampling_rate_hz / 2
    bias = rng.normal(0.0, [0.05 / 3, 0.05 / 3, 0.08 / 3]) * GRAVITY  # ±50, ±50, ±80 mg
    acc = (force @ mounting.T) * rng.normal(1.0, 0.01, 3) + bias  # ±3 %
    acc += rng.normal(0.0, 400e-6 * GRAVITY * np.sqrt(bandwidth_hz), acc.shape)  # 400 µg/√Hz
    gyr = (rate @ mounting.T) * rng.normal(1.0, 0.01, 3) + np.radians(rng.normal(0.0, 20 / 3, 3))  # ±3 %, ±20 °/s
    gyr += rng.normal(0.0, np.radians(0.005) * np.sqrt(bandwidth_hz), gyr.shape)  # 0.005 °/s/√Hz
    full_scale = np.repeat([8 * GRAVITY, np.radians(1000.0)], 3)
    return np.clip(np.column_stack([acc, gyr]), -full_scale, full_scale).astype(np.float32)


def _smooth_count(time_s: Array, knots_s: Array) -> Array:
    """Knot number as a function of time: exact at the knots, monotone, with a continuous rate (Fritsch-Butland)."""
    gaps_s = np.diff(knots_s)
    rate = np.concatenate([[1 / gaps_s[0]], 2 / (gaps_s[:-1] + gaps_s[1:]), [1 / gaps_s[-1]]])
    i = np.clip(np.searchsorted(knots_s, time_s, side="right") - 1, 0, len(gaps_s) - 1)
    u, gap_s = (time_s - knots_s[i]) / gaps_s[i], gaps_s[i]
    bend = u * (1 - u) * ((rate[i] * gap_s - 1) * (1 - u) - (rate[i + 1] * gap_s - 1) * u)
    return np.asarray(i + u + bend)


def _ease(position: Array, values: Array) -> Array:
    """Interpolate between values[0], values[1], …, coming to rest at each of them."""
    i = np.clip(position.astype(int), 0, len(values) - 2)
    u = position - i
    return np.asarray(values[i] + (values[i + 1] - values[i]) * u**2 * (3 - 2 * u))


def _band_noise(rng: np.random.Generator, time_s: Array, low_hz: float, high_hz: float) -> Array:
    """Draw Gaussian noise of unit variance, most of it between two frequencies."""
    period_s = time_s[1] - time_s[0]
    spectrum = np.fft.rfft(rng.normal(size=len(time_s)))
    frequency_hz = np.fft.rfftfreq(len(time_s), period_s)
    frequency_hz[0] = np.inf  # no constant
    spectrum /= (1 + (low_hz / frequency_hz) ** 3) * (1 + (frequency_hz / high_hz) ** 3)
    noise = np.fft.irfft(spectrum, len(time_s))
    return np.asarray(noise / max(float(noise.std()), 1e-12))


def _low_pass(values: Array, rate_hz: float, cutoff_hz: float) -> Array:
    """Average over about one period of the cutoff with a moving Hann window; no delay."""
    width = 2 * max(1, round(rate_hz / cutoff_hz / 2)) + 1
    kernel = np.hanning(width + 2)[1:-1]
    padded = np.pad(values, ((width // 2, width // 2), (0, 0)), mode="edge")
    columns = [np.convolve(column, kernel / kernel.sum(), "valid") for column in padded.T]
    return np.column_stack(columns)


def _rotation_x(angle: Array) -> Array:
    return _rotation(angle, 1, 2)


def _rotation_y(angle: Array) -> Array:
    return _rotation(angle, 2, 0)


def _rotation_z(angle: Array) -> Array:
    return _rotation(angle, 0, 1)


def _rotation(angle: Array, i: int, j: int) -> Array:
    """[N, 3, 3] matrices that turn axis i towards axis j."""
    matrix = np.tile(np.eye(3), (len(angle), 1, 1))
    matrix[:, i, i] = matrix[:, j, j] = np.cos(angle)
    matrix[:, j, i], matrix[:, i, j] = np.sin(angle), -np.sin(angle)
    return matrix


def _angular_velocity(rotation: Array, rate_hz: float) -> Array:
    """Angular velocity in body axes [N, 3] rad/s of body-to-world matrices: the vector of Rᵀ dR/dt."""
    change = np.einsum("nki,nkj->nij", rotation, np.gradient(rotation, 1.0 / rate_hz, axis=0))
    return np.column_stack([change[:, 2, 1], change[:, 0, 2], change[:, 1, 0]])


def _random_rotation(rng: np.random.Generator) -> Array:
    """Draw a rotation uniformly: the Q of a Gaussian matrix, made right-handed."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return np.asarray(q * np.linalg.det(q))
