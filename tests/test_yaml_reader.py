import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnzoo.errors import SpecError
from attnzoo.yaml_reader import plain, read_plain, read_yaml, read_yaml_file, write_yaml


def value(text):
    return plain(read_yaml(text, "t.yaml")[0])


def faults(text):
    with pytest.raises(SpecError) as caught:
        read_yaml(text, "t.yaml")
    return caught.value.faults


def test_numbers_with_an_exponent_are_numbers():
    assert value("[1e-5, 1E3, 2.5, .5, 3., 1_000, 0x10, -4]") == [1e-5, 1e3, 2.5, 0.5, 3.0, 1000, 16, -4]


def test_no_and_on_and_leading_zeros_are_strings():
    assert value("[no, on, yes, 007, 1.2.3, 12:30:00]") == ["no", "on", "yes", "007", "1.2.3", "12:30:00"]


def test_quoted_scalars_are_strings():
    assert value("""['1', "true", 'null']""") == ["1", "true", "null"]


def test_a_key_given_twice_is_refused():
    assert faults("a: 1\nb: 2\na: 3") == ["t.yaml:3:1: key 'a' is given twice, first at line 1"]


def test_a_tag_is_refused():
    assert faults("a: !!python/object:os.system x") == [
        "t.yaml:1:4: tag 'tag:yaml.org,2002:python/object:os.system', expected plain data without tags"
    ]


def test_broken_yaml_says_where():
    assert faults("a: [1, 2\nb: 3") == ["t.yaml:2:2: not valid YAML: did not find expected ',' or ']'"]


def test_aliases_cannot_blow_up():
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert "more than 400000 nodes" in faults("\n".join(rows))[0]


def test_deep_nesting_is_refused():
    assert faults("[" * 100 + "]" * 100) == ["t.yaml:1:66: nested deeper than 64 levels"]


def test_a_missing_file_is_told():
    with pytest.raises(SpecError, match=r"nowhere.yaml: cannot be read \(No such file or directory\)"):
        read_yaml_file("nowhere.yaml")


def test_nodes_know_their_place():
    node = read_yaml("a: 1\nb:\n  c: x", "t.yaml")[0]
    assert str(node.get("b").get("c").where) == "t.yaml:3:6"


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
data = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=6), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=6), data, max_size=4))
def test_what_is_written_reads_back_the_same(value_):
    text = write_yaml(value_)
    assert plain(read_yaml(text)[0]) == value_
    if value_:
        assert read_plain(text) == value_
