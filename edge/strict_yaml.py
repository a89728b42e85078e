"""YAML without its traps: every fault has its line, a name written twice is one, and so is what config needs not.

Anchors, aliases, merge keys and tags are refused: ten lines of them can stand for more values than memory holds.
"""

from __future__ import annotations

from typing import Any

import yaml

from edge.rules import Problem, shown

_FAULT_CHARACTERS = 200


def parse(text: str) -> tuple[object, list[Problem]]:
    """Return the tree (None where the text is no YAML) and what is wrong with the text; never raises."""
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        return loader.get_single_data(), loader.repeated
    except yaml.MarkedYAMLError as error:
        return None, [_problem(error)]
    except RecursionError:
        return None, [Problem("file", "nested too deeply", "", "no setting needs more than three levels")]
    except yaml.YAMLError as error:
        return None, [Problem("file", f"no valid YAML: {_line(str(error))}", "", "delete it")]
    finally:
        if loader is not None:
            loader.dispose()


def _problem(error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "file"
    sentence = str(error.problem or error.context)
    if sentence.startswith("but ") and error.context:
        sentence = f"{error.context}, {sentence}"
    if isinstance(error, _Refused):
        return Problem(where, _line(sentence), "", error.remedy)
    remedy = "indent with spaces, not with tabs" if r"'\t'" in sentence else "correct it there or in the line above"
    return Problem(where, f"no valid YAML: {_line(sentence)}", "", remedy)


def _line(text: str) -> str:
    line = text.splitlines()[0] if text else ""
    return line if len(line) <= _FAULT_CHARACTERS else f"{line[: _FAULT_CHARACTERS - 3]}..."


class _Refused(yaml.MarkedYAMLError):
    """Valid YAML that a config file may not hold."""

    def __init__(self, sentence: str, remedy: str, mark: yaml.Mark | None) -> None:
        super().__init__(None, None, sentence, mark)
        self.remedy = remedy


class _Loader(yaml.SafeLoader):
    """Refuses what config needs not, and remembers names written twice, of which PyYAML silently keeps the last."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: list[Problem] = []

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            mark = "*" if isinstance(event, yaml.AliasEvent) else "&"
            raise _Refused(f"{mark}{_line(event.anchor)}: anchors and aliases are not read", "write the value out",
                           event.start_mark)  # fmt: skip
        if event.tag is not None:
            tag = _line(event.tag).replace("tag:yaml.org,2002:", "!!")
            raise _Refused(f"the tag {tag} is not read", "write the value without it", event.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, ArithmeticError, LookupError, AttributeError) as error:  # 2026-99-99, 5000 digits, 0x_
            raise _Refused(f"{shown(node.value)} is no value", "in quotes if it is text", node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for name, _ in node.value:
            if not isinstance(name, yaml.ScalarNode):
                continue
            if name.tag == "tag:yaml.org,2002:merge":
                raise _Refused("<<: merge keys are not read", "write the keys out", name.start_mark)
            line = name.start_mark.line + 1
            if name.value in seen:
                allowed = f"each name once (first on line {seen[name.value]})"
                self.repeated.append(Problem(f"line {line}", f"{shown(name.value)} a second time", allowed))
            seen.setdefault(name.value, line)
        return super().construct_mapping(node, deep)
