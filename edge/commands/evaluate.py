"""`footfall evaluate`: the int8 file through the streaming path, scored on labelled recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.commands.readable import ReadableRecordings
from edge.commands.replay import Replay, event_json, open_classifier
from edge.errors import UsageError
from edge.evaluate import render_json, render_table, scored_recording, summary
from edge.manifest import embedded_manifest
from edge.progress import Progress
from edge.recording import find_recordings, load
from edge.rotation import rotated
from edge.scoring import SCORED

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator
    from pathlib import Path

    from edge.classifier import StepClassifier
    from edge.recording import Recording
    from edge.scoring import ScoredRecording


def command(arguments: Namespace) -> int:
    """Print the table or the JSON, write the report if asked; returns 0, or 2 if a recording could not be read."""
    if arguments.rotate is not None and arguments.rotate < 0:
        raise UsageError(f"--rotate is {arguments.rotate}; allowed: a seed of 0 or more")
    if arguments.report is not None:
        # The device needs neither; and what is missing is said before minutes of work, not after.
        from edge.commands import evaluation_report  # noqa: PLC0415

        evaluation_report.prepare(arguments.report)
    classifier = open_classifier(arguments)
    recordings = ReadableRecordings(find_recordings(arguments.recordings))
    scored = dict(_scored(recordings, classifier, arguments.rotate))
    problems = {str(path): problem for path, problem in recordings.problems.items()}
    report = summary(scored.values(), problems, _learned_from(classifier.path))
    status = recordings.report("evaluate")
    if not report["datasets"]:
        raise UsageError(
            f"none of the recordings ({sum(report['not_scored'].values())}) has annotated steps: for a .csv write "
            "their times into NAME.steps.csv beside it, under the header time_s (nothing below it: nobody walks); "
            f"an .npz needs 'steps', and 'steps_known' as one of {', '.join(SCORED)}"
        )
    print(render_json(report) if arguments.json else render_table(report), flush=True)
    if arguments.report is not None:
        found = evaluation_report.Evaluation(report, scored, classifier, arguments.rotate)
        evaluation_report.write(arguments.report, found)
    return status


def _learned_from(model: Path) -> list[str]:
    """Return the names of the data that the model's manifest says it has learned from."""
    entries = embedded_manifest(model.read_bytes()).get("trained_on")
    named = [each.get("dataset") for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []
    return [name for name in named if isinstance(name, str)]


def read(path: Path, rotate: int | None) -> Recording:
    """Return a recording, turned at random if there is a seed to do it with."""
    return _turned(load(path), rotate)


def _turned(recording: Recording, rotate: int | None) -> Recording:
    return recording if rotate is None else rotated(recording, rotate)


def _scored(
    recordings: ReadableRecordings, classifier: StepClassifier, rotate: int | None
) -> Iterator[tuple[Path, ScoredRecording]]:
    with Progress("evaluating", len(recordings.paths)) as progress:
        for path, read_ in recordings:
            recording = _turned(read_, rotate)
            replay = Replay(path, recording, classifier, progress=False)
            events = list(replay.events() if recording.steps_known in SCORED else ())
            # The very figures that `footfall replay --json` prints, so that both score alike to the last digit.
            found = [event_json(path, 0, event) for event in events]
            yield (
                path,
                scored_recording(
                    recording,
                    [each["time_s"] for each in found],
                    [each["emitted_s"] for each in found],
                    [event.backfilled for event in events],
                ),
            )
            progress.advance(1)
