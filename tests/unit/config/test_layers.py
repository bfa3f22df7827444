"""Laying settings over each other: the strongest wins leaf by leaf, and every leaf knows where it came from."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aldis.config.layers import Layer, Layers, merge, reach, read_yaml

KEYS = st.sampled_from(["a", "b", "c"])
LEAVES = st.integers(0, 9) | st.none() | st.booleans() | st.lists(st.integers(0, 9), max_size=2)
TREES = st.recursive(
    st.dictionaries(KEYS, LEAVES, max_size=3), lambda inner: st.dictionaries(KEYS, LEAVES | inner, max_size=3)
)


def leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            found |= leaves(value, (*path, key))
        else:
            found[(*path, key)] = value
    return found


@given(TREES)
def test_nothing_is_neutral_on_both_sides(tree: dict[str, Any]) -> None:
    assert merge(tree, {}) == tree
    assert merge({}, tree) == tree


@given(TREES, TREES)
def test_every_leaf_of_the_stronger_wins(base: dict[str, Any], extra: dict[str, Any]) -> None:
    result = merge(base, extra)
    for path, value in leaves(extra).items():
        if value != {}:
            assert leaves(result)[path] == value


@given(TREES, TREES)
def test_a_leaf_that_the_stronger_does_not_touch_stays(base: dict[str, Any], extra: dict[str, Any]) -> None:
    result = merge(base, extra)
    for path, value in leaves(base).items():
        step = reach(extra, path)
        passed = extra
        for part in path[:step]:
            passed = passed[part]
        # untouched: the stronger runs out of mappings to agree on before it says anything of its own
        if step < len(path) and isinstance(passed, dict):
            assert leaves(result)[path] == value


@given(TREES, TREES)
def test_no_leaf_is_invented(base: dict[str, Any], extra: dict[str, Any]) -> None:
    known = leaves(base) | leaves(extra)
    for path in leaves(merge(base, extra)):
        assert path in known


@given(TREES, TREES)
def test_the_givers_keep_what_they_gave(base: dict[str, Any], extra: dict[str, Any]) -> None:
    before = copy.deepcopy((base, extra))
    merge(base, extra)
    assert (base, extra) == before


@given(TREES, TREES, TREES)
def test_the_origin_of_a_leaf_is_a_layer_that_holds_its_value(
    low: dict[str, Any], middle: dict[str, Any], high: dict[str, Any]
) -> None:
    places = {"low": low, "middle": middle, "high": high}
    layers = Layers([Layer(places[name], partial(str.format, name)) for name in ("low", "middle", "high")])
    for path, value in leaves(layers.merged()).items():
        assert value == {} or leaves(places[layers.origin(path)])[path] == value


def test_the_origin_of_what_nobody_said_is_the_defaults() -> None:
    assert Layers([Layer({"a": 1}, lambda key: "file")]).origin(("b", "c")) == "defaults"


def test_the_order_of_the_plugins_is_that_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("plugins: {z.One: {}, a.Two: {}}\n")
    assert list(merge(read_yaml(file), {"plugins": {"m.Three": {}, "a.Two": {"on": True}}})["plugins"]) == [
        "z.One",
        "a.Two",
        "m.Three",
    ]


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "outer:\n  a: 1\n  a: 2\n"])
def test_a_key_given_twice_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(yaml.YAMLError, match="'a' is given twice"):
        read_yaml(file)


def test_a_key_that_cannot_be_a_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("? [a, b]\n: 1\n")
    with pytest.raises(yaml.YAMLError, match="unhashable"):
        read_yaml(file)


def test_only_plain_data_is_read(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("a: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(yaml.YAMLError):
        read_yaml(file)
