"""A few facts of a recording without its samples: of hundreds of files that takes seconds instead of minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def scalars(path: Path, keys: Sequence[str]) -> dict[str, Any] | None:
    """Return the single values of an `.npz` that has some of these keys; None where only edge.recording.load can tell.

    None is for other formats and for every fault: `load` then says in full what is wrong with which file.
    """
    if path.suffix != ".npz":
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {key: archive[key].item() for key in keys if key in archive.files}
    except Exception:  # noqa: BLE001 - numpy reads a header as Python text, and a damaged one raises what it likes
        return None
