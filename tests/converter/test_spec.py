"""A spec is read back as it was written; what is wrong in one is named with what is allowed."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from converter.spec import Spec, load_spec, read_document, save_spec
from edge.errors import UsageError
from tests.converter.conftest import SHIPPED

if TYPE_CHECKING:
    from pathlib import Path


def test_a_saved_spec_is_read_back_unchanged(tmp_path: Path, shipped_spec: Spec) -> None:
    save_spec(shipped_spec, tmp_path / "x.yaml")
    assert load_spec(tmp_path / "x.yaml") == shipped_spec


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("threshold", 0, "threshold is 0.0; allowed: between 0 and 1"),
        ("hop_samples", 0, "hop_samples is 0; allowed: 1 or more"),
        ("channels", [{"name": "acc_w", "unit": "m/s^2"}], "channels is ['acc_w']; allowed: names among acc_x"),
        ("normalization", {"offset": [0], "scale": [1, 1, 1]}, "normalization.offset is [0.0]; allowed: 3 numbers"),
        ("input_range", [4, -4], "input_range is [4.0, -4.0]; allowed: [low, high]"),
        ("refractory", 0.3, "key 'refractory' is unknown; allowed: any_orientation"),
        ("state", ["past"], "state is ['past']; allowed: a list of pairs"),
        ("window_samples", "long", "window_samples is 'long'; allowed: a whole number"),
        ("sampling_rate_hz", "fast", "sampling_rate_hz is 'fast'; allowed: a number"),
        ("sampling_rate_hz", True, "sampling_rate_hz is True; allowed: a number"),
        ("threshold", float("nan"), "holds a value that is neither text nor finite number"),
        ("refractory_s", float("inf"), "holds a value that is neither text nor finite number"),
        ("hop_samples", 2.7, "hop_samples is 2.7; allowed: a whole number"),
        ("any_orientation", "no", "any_orientation is 'no'; allowed: true or false"),
        ("input_range", [1], "input_range is [1]; allowed: [low, high]"),
        ("normalization", {"offset": 0, "scales": 1}, "normalization is {'offset': 0, 'scales': 1}; allowed: the keys"),
        ("channels", [{"name": "acc_x", "unit": "g"}], "channel acc_x has unit 'g'; allowed: m/s^2; for a model that"),
        ("channels", [{"name": "acc_x", "units": "m/s^2"}], "allowed: the keys name and unit"),
        ("metrics", {"on": date(2026, 5, 9)}, "holds a value that is neither text nor finite number"),
        ("metrics", {"f1": float("nan")}, "holds a value that is neither text nor finite number"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, key: str, value: object, message: str) -> None:
    document: dict[str, Any] = yaml.safe_load(SHIPPED.with_suffix(".yaml").read_text(encoding="utf-8"))
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(document | {key: value}), encoding="utf-8")
    with pytest.raises(UsageError) as raised:
        load_spec(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert message in str(raised.value)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    document = yaml.safe_load(SHIPPED.with_suffix(".yaml").read_text(encoding="utf-8"))
    del document["threshold"]
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(UsageError, match="key 'threshold' is missing"):
        load_spec(tmp_path / "x.yaml")


def test_not_yaml(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(UsageError, match="line 1, column 5: no valid YAML"):
        load_spec(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "threshold: 0.3\nhop_samples: 4\nthreshold: 0.9\n",
            r"line 3: found 'threshold' a second time; allowed: .*line 1",
        ),
        ("normalization:\n  scale: [1]\n  scale: [2]\n", "line 3: found 'scale' a second time"),
        ("channels: &c [acc_x]\nclasses: *c\n", "anchors and aliases are not read"),
        ("name: !!python/name:os.system x\n", "the tag .* is not read"),
    ],
)
def test_what_yaml_would_read_in_silence_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        read_document(tmp_path / "x.yaml")


def test_a_spec_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(UsageError, match="is no text in UTF-8"):
        read_document(tmp_path / "x.yaml")
