"""Names in a config that nobody knows, and what was probably meant; `keys` are all keys' paths, such as mqtt.port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.rules import Problem, shown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


def names_below(prefix: str, keys: Collection[str]) -> list[str]:
    """List the keys and sections right below a prefix such as `mqtt.`; none where there is no such section."""
    below = (path.removeprefix(prefix).split(".")[0] for path in keys if path.startswith(prefix))
    return list(dict.fromkeys(below))


def unknown(where: str, name: str, prefix: str, keys: Collection[str]) -> Problem:
    """Say what an unknown name probably meant; only where nothing is like it, what there is."""
    import difflib  # noqa: PLC0415  a config without faults has no use for it

    candidates = names_below(prefix, keys) if prefix or "." not in name else list(keys)
    nearest = difflib.get_close_matches(name[:100], candidates, n=1, cutoff=0.5)
    meant = [prefix + one for one in nearest]
    meant += [path for path in keys if path.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]]
    where = shown(where).strip("'")
    if meant:
        return Problem(where, "an unknown name", "", f"did you mean {meant[0]}?")
    return Problem(where, "an unknown name", ", ".join(names_below(prefix, keys)))


def misspelt_variable(variable: str, prefix: str, keys: Collection[str]) -> Iterator[Problem]:
    """Yield a problem for FOOTFALL_MQTT_HOST and footfall__mqtt__host, which would change nothing and say nothing."""
    if variable.upper().startswith(prefix):
        yield Problem(shown(variable).strip("'"), "a name in lower case", "", f"did you mean {variable.upper()[:100]}?")
        return
    single = prefix.removesuffix("_")
    name = variable.removeprefix(single).lower()
    section = name.split("_")[0]
    if not variable.startswith(single) or section not in names_below("", keys):
        return
    import difflib  # noqa: PLC0415

    paths = {path.replace(".", "_"): path for path in keys}
    nearest = difflib.get_close_matches(name, paths, n=1)
    path = paths[nearest[0]] if nearest else f"{section}.key"
    meant = prefix + path.replace(".", "__").upper()
    yield Problem(shown(variable).strip("'"), "a name with single underscores", "", f"did you mean {meant}?")
