"""The pictures of a conversion's report, drawn from its facts, as PNG bytes without a date in them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.verify import ERROR_BINS

if TYPE_CHECKING:
    from edge.types import FloatArray, TimeArray

FLOAT_COLOUR, INT8_COLOUR, GREY, RED = "#1f77b4", "#ff7f0e", "#8c8c8c", "#c23b22"
DPI = 110
NO_WALK = "answers to calibration windows, one after the other: no labelled walk was given"


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """A stretch of a recording: answers of both models at time_s [n], and the labelled steps within it.

    title: the recording's name; empty if these are calibration windows one after the other, which are no walk.
    """

    title: str
    time_s: TimeArray
    converted: FloatArray
    floats: FloatArray
    steps_s: TimeArray
    threshold: float


def draw(facts: dict[str, Any], walk: Walk | None) -> dict[str, bytes]:
    """Return every picture that the facts allow, by name."""
    import matplotlib as mpl  # noqa: PLC0415 - half a second, and only the converter's environment has it

    mpl.use("Agg")
    found = facts["deterministic"]
    pictures: dict[str, bytes] = {}
    if walk is not None:
        pictures["walk"] = _png(_walk, walk)
    pictures["errors"] = _png(_errors, found["variants"])
    if found["layers"]:
        pictures["layers"] = _png(_layers, found["layers"])
    pictures["size"] = _png(_size, found["variants"], found["model"]["parameters"])
    if any(each["loads"] for rows in facts["measured"]["runtimes"].values() for each in rows):
        pictures["speed"] = _png(_speed, facts["measured"]["runtimes"])
    return pictures


def _png(painter: Any, *subject: Any) -> bytes:
    from matplotlib.figure import Figure  # noqa: PLC0415 - see draw

    figure = Figure(dpi=DPI, layout="constrained")
    painter(figure, *subject)
    buffer = io.BytesIO()
    # Neither date nor version: the same facts give the same bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _walk(figure: Any, walk: Walk) -> None:
    figure.set_size_inches(9, 4)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot(walk.time_s, walk.floats, color=FLOAT_COLOUR, label="Keras, float32", linewidth=2.5, alpha=0.6)
    above.plot(walk.time_s, walk.converted, color=INT8_COLOUR, label="converted", linewidth=1)
    above.axhline(walk.threshold, color=GREY, linestyle="--", linewidth=0.8, label=f"threshold {walk.threshold:g}")
    if len(walk.steps_s):
        above.plot(walk.steps_s, np.full(len(walk.steps_s), 1.04), "v", color="black", markersize=4, label="true steps")
    above.set(ylabel="probability", ylim=(-0.03, 1.1), title=walk.title or NO_WALK)
    above.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=4, frameon=False, fontsize="small")
    below.fill_between(walk.time_s, walk.converted - walk.floats, color=RED, linewidth=0)
    below.set(ylabel="difference", xlabel="s" if walk.title else "answer")


def _errors(figure: Any, variants: dict[str, Any]) -> None:
    figure.set_size_inches(7, 1.2 + 1.6 * len(variants))
    axes = figure.subplots(len(variants), 1, sharex=True, squeeze=False)[:, 0]
    middle = (ERROR_BINS[1:] + ERROR_BINS[:-1]) / 2
    for axis, (name, facts) in zip(axes, variants.items(), strict=True):
        found = facts["against_keras"]
        axis.bar(middle, np.array(found["histogram"]) / found["frames"], width=0.009, color=INT8_COLOUR)
        axis.set(yscale="log", ylabel="share of answers", ylim=(0.5 / found["frames"], 2))
        axis.set_title(f"{name}: mean {found['mean']:.4f}, largest {found['largest']:.3f}", fontsize="medium")
    axes[-1].set_xlabel("converted minus Keras, step head (the outermost bars hold all beyond)")


def _layers(figure: Any, layers: list[dict[str, Any]]) -> None:
    """Draw what occurs as a share of what can be expressed: layers of ranges 1 and 1e7 have equal right to be seen."""
    figure.set_size_inches(9, 1.2 + 0.27 * len(layers))
    axis = figure.subplots()
    place = np.arange(len(layers))[::-1]
    low, high, seen_low, seen_high = (
        np.array([layer[key] for layer in layers]) for key in ("low", "high", "seen_low", "seen_high")
    )
    span = high - low
    axis.barh(place, 100, height=0.75, color="#dddddd", label="can be expressed")
    axis.barh(place, 100 * (seen_high - seen_low) / span, left=100 * (seen_low - low) / span, height=0.4,
              color=FLOAT_COLOUR, label="occurs")  # fmt: skip
    axis.plot(np.clip(-100 * low / span, 0, 100), place, "|", color="black", markersize=9, label="zero")
    for where, layer in zip(place, layers, strict=True):
        text = f"  {layer['low']:.3g} to {layer['high']:.3g}"
        if layer["saturated"] > 0:
            text += f", {_percent(layer['saturated'])} % at the limit"
        axis.annotate(text, (100, where), va="center", fontsize=7, color=RED if layer["saturated"] > 0 else "black")
    axis.set_yticks(place, [f"{layer['name']} ({layer['operator'].lower()})" for layer in layers], fontsize=8)
    axis.set_xlim(0, 138)
    axis.set_xticks(range(0, 101, 25), [f"{share} %" for share in range(0, 101, 25)])
    axis.set_xlabel("of what the layer's own scale can express, which stands at the right")
    figure.legend(loc="outside lower center", ncols=3, fontsize="small", frameon=False)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.1 else f"{100 * share:.2g}"


def _size(figure: Any, variants: dict[str, Any], parameters: int) -> None:
    sizes = {name: facts["size_bytes"] / 1000 for name, facts in variants.items()}
    sizes = {"float32 weights": 4 * parameters / 1000} | sizes
    _bars(figure, list(sizes), list(sizes.values()), "kB", "{:.1f}")


def _speed(figure: Any, runtimes: dict[str, Any]) -> None:
    found = {
        f"{variant}, {each['name']}": each["invoke_us"]
        for variant, rows in runtimes.items()
        for each in rows
        if each["loads"]
    }
    _bars(figure, list(found), list(found.values()), "µs per invoke, one thread (measured on this machine)", "{:.1f}")


def _bars(figure: Any, names: list[str], values: list[float], label: str, form: str) -> None:
    figure.set_size_inches(7, 0.8 + 0.32 * len(names))
    axis = figure.subplots()
    place = np.arange(len(names))[::-1]
    bars = axis.barh(place, values, height=0.65, color=[INT8_COLOUR if "int8" in name else GREY for name in names])
    axis.bar_label(bars, [" " + form.format(value) for value in values], fontsize=8)
    axis.set_yticks(place, names, fontsize=8)
    axis.set_xlim(0, 1.15 * max(values))
    axis.set_xlabel(label)
