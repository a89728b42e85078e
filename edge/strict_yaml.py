"""YAML without its traps: every fault has its line, a name written twice is one, and so is what config needs not.

Anchors, aliases, merge keys and tags are refused: ten lines of them can stand for more values than memory holds.
"""

from __future__ import annotations

from typing import Any

import yaml

from edge.rules import Problem, shown


class Refused:
    """A value that was not read."""

    def __repr__(self) -> str:
        """Return what a message shows of it, as a part of a list for instance."""
        return "(refused)"


REFUSED = Refused()
"""Stands in the tree where a value was refused; what is wrong with it has been said."""
_FAULT_CHARACTERS = 200
_NO_ANCHORS = "anchors and aliases are not read"
_REFUSED_TAG = "!refused"


def parse(text: str) -> tuple[object, list[Problem]]:
    """Return the tree (None where the text is no YAML) and what is wrong with the text; never raises.

    Where a value cannot be read, REFUSED stands in the tree.
    """
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        return loader.get_single_data(), loader.faults
    except yaml.MarkedYAMLError as error:
        return None, [*(loader.faults if loader is not None else ()), _problem(error)]
    except RecursionError:
        return None, [Problem("file", "nested too deeply", "", "no setting needs more than three levels")]
    except yaml.YAMLError as error:
        return None, [Problem("file", f"no valid YAML: {_line(str(error))}", "", "delete it")]
    finally:
        if loader is not None:
            loader.dispose()


def _problem(error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    sentence = str(error.problem or error.context)
    if sentence.startswith("but ") and error.context:
        sentence = f"{error.context}, {sentence}"
    remedy = "indent with spaces, not with tabs" if r"'\t'" in sentence else "correct it there or in the line above"
    return Problem(_place(mark), f"no valid YAML: {_line(sentence)}", "", remedy)


def _place(mark: yaml.Mark | None) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else "file"


def _line(text: str) -> str:
    line = text.splitlines()[0] if text else ""
    return line if len(line) <= _FAULT_CHARACTERS else f"{line[: _FAULT_CHARACTERS - 3]}..."


class _Loader(yaml.SafeLoader):
    """Refuses what config needs not and goes on, so that every fault is told at once.

    Also remembers names written twice, of which PyYAML silently keeps the last.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.faults: list[Problem] = []

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        start: Any = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            self.get_event()  # type: ignore[no-untyped-call]
            self._refuse(f"*{_line(str(event.anchor))}: {_NO_ANCHORS}", "write the value out", start)
            return yaml.ScalarNode(_REFUSED_TAG, "", start, start)
        if event.anchor is not None:
            self._refuse(f"&{_line(event.anchor)}: {_NO_ANCHORS}", "write the value out", start)
            event.anchor = None
        if event.tag is not None:
            tag = _line(event.tag).replace("tag:yaml.org,2002:", "!!")
            self._refuse(f"the tag {tag} is not read", "write the value without it", event.start_mark)
            event.tag, event.implicit = None, (True, False) if isinstance(event, yaml.ScalarEvent) else True
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag == _REFUSED_TAG:
            return REFUSED
        try:
            return super().construct_object(node, deep)
        except (ValueError, ArithmeticError, LookupError, AttributeError):  # 2026-99-99, 5000 digits, 0x_
            self._refuse(f"{shown(node.value)} is no value", "in quotes if it is text", node.start_mark)
            return REFUSED

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        kept = []
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode):
                self._refuse("a list or a section as a name", "write the name as text", name.start_mark)
                continue
            if name.tag == "tag:yaml.org,2002:merge":
                self._refuse("<<: merge keys are not read", "write the keys out", name.start_mark)
                continue
            line = name.start_mark.line + 1
            if name.value in seen:
                allowed = f"each name once (first on line {seen[name.value]})"
                self.faults.append(Problem(f"line {line}", f"{shown(name.value)} a second time", allowed))
            seen.setdefault(name.value, line)
            kept.append((name, value))
        node.value = kept
        return super().construct_mapping(node, deep)

    def _refuse(self, sentence: str, remedy: str, mark: yaml.Mark | None) -> None:
        """Remember valid YAML that a config file may not hold."""
        self.faults.append(Problem(_place(mark), _line(sentence), "", remedy))
