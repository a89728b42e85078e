"""A file over which the runtime aborts is one line, and this program lives."""

from __future__ import annotations

from typing import Any

import pytest

from converter.errors import ConversionError
from converter.prepare import check_prepares
from tests.converter.proving import changed


def test_the_shipped_file_is_fine(shipped_flatbuffer: bytes) -> None:
    check_prepares(shipped_flatbuffer, "int8")


def test_scales_out_of_all_proportion_are_told(shipped_flatbuffer: bytes) -> None:
    def stretch(model: Any) -> None:
        graph = model.subgraphs[0]
        convolution = next(each for each in graph.operators if len(each.inputs) == 3)
        graph.tensors[convolution.inputs[0]].quantization.scale = [1e28]

    with pytest.raises(ConversionError, match=r"cannot prepare the int8 file \(.+\); its scales are too far") as raised:
        check_prepares(changed(shipped_flatbuffer, stretch), "int8")
    assert "\n" not in str(raised.value)
