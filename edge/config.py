"""config.yaml and FOOTFALL__ variables: read, checked against edge.settings, and printed (`python -m edge.config`).

The validator knows no key by name. Relative paths in the file are taken from the file's directory, relative paths in
the environment from the current one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import yaml

from edge import strict_yaml
from edge.config_names import misspelt_variable, names_below, unknown
from edge.errors import ConfigError
from edge.machine import unreadable
from edge.rules import Address, Choice, FilePath, Optional, Problem, Rule, shown
from edge.settings import Config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ENV_PREFIX = "FOOTFALL__"
_PACKAGE_ROOT = Path(__file__).resolve().parent.parent
_MAX_FILE_CHARACTERS = 1_000_000
_MAX_PROBLEMS_IN_A_LINE = 20


@dataclass(frozen=True, slots=True)
class _Given:
    """A value somebody wrote, where they wrote it and what its relative paths refer to."""

    value: object
    where: str
    directory: Path


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Read the file (None: defaults only) and the environment on top; ConfigError names every problem."""
    config, problems = _read(path, environ)
    if config is None:
        name = str(path) if path else "the environment"
        count = f"{len(problems)} errors: " if len(problems) > 1 else ""
        more = len(problems) - _MAX_PROBLEMS_IN_A_LINE
        told = [*map(str, problems[:_MAX_PROBLEMS_IN_A_LINE]), *([f"and {more} more"] if more > 0 else [])]
        raise ConfigError(f"{name}: {count}{'; '.join(told)}")
    return config


def check(path: Path, environ: Mapping[str, str]) -> list[Problem]:
    """Every problem at once; empty when the file is fine."""
    return _read(path, environ)[1]


def render() -> str:
    """Write the shipped config.yaml: every key with its default and one comment."""
    lines = [
        "# Footfall's settings, each with its default. Delete what you do not change: an empty file is valid.",
        "# `footfall check-config FILE` finds mistakes. Environment variables win: FOOTFALL__MQTT__HOST=broker.lan",
    ]
    section: tuple[str, ...] = ()
    for path, one in _keys().items():
        *parents, name = path.split(".")
        for depth in range(len(parents)):
            if section[: depth + 1] != tuple(parents[: depth + 1]):
                lines += [""] * (depth == 0) + [f"{'  ' * depth}{parents[depth]}:"]
        section = tuple(parents)
        text = yaml.safe_dump(one.metadata["default"], default_flow_style=True, width=1000).split("\n...")[0].strip()
        # YAML would read {device_id} as a mapping only at the start of a value; safe_dump quotes where it must.
        lines.append(f"{'  ' * len(parents) + f'{name}: {text}':<44}  # {one.metadata['doc']}")
    return "\n".join(lines) + "\n"


def _read(path: Path | None, environ: Mapping[str, str]) -> tuple[Config | None, list[Problem]]:
    problems: list[Problem] = []
    given = dict(_from_file(path, problems)) if path is not None else {}
    given.update(_from_environment(environ, problems))
    values = {name: _value(_keys()[name].metadata["rule"], one, problems) for name, one in given.items()}
    problems += _contradictions(values)
    wrong = {problem.path for problem in problems}
    given = {name: one for name, one in given.items() if one.where not in wrong}
    config = _resolve(_build(Config, "", {name: values[name] for name in given}, environ), path, given)
    problems += _missing_files(config, given)
    return (None if problems else config), problems


def _contradictions(values: Mapping[str, object]) -> Iterator[Problem]:
    if values.get("sensor.type") == "replay" and values.get("sensor.recording") is None:
        yield Problem("sensor.recording", "null", "a path, because sensor.type is replay")
    if values.get("mqtt.password_file") is not None and values.get("mqtt.username") is None:
        yield Problem("mqtt.username", "null", "text, because mqtt.password_file is set")
    if values.get("mqtt.tls.cert_file") is not None and values.get("mqtt.tls.ca_file") is None:
        yield Problem("mqtt.tls.ca_file", "null", "a path, because mqtt.tls.cert_file is set")
    if values.get("mqtt.tls.key_file") is not None and values.get("mqtt.tls.cert_file") is None:
        yield Problem("mqtt.tls.cert_file", "null", "a path, because mqtt.tls.key_file is set")


def _missing_files(config: Config, given: Mapping[str, _Given]) -> Iterator[Problem]:
    """Yield the files that somebody named and nobody can read; a daemon would look as if the broker were gone."""
    for name, one in given.items():
        rule = _inner(_keys()[name].metadata["rule"])
        if name == "outbox.path" and os.path.isdir(config.outbox.path):  # noqa: PTH112  Path's may raise
            yield Problem(one.where, f"{shown(str(config.outbox.path), 300)} (a directory)", "the path of a file in it")
        if not isinstance(rule, FilePath) or not rule.must_exist:
            continue
        if name == "sensor.recording" and config.sensor.type != "replay":
            continue
        path: object = config
        for part in name.split("."):
            path = getattr(path, part)
        if isinstance(path, Path) and (reason := unreadable(path)):
            yield Problem(one.where, f"{shown(str(path), 300)} ({reason})", "a file that can be read")


def _inner(rule: Rule) -> Rule:
    return rule.rule if isinstance(rule, Optional) else rule


