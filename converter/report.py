"""The report beside a converted model: `.report.md` with pictures for people, `.report.json` for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from converter.proofs import Proof

CAPTIONS = {
    "walk": "float and converted output",
    "errors": "histogram of converted minus Keras",
    "layers": "range of every layer",
    "size": "size of each variant",
    "speed": "speed in each runtime",
}
STEP_COLUMNS = (
    # heading, key of the row, factor, decimals
    ("F1 ±0.25 s %", "f1_250ms", 100, 2),
    ("F1 ±0.10 s %", "f1_100ms", 100, 2),
    ("precision %", "precision_250ms", 100, 2),
    ("recall %", "recall_250ms", 100, 2),
    ("MAPE %", "count_mape_percent", 1, 2),
    ("false steps/h", "false_steps_per_hour", 1, 1),
    ("frames right %", "frame_accuracy", 100, 3),
)


def rendered(output: Path, proof: Proof, command: str = "") -> dict[str, bytes]:
    """Return, by name, the files of the report: NAME.report-*.png for each picture, NAME.report.json, NAME.report.md.

    command: what makes them again. Raises ValueError for a number that JSON does not know.
    """
    files = {_picture_path(output, name).name: png for name, png in proof.pictures.items()}
    text = json.dumps(proof.facts, indent=2, ensure_ascii=False, allow_nan=False)
    files[output.with_suffix(".report.json").name] = f"{text}\n".encode()
    files[output.with_suffix(".report.md").name] = markdown(output, proof, command).encode()
    return files


def markdown(output: Path, proof: Proof, command: str = "") -> str:
    """Return the report for people; every section ends with the command that its figures come from."""
    facts, measured = proof.facts["deterministic"], proof.facts["measured"]
    command = command or f"make convert MODEL={facts['model']['keras_file']}"
    parts = [
        _head(output, facts, proof, command),
        _integers(output, facts["variants"]),
        _agreement(output, proof, facts, command),
        _steps(output, facts, command),
        _layers(output, proof, facts, command),
        _cost(output, proof, facts),
        _runtimes(output, proof, measured),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _picture_path(output: Path, name: str) -> Path:
    return output.with_name(f"{output.stem}.report-{name}.png")


def _picture(output: Path, proof: Proof, name: str) -> list[str]:
    if name not in proof.pictures:
        return []
    return ["", f"![{CAPTIONS.get(name, name)}]({_picture_path(output, name).name})"]


def _verdict(proof: Proof) -> list[str]:
    lines = ["**Accepted**: every proof below holds."]
    if proof.facts["deterministic"]["steps"] is None:
        lines = ["**Accepted** on its calibration windows; not scored on steps (give EVALUATE=…)."]
    if proof.objections:
        lines = ["**Objections**", "", *(f"- {line}" for line in proof.objections)]
    if proof.warnings:
        lines += ["", "**Warnings**", "", *(f"- {line}" for line in proof.warnings)]
    return lines


def _head(output: Path, facts: dict[str, Any], proof: Proof, command: str) -> str:
    model = facts["model"]
    calibration = {key: value for key, value in model["calibration"].items() if key != "warnings"}
    rows = [
        ("model", f"{model['name']}, from `{model['keras_file']}`"),
        ("file", f"`{output.name}`, SHA-256 `{next(iter(facts['variants'].values()))['sha256']}`"),
        (
            "window",
            (
                f"{model['window_samples']} frames at {model['sampling_rate_hz']:g} Hz, hop {model['hop_samples']}, "
                f"look-ahead {model['lookahead_samples']}"
            ),
        ),
        ("channels", ", ".join(model["channels"])),
        ("output", f"{model['output']}, threshold {model['threshold']:g}"),
        ("parameters", f"{model['parameters']:,}"),
        ("Keras file", f"SHA-256 `{model['keras_sha256']}`"),
        ("calibration", f"SHA-256 `{model['calibration_sha256']}`; {_plain(calibration)}"),
        ("made with", _plain(model["converter_versions"])),
    ]
    lines = [f"# {output.name}", "", *_verdict(proof), "", *_table(("", ""), rows)]
    lines += ["", _from(command)]
    lines += [
        "",
        (
            "Figures depend on the files alone, and come out the same on every machine, except those under *Measured*. "
            f"For programs: `{output.with_suffix('.report.json').name}`."
        ),
    ]
    return "\n".join(lines)


def _integers(output: Path, variants: dict[str, Any]) -> str:
    rows = [
        (
            name,
            facts["label"],
            _floats(facts["float_tensors"]),
            ", ".join(facts["custom_operators"]) or "none",
            ", ".join(f"{count} × {operator}" for operator, count in facts["operators"].items()),
        )
        for name, facts in variants.items()
    ]
    heading = ("variant", "what it is", "float tensors that an operator touches", "custom", "operators")
    lines = ["## Integers", "", *_table(heading, rows)]
    if any(name != "int8" for name in variants):
        lines += ["", "The device accepts int8 only, unless its config says `model.int8_only: false`."]
    return "\n".join([*lines, "", _from(f"footfall-convert inspect {output.name}")])


def _agreement(output: Path, proof: Proof, facts: dict[str, Any], command: str) -> str:
    rows = [
        (
            f"{name}: {each}",
            f"{found['frames']:,}",
            f"{found['mean']:.5f}",
            f"{found['largest']:.4f}",
            f"{100 * found['disagreement']:.2f} %",
        )
        for name, variant in facts["variants"].items()
        for each, found in variant["outputs"].items()
    ]
    heading = ("output", "answers", "mean difference", "largest", "other decisions")
    lines = ["## Against Keras, answer by answer", "", "On the calibration windows.", "", *_table(heading, rows)]
    lines += [*_picture(output, proof, "walk"), *_picture(output, proof, "errors")]
    return "\n".join([*lines, "", _from(command)])


def _steps(output: Path, facts: dict[str, Any], command: str) -> str:
    steps = facts["steps"]
    title = "## At the level of steps"
    if steps is None:
        return f"{title}\n\nNot tested: no labelled recordings were given (EVALUATE=folder)."
    left_out = steps["left_out_because_trained_on"]
    rows = [(name, *(_figure(row, *column[1:]) for column in STEP_COLUMNS)) for name, row in steps["rows"].items()]
    some = next(iter(steps["rows"].values()))
    lines = [
        title,
        "",
        f"{steps['recordings']:,} labelled recordings, {some['true_steps']:,} true steps, "
        f"{some['non_walking_hours']:.2f} h in which nobody walks"
        + (f"; {left_out:,} left out because `make train` learns from them" if left_out else "")
        + ". Every row went through the device's own resampler, windows and detector.",
        "",
        *_table(("", *(column[0] for column in STEP_COLUMNS)), rows),
        "",
        (
            "*Peak counter*: acceleration 1.2 m/s² above its mean of two seconds, at least 0.3 s apart: a floor; the "
            "tuned ones are in docs/baselines.md. *Frames right* is the figure that deceives: never finding a step is "
            f"right in {100 * steps['rows'][_NEVER]['frame_accuracy']:.2f} % of frames. Refused is a file no better "
            f"than that, or that loses more than {100 * steps['allowed_f1_loss']:g} points of F1 against Keras."
        ),
    ]
    datasets = [
        (dataset, f"{found['true_steps']:,}", *_pair(steps["rows"], dataset, "f1_250ms", 100, 2),
         *_pair(steps["rows"], dataset, "false_steps_per_hour", 1, 1))
        for dataset, found in some["datasets"].items()
    ]  # fmt: skip
    heading = ("data set", "true steps", "F1 % Keras", "F1 % int8", "false/h Keras", "false/h int8")
    lines += ["", *_table(heading, datasets)]
    evaluate = f"footfall evaluate RECORDINGS --model {output.name}"
    return "\n".join([*lines, "", _from(command, evaluate)])


_NEED_STEPS = ("f1_250ms", "f1_100ms", "recall_250ms")
_NEVER = "always 'no step'"
_KERAS = "Keras float32"


def _pair(rows: dict[str, Any], dataset: str, key: str, factor: float, decimals: int) -> tuple[str, str]:
    contenders = (_KERAS, next((name for name in rows if name != _KERAS), _KERAS))
    first, second = (_figure(rows[name]["datasets"][dataset], key, factor, decimals) for name in contenders)
    return first, second


def _layers(output: Path, proof: Proof, facts: dict[str, Any], command: str) -> str:
    if not facts["layers"]:
        return ""
    worst = max(facts["layers"], key=lambda layer: float(layer["saturated"]))
    limit = "no value is at the limit of its layer"
    if worst["saturated"]:
        limit = f"most at its limit: {worst['name']}, {100 * worst['saturated']:.2g} % of its values"
    lines = [
        "## Ranges of the layers",
        "",
        f"What each layer's scale can express, and what occurs in calibration windows; {limit}.",
        *_picture(output, proof, "layers"),
    ]
    return "\n".join([*lines, "", _from(command)])


def _cost(output: Path, proof: Proof, facts: dict[str, Any]) -> str:
    rows = [
        (
            name,
            f"{each['size_bytes']:,}",
            _stored(each["stored_numbers"]),
            f"{each['macs']:,}",
            f"{each['live_bytes']:,}",
            _inputs(each["input"]),
        )
        for name, each in facts["variants"].items()
    ]
    heading = (
        "variant",
        "bytes",
        "stored numbers",
        "MACs per invoke",
        "live tensors, bytes",
        "input: range, resolution",
    )
    lines = [
        "## Cost",
        "",
        *_table(heading, rows),
        "",
        "*live tensors*: the most alive at once; the arena is at least that.",
    ]
    lines += _picture(output, proof, "size")
    return "\n".join([*lines, "", _from(f"footfall-convert inspect {output.name}")])


def _runtimes(output: Path, proof: Proof, measured: dict[str, Any]) -> str:
    rows = [_runtime(variant, each) for variant, found in measured["runtimes"].items() for each in found]
    heading = ("variant", "runtime", "loads", "self-test", "other answers than the newest", "µs per invoke", "peak RSS")
    oldest = ", ".join(f"{name}: {found or 'none'}" for name, found in measured["oldest_runtime"].items())
    lines = [
        "## Measured",
        "",
        f"On this machine ({measured['machine']}); each runtime really loaded, in an environment of its own.",
        "",
        f"Oldest runtime it loads in: **{oldest}**.",
        "",
        *_table(heading, rows),
        *_picture(output, proof, "speed"),
        "",
        _from(f"python -m converter.runtime_proof {output.name}"),
    ]
    return "\n".join(lines)


def _runtime(variant: str, row: dict[str, Any]) -> tuple[str, ...]:
    if not row["loads"]:
        state = f"no: {row['problem']}" if row["tested"] else f"not tested: {row['problem']}"
        return (variant, row["name"], state, "", "", "", "")
    passed = "passes" if row["self_test_passes"] else "FAILS"
    if row["self_test_off_lsb"]:
        passed += f", {row['self_test_off_lsb']:g} off"
    return (
        variant,
        row["name"],
        "yes",
        passed,
        f"{row['other_answers']:,} of {row['answers']:,}, at most {row['largest_difference']:g}",
        f"{row['invoke_us']:.1f}",
        f"{row['peak_rss_bytes'] / 1e6:.0f} MB",
    )


def _from(*commands: str) -> str:
    # A mark of code inside a command would end it.
    return "From: " + ", ".join("`{}`".format(command.replace("`", "'")) for command in commands)


def _floats(names: Sequence[str]) -> str:
    if not names:
        return "**none**"
    return f"{len(names)}, such as `{names[0]}`"


def _stored(numbers: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name.lower()}" for name, count in numbers.items())


def _inputs(found: dict[str, Any] | None) -> str:
    if found is None:
        return "float"
    same = {(each["low"], each["high"], each["resolution"]) for each in found.values()}
    kinds = found if len(same) > 1 else {"all": next(iter(found.values()))}
    return "; ".join(
        f"{name} {each['low']:g} to {each['high']:g} in steps of {each['resolution']:g}" for name, each in kinds.items()
    )


def _figure(row: dict[str, Any], key: str, factor: float, decimals: int) -> str:
    value = None if key in _NEED_STEPS and not row["true_steps"] else row.get(key)
    return "–" if value is None else f"{factor * value:.{decimals}f}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{str(key).replace('_', ' ')}: {_plain(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(part) for part in value) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heading, ["---"] * len(heading), *rows]
    return ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines]
