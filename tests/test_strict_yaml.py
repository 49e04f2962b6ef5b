"""YAML as people mean it: plain scalars, each key once, nothing but plain data."""

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lightune import strict_yaml
from lightune.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("5e-4", 5e-4), ("1e3", 1000.0), ("-.5", -0.5), ("1.", 1.0), ("007", "007")),
        *(("no", "no"), ("on", "on"), ("yes", "yes"), ("True", True), ("false", False)),
        *(("1:30", "1:30"), ("2024-01-01", "2024-01-01"), ("0x1F", "0x1F"), ("~", None)),
        *(("", None), ("'1'", "1"), ("1_000", 1000), (".inf", float("inf")), ("+3", 3)),
        *(("{0: a, true: b}", {"0": "a", "true": "b"}), ("{'<<': 1}", {"<<": 1})),
    ],
)
def test_scalars_are_what_people_mean(text, value):
    read = strict_yaml.read(f"x: {text}", "")["x"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("a: 1\nb: 2\na: 3", "3:1", "comes twice, first in line 1"),
        ("a: {b: 1, b: 2}", "1:11", "comes twice"),
        ("a: [1", "1:6", "expected ',' or ']'"),
        ("a:\n\tb: 1", "2:1", "cannot start any token"),
        ("a: b: c", "1:5", "mapping values are not allowed"),
        ("a: &x 1\nb: *x", "1:4", "anchors"),
        ("a: !!python/object/apply:os.system [ls]", "1:4", "tags"),
        ("a: !x 1", "1:4", "tags"),
        ("[" * 100_000, "1:17", "levels"),
        ("? [a]\n: 1", "1:3", "a key is one word"),
        ("a: 1\n--- \nb: 2", "2:1", "another document"),
    ],
)
def test_mistakes_have_line_and_column(text, place, problem):
    with pytest.raises(ConfigError) as caught:
        strict_yaml.read(text, "r.yaml")
    assert caught.value.problem.startswith(f"r.yaml:{place}: not valid YAML")
    assert problem in caught.value.problem
    assert caught.value.mend
    assert len(caught.value.found) <= 100


@pytest.mark.parametrize("text", ["a: \x01", "a: " + "9" * 5000, "x" * 1_000_001])
def test_other_mistakes_are_ours_too(text):
    with pytest.raises(ConfigError):
        strict_yaml.read(text, "r.yaml")


def test_pyyaml_is_left_alone():
    assert yaml.safe_load("a: no\nb: 5e-4") == {"a": False, "b": "5e-4"}


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**9), 10**9)
        | st.text()
        | st.floats(allow_nan=False)
        | st.sampled_from(["5e-4", "no", "1:30", "-", "*a", "!x"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
@example("\x85a\u2028 b\u2029")
@example(["5e-4", "no", "1:30", "2024-01-01", "1_0", "*a", "!x", "=", "<<", " a", "a: b"])
@example({"no": 5e-4, "1": 1e-8})
def test_what_is_written_reads_back_equal(value):
    if any(0xD800 <= ord(sign) <= 0xDFFF for sign in repr(value)):
        return
    assert strict_yaml.read(strict_yaml.write({"x": value}), "") == {"x": value}
