"""`footfall evaluate`: the int8 file through the streaming path, scored on labelled recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.commands.replay import Replay, event_json, open_classifier
from edge.errors import UsageError
from edge.evaluate import evaluate, render_json, render_table
from edge.progress import Progress
from edge.recording import find_recordings, load
from edge.scoring import SCORED

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator
    from pathlib import Path

    from edge.classifier import StepClassifier
    from edge.recording import Recording


def command(arguments: Namespace) -> int:
    """Print the table or the JSON; returns 0."""
    classifier = open_classifier(arguments)
    report = evaluate(_predictions(find_recordings(arguments.recordings), classifier))
    if not report["datasets"]:
        raise UsageError(
            f"none of these {sum(report['not_scored'].values())} recordings has annotated steps; "
            f"allowed steps_known: {', '.join(SCORED)}"
        )
    print(render_json(report) if arguments.json else render_table(report))
    return 0


def _predictions(paths: list[Path], classifier: StepClassifier) -> Iterator[tuple[Recording, list[float]]]:
    with Progress("evaluating", len(paths)) as progress:
        for path in paths:
            recording = load(path)
            replay = (
                None if recording.steps_known not in SCORED else Replay(path, recording, classifier, progress=False)
            )
            # The very figures that `footfall replay --json` prints, so that both score alike to the last digit.
            events = () if replay is None else replay.events()
            yield recording, [event_json(path, 0, event)["time_s"] for event in events]
            progress.advance(1)
