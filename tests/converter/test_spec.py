"""A spec is read back as it was written; what is wrong in one is named with what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from converter.spec import Spec, load_spec, save_spec
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
        ("sampling_rate_hz", "fast", "could not convert"),
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
    with pytest.raises(UsageError, match="is not YAML"):
        load_spec(tmp_path / "x.yaml")
