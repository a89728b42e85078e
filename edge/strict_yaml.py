"""YAML as PyYAML reads it, but every fault has its line, and a name written twice is one."""

from __future__ import annotations

from typing import Any

import yaml

from edge.rules import Problem


def parse(text: str) -> tuple[object, list[Problem]]:
    """Return the tree (None where the text is no YAML) and what is wrong with the text; never raises."""
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        return loader.get_single_data(), loader.repeated
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "file"
        return None, [Problem(where, str(error.problem or error.context), "valid YAML")]
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2026-99-99 is YAML for a date
        return None, [Problem("file", str(error).splitlines()[0], "valid YAML")]
    finally:
        if loader is not None:
            loader.dispose()


class _Loader(yaml.SafeLoader):
    """Remembers names written twice, of which PyYAML silently keeps the last."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: list[Problem] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for name, _ in node.value:
            if not isinstance(name, yaml.ScalarNode):
                continue
            line = name.start_mark.line + 1
            if name.value in seen:
                allowed = f"each name once (first on line {seen[name.value]})"
                self.repeated.append(Problem(f"line {line}", f"{name.value!r} a second time", allowed))
            seen.setdefault(name.value, line)
        return super().construct_mapping(node, deep)