def _value(rule: Rule, given: _Given, problems: list[Problem]) -> object:
    try:
        value = rule(given.value)
    except ValueError as error:
        import difflib  # noqa: PLC0415  a config without faults has no use for it

        inner = _inner(rule)
        words = inner.words if isinstance(inner, Choice) else ()
        found = inner.shown(given.value) if isinstance(inner, Address) else shown(given.value)
        nearest = difflib.get_close_matches(found.strip("'").lower(), words, n=1)
        hint = str(error) or (f"did you mean {nearest[0]}?" if nearest else "")
        problems.append(Problem(given.where, found, rule.allowed, hint))
        return given.value
    return given.directory / value if isinstance(value, Path) else value


Section = TypeVar("Section")


def _build(section: type[Section], prefix: str, values: Mapping[str, object], environ: Mapping[str, str]) -> Section:
    """Fill the section's fields, and those of the sections in it, with what was given."""
    hints = get_type_hints(section)
    chosen: dict[str, object] = {}
    for one in fields(section):  # type: ignore[arg-type]  # every section is a dataclass
        path = prefix + one.name
        if is_dataclass(hints[one.name]):
            chosen[one.name] = _build(hints[one.name], f"{path}.", values, environ)
        elif one.metadata["derived"] and values.get(path) is None:
            chosen[one.name] = one.metadata["derived"](environ)
        elif path in values:
            chosen[one.name] = values[path]
    return section(**chosen)


def _resolve(config: Config, path: Path | None, given: Mapping[str, _Given]) -> Config:
    """Fill in what depends on other values or on the place: the topic's device id, the model's directory."""
    topic = config.mqtt.base_topic.replace("{device_id}", config.device.id)
    model = config.model.path
    if "model.path" not in given and path is not None:
        model = path.absolute().parent / model
    shipped = _PACKAGE_ROOT / str(_keys()["model.path"].metadata["default"])
    if not model.is_absolute() or (unreadable(model) and model.parts[-2:] == shipped.parts[-2:]):
        model = shipped
    return replace(config, mqtt=replace(config.mqtt, base_topic=topic), model=replace(config.model, path=model))


def _from_file(path: Path, problems: list[Problem]) -> Iterator[tuple[str, _Given]]:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MAX_FILE_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds bytes that are not UTF-8"
        problems.append(Problem("", f"cannot be read: {reason}", "", "give the path of a YAML file"))
        return
    if len(text) > _MAX_FILE_CHARACTERS:
        problems.append(Problem("", "cannot be read: too large for a config file", "", "give the path of a YAML file"))
        return
    tree, faults = strict_yaml.parse(text)
    problems += faults
    yield from _leaves(tree, "", path.absolute().parent, problems)


def _leaves(tree: object, prefix: str, directory: Path, problems: list[Problem]) -> Iterator[tuple[str, _Given]]:
    """Walk the sections of a YAML tree down to the keys; an empty section is one where nothing is changed."""
    if tree is None or tree is strict_yaml.REFUSED:
        return
    if not isinstance(tree, dict):
        problems.append(
            Problem(prefix.rstrip(".") or "file", shown(tree), "a section: " + ", ".join(names_below(prefix, _keys())))
        )
        return
    for name, value in tree.items():
        path = prefix + (name if isinstance(name, str) else shown(name))
        if "." in str(name) and path in _keys():
            below = f"{path.rpartition('.')[0].replace('.', ': ')}:"
            problems.append(Problem(path, "a name with a dot", "", f"write {path.rpartition('.')[2]} below {below}"))
        elif path in _keys():
            if value is not strict_yaml.REFUSED:
                yield path, _Given(value, path, directory)
        elif names_below(f"{path}.", _keys()):
            yield from _leaves(value, f"{path}.", directory, problems)
        else:
            problems.append(unknown(path, str(name), prefix, _keys()))


def _from_environment(environ: Mapping[str, str], problems: list[Problem]) -> Iterator[tuple[str, _Given]]:
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENV_PREFIX):
            problems += misspelt_variable(variable, ENV_PREFIX, _keys())
            continue
        path = variable.removeprefix(ENV_PREFIX).lower().replace("__", ".")
        if below := names_below(f"{path}.", _keys()):
            names = ", ".join(f"{variable}__{one}".upper() for one in below)
            problems.append(Problem(variable, "a section", "", f"set its keys: {names}"))
            continue
        if path not in _keys():
            problems.append(unknown(variable, path, "", _keys()))
            continue
        rule = _keys()[path].metadata["rule"]
        # Text rules take the variable as it is (empty: null), the others read it as YAML; null is null in both.
        is_null = not text or (text == "null" and isinstance(rule, Optional))
        value, faults = (None if is_null else text, []) if rule.is_text else strict_yaml.parse(text)
        if faults:
            problems.append(Problem(variable, shown(text), rule.allowed))
        else:
            yield path, _Given(value, variable, Path.cwd())


@cache
def _keys() -> dict[str, Any]:
    """Every key's dataclass field by its path, in the order of the shipped file."""

    def walk(section: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        hints = get_type_hints(section)
        for one in fields(section):
            if is_dataclass(hints[one.name]):
                yield from walk(hints[one.name], f"{prefix}{one.name}.")
            else:
                yield prefix + one.name, one

    return dict(walk(Config, ""))


if __name__ == "__main__":
    print(render(), end="")
