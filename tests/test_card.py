"""Cards: every key holds what it must, and a fault is told with the key."""

import sys
import zipfile

import pytest

from attnzoo.card import read_card, read_cards
from attnzoo.errors import CardError

HEAD = {
    "name": "gate",
    "class": "Gate",
    "summary": "Scales.",
    "domain": "mixed",
    "shape": '"n c h w -> n c h w"',
    "example": "{}",
}


def write(tmp_path, dialects="", **changes):
    lines = {**HEAD, **{k.rstrip("_"): v for k, v in changes.items()}}
    path = tmp_path / "gate.yaml"
    path.write_text("".join(f"{k}: {v}\n" for k, v in lines.items() if v is not None) + dialects)
    return path


HEADS = [
    ({"name": "null"}, "name: None, expected a name"),
    ({"name": "5"}, "name: 5, expected a name"),
    ({"name": "a/b"}, "name: 'a/b', expected lower case with dashes, as 'a-b'"),
    ({"name": "My_Gate"}, "name: 'My_Gate', expected lower case with dashes, as 'my-gate'"),
    ({"name": "''"}, "name: '', expected lower case with dashes, as 'my-block'"),
    ({"class_": "null"}, "class: None, expected a class name"),
    ({"summary": "[a]"}, "summary: ['a'], expected a sentence"),
    ({"domain": "chanel"}, "domain: 'chanel', expected one of channel, spatial, mixed, self, structure, temporal, "),
    ({"shape": "n c h w"}, "shape: 'n c h w', expected 'inputs -> outputs', as in 'n c h w -> n c h w'"),
    ({"example": "null"}, "example: None, expected a mapping of arguments"),
    ({"example": "{1: 2}"}, "example: {1: 2}, expected a mapping of arguments"),
    ({"aliases": "other"}, "aliases: 'other', expected a list of names"),
    ({"aliases": "[1]"}, "aliases: [1], expected a list of names"),
    ({"version": "true"}, "version: True, expected a number from 1 on"),
    ({"version": "-1"}, "version: -1, expected a number from 1 on"),
    ({"axes": "{c: [1]}"}, "axes: {'c': [1]}, expected a mapping of axes to expressions or rules"),
    ({"inputs": "{m: 1}"}, "inputs: {'m': 1}, expected a mapping of inputs to kinds"),
    ({"maps": "{gate: 1}"}, "maps: {'gate': 1}, expected a mapping of map names to shapes"),
    ({"examples": "[1]"}, "examples: [1], expected a list of argument mappings"),
    ({"paper": "Attention"}, "paper: 'Attention', expected a mapping"),
    ({"origin": "[x]"}, "origin: ['x'], expected a mapping"),
    ({"notes": "5"}, "notes: 5, expected a text"),
    ({"exempt": "{a: why, b}"}, "exempt: {'a': 'why', 'b': None}, expected a mapping of check names to reasons"),
    ({"sumary": "x"}, "unknown key 'sumary'; did you mean 'summary'?"),
    ({"shape": None}, "no 'shape', expected the keys name, class, summary, domain, shape, example"),
]


@pytest.mark.parametrize(("changes", "told"), HEADS, ids=[next(iter(c)) + f"-{i}" for i, (c, _) in enumerate(HEADS)])
def test_a_wrong_key_of_the_head_is_told(tmp_path, changes, told):
    path = write(tmp_path, **changes)
    with pytest.raises(CardError) as caught:
        read_card(path, "gate")
    assert str(caught.value).startswith(f"{path}: {told}")


DIALECTS = [
    ("x: 5", "dialects.x: 5, expected a mapping"),
    ("x: {golden: se}", "dialects.x.golden: 'se', expected a list of names of golden files"),
    ("x: {ignore: 'bn.*'}", "dialects.x.ignore: 'bn.*', expected a list of globs"),
    ("x: {when: 5}", "dialects.x.when: 5, expected an expression"),
    ("x: {signature: [a]}", "dialects.x.signature: ['a'], expected a list of parameters as text"),
    ("x: {signature: 'a='}", "dialects.x: signature 'a=': not readable (expected default value expression)"),
    ("x: {args: [a]}", "dialects.x.args: ['a'], expected a mapping of our arguments to expressions"),
    ("x: {args: {a: b}}", "dialects.x.args.a: no argument 'b' in the signature"),
    ("x: {tensors: {a: 1}}", "dialects.x.tensors: {'a': 1}, expected a mapping of our tensors to theirs"),
    ("x: {call: 5}", "dialects.x.call: 5, expected a mapping"),
    ("x: {call: {maps: 5}}", "dialects.x.call.maps: 5, expected a mapping of their maps to expressions"),
    ("x: {call: {map: {}}}", "dialects.x.call: unknown key 'map'; did you mean 'maps'?"),
    ("x: {tensor: {}}", "dialects.x: unknown key 'tensor'; did you mean 'tensors'?"),
]


@pytest.mark.parametrize(("text", "told"), DIALECTS, ids=range(len(DIALECTS)))
def test_a_wrong_dialect_is_told_when_dialects_are_read(tmp_path, text, told):
    path = write(tmp_path, dialects=f"dialects:\n  {text}\n")
    card = read_card(path, "gate")
    with pytest.raises(CardError) as caught:
        _ = card.dialects
    assert str(caught.value) == f"{path}: {told}"


@pytest.mark.parametrize("text", ["", "[]", "a: b: c", "\tname: x", "name: &a [*a]", "!!python/name:os.system x", "\0"])
def test_what_is_no_card_is_a_card_error(tmp_path, text):
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    with pytest.raises(CardError, match=r"gate\.yaml"):
        read_card(path, "gate")


@pytest.mark.parametrize("package", ["", "no_such_package", "attnzoo.no.such", None, 5])
def test_cards_of_no_package_are_refused(package):
    with pytest.raises(CardError) as caught:
        read_cards(package)
    assert str(caught.value) == f"read_cards({package!r}): no such package, expected the name of an importable package"


def test_cards_in_a_zip_file_are_refused_and_not_missed(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as packed:
        packed.writestr("zipped_blocks/__init__.py", "")
        packed.writestr("zipped_blocks/gate.yaml", "")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "packed.zip"), *sys.path])
    with pytest.raises(CardError, match="is not a folder, expected cards in files; install it unzipped"):
        read_cards("zipped_blocks")


def test_cards_of_a_namespace_package_are_read(tmp_path, monkeypatch):
    (tmp_path / "spread_blocks").mkdir()
    write(tmp_path / "spread_blocks")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert [c.name for c in read_cards("spread_blocks")] == ["gate"]
