"""The model file: manifest, tensors, self-test, exactly as the daemon judges them at its start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.doctor.finding import Finding, fail, ok
from edge.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.doctor.finding import Context

AREA = "model"
LIMIT_S = 60.0


def check(context: Context) -> Iterator[Finding]:
    """Load the configured model and run its self-test."""
    from edge.classifier import StepClassifier  # noqa: PLC0415  numpy and a runtime: not for a broken installation

    settings = context.config.model
    try:
        classifier = StepClassifier(settings.path, int8_only=settings.int8_only)
    except ModelError as error:
        yield fail(AREA, str(error), "copy the .tflite again, or set model.path to another; `make convert` makes one")
        return
    manifest = classifier.manifest
    yield ok(
        AREA,
        f"{manifest.name} {manifest.version} ({settings.path}, sha256 {classifier.sha256[:12]}): "
        "the manifest fits, the self-test gives the expected bytes",
    )
