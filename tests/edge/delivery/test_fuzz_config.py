"""No configuration file whatsoever makes a traceback, or more memory than it has bytes to justify."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import config as configuration
from edge.errors import FootfallError

SHIPPED = (Path(__file__).resolve().parents[3] / "config.yaml").read_text(encoding="utf-8")
SECTIONS = sorted(yaml.safe_load(SHIPPED))
KEYS = sorted({key for section in yaml.safe_load(SHIPPED).values() for key in section})
LEAF = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(["1e999", "0x68", "{device_id}", "-.inf", "0o17", "2026-01-01", "~", "\x00"]),
)
VALUE = st.recursive(
    LEAF, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4))
)
TREES = st.dictionaries(
    st.one_of(st.sampled_from(SECTIONS), st.text(max_size=8)),
    st.one_of(VALUE, st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=8)), VALUE, max_size=6)),
    max_size=6,
)


def is_loaded_or_explained(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        configuration.load(path, {})
    except FootfallError as error:
        assert str(path) in str(error) or path.name in str(error)  # noqa: PT017  both outcomes are right


@given(
    content=st.one_of(st.binary(max_size=400), st.text(max_size=400).map(lambda text: text.encode("utf-8", "replace")))
)
@settings(max_examples=40, deadline=None)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    is_loaded_or_explained(tmp_path_factory.getbasetemp() / "bytes.yaml", content)


@given(tree=TREES)
@settings(max_examples=40, deadline=None)
def test_any_tree(tmp_path_factory: pytest.TempPathFactory, tree: dict[str, object]) -> None:
    text = yaml.safe_dump(json.loads(json.dumps(tree)), allow_unicode=True)
    is_loaded_or_explained(tmp_path_factory.getbasetemp() / "tree.yaml", text.encode("utf-8", "replace"))


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_the_shipped_file_with_pieces_changed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(SHIPPED.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=20))
    is_loaded_or_explained(tmp_path_factory.getbasetemp() / "changed.yaml", bytes(content))


BOMBS = {
    "aliases of aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "\n".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]" for i in range(12)),
    "nested lists": "device: " + "[" * 50_000,
    "nested maps": "device: " + "{a: " * 20_000,
    "one long line": "device: {id: " + "a" * 5_000_000 + "}",
    "many keys": "device:\n" + "\n".join(f"  k{i}: 1" for i in range(5_000)),
}


@pytest.mark.parametrize("case", BOMBS)
def test_a_file_made_to_do_harm_is_refused_with_little_memory(case: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text(BOMBS[case], encoding="utf-8")
    program = f"""
import sys
from edge.__main__ import main
status = main(["check-config", {str(path)!r}])
# Not ru_maxrss: a child inherits its parent's.
print(status, next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    status, peak_kb = done.stdout.split()[-2:]
    assert status == "2"
    assert int(peak_kb) < 300_000
    assert len(done.stdout) + len(done.stderr) < 50 * len(BOMBS[case]) + 10_000
