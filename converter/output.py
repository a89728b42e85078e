"""Where a conversion writes: tried before TensorFlow starts, then filled with one whole set of files or with none."""

from __future__ import annotations

import fcntl
import glob
import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from converter.variants import variant_path
from edge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


def check_output(output: Path, variants: Sequence[str], *, force: bool) -> None:
    """Raise UsageError if the files cannot be written there, or would replace a NAME.json that is no manifest.

    force: replace it all the same.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent):
            pass
    except OSError as error:
        folder = f"the folder {output.parent} cannot be written to ({error.strerror})"
        raise UsageError(f"--output is {output}, but {folder}; name another one") from error
    for path in (variant_path(output, variant) for variant in variants):
        if path.is_dir():
            raise UsageError(f"--output is {output}, but {path} is a folder; name a file")
        manifest = path.with_suffix(".json")
        if not force and _is_foreign(manifest):
            raise UsageError(
                f"--output is {output}, but {manifest} is there already and no manifest of Footfall; move it away, "
                "name another output, or replace it with --force"
            )


def put(output: Path, files: Mapping[str, bytes], accept: Callable[[Path], None]) -> None:
    """Put files, by name, beside OUTPUT, those whose names come last in place last; older pictures of a report go.

    accept: called with the folder of the finished files before any is moved; whatever it raises, nothing is written.
    Of several conversions into one folder each puts its whole set in place before the next one.
    """
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as scratch:
        for name, content in files.items():
            Path(scratch, name).write_bytes(content)
        accept(Path(scratch))
        with _alone(output.parent):
            for old in output.parent.glob(f"{glob.escape(output.stem)}.report-*.png"):
                if old.name not in files:
                    old.unlink(missing_ok=True)
            for name in files:
                Path(scratch, name).replace(output.with_name(name))


def _is_foreign(path: Path) -> bool:
    if not os.path.lexists(path):
        return False
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return True
    return not (isinstance(found, dict) and "schema_version" in found and found.get("task") == "step_detection")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other conversion moves files into the folder; its own lock, so that no lock file is left behind."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
