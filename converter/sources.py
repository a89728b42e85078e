"""The file a model comes in, looked at before TensorFlow is started: `.keras`, `.h5` or a SavedModel folder."""

from __future__ import annotations

import hashlib
import importlib
import json
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

from edge.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

KERAS, HDF5, SAVED_MODEL = "keras", "h5", "saved_model"
ALLOWED = "a .keras or .h5 file or a SavedModel folder"
MAX_MODEL_BYTES = 16 * 1024 * 1024
"""The device reads no larger .tflite; int8 weights take a quarter of these bytes, so no sensible model is near it."""
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ZIP_FAULTS = (zipfile.BadZipFile, EOFError, OSError, zlib.error, NotImplementedError, RuntimeError, ValueError)
"""What zipfile raises over a damaged or encrypted archive."""
AGAIN = "save it again with model.save()"


def kind(path: Path) -> str:
    """Return KERAS, HDF5 or SAVED_MODEL; raises ModelError when it is none of them, damaged or too large."""
    if path.is_dir():
        return _saved_model(path)
    try:
        with path.open("rb") as file:
            head = file.read(8)
        size = path.stat().st_size
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); name {ALLOWED} with --model") from error
    _check_size(path, size)
    if head == HDF5_MAGIC:
        return HDF5
    if head[:2] == b"PK" or path.suffix == ".keras":
        _check_archive(path)
        return KERAS
    if head[4:8] == b"TFL3":
        raise ModelError(f"{path}: is a .tflite file already; convert the Keras model it came from")
    raise ModelError(f"{path}: is not a model; allowed: {ALLOWED}")


def architecture(path: Path, found: str) -> dict[str, Any] | None:
    """Return the Keras config that the file holds; None for a SavedModel, which holds a graph instead."""
    try:
        if found == KERAS:
            with zipfile.ZipFile(path) as archive:
                text: Any = archive.read("config.json")
        elif found == HDF5:
            # Comes with Keras; a .keras file is read without it.
            with importlib.import_module("h5py").File(path, "r") as file:
                text = file.attrs.get("model_config")
        else:
            return None
        config = json.loads(text) if text is not None else None
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); it may be truncated: {AGAIN}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: holds weights but no model; save the whole model with model.save()")
    return config


def sha256(path: Path) -> str:
    """Return the hash of the file, or of all files of a folder with their names, sorted."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for part in sorted(part for part in path.rglob("*") if part.is_file()):
        digest.update(f"{part.relative_to(path).as_posix()}\0".encode())
        digest.update(hashlib.sha256(part.read_bytes()).digest())
    return digest.hexdigest()


def _saved_model(path: Path) -> str:
    if not (path / "saved_model.pb").is_file():
        raise ModelError(f"{path}: is a folder without saved_model.pb; allowed: {ALLOWED}")
    _check_size(path, sum(part.stat().st_size for part in path.rglob("*") if part.is_file()))
    return SAVED_MODEL


def _check_size(path: Path, size: int) -> None:
    if size == 0:
        raise ModelError(f"{path}: is empty (0 bytes); {AGAIN}")
    if size > MAX_MODEL_BYTES:
        raise ModelError(
            f"{path}: has {size / 1e6:.1f} MB; allowed: {MAX_MODEL_BYTES / 1e6:.1f} MB; use fewer filters, or leave "
            "the optimizer out: model.save(path, include_optimizer=False)"
        )


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            missing = {"config.json", "model.weights.h5"} - set(archive.namelist())
    except ZIP_FAULTS as error:
        raise ModelError(f"{path}: is not a .keras file, or is truncated; {AGAIN}") from error
    if damaged or missing:
        what = f"damaged in {damaged}" if damaged else f"without {', '.join(sorted(missing))}"
        raise ModelError(f"{path}: is a .keras file {what}; {AGAIN}")
