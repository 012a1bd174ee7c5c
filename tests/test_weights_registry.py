"""``ATTNZOO_REGISTRY``, and the commands that fetch and keep weights."""

import pytest
from click.testing import CliRunner

import attnzoo
from attnzoo.cli import main
from attnzoo.errors import RegistryFileError
from attnzoo.weights.catalogue import catalogue_of
from attnzoo.weights.hashes import sha256_of

ENTRY = """weights:
  - name: se/mine
    block: vision/se
    args: {{channels: 32}}
    url: {url}
    sha256: "{sha}"
    licence: MIT
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A registry file of one's own, beside the weights it names."""
    monkeypatch.setenv("ATTNZOO_CACHE", str(tmp_path / "cache"))
    attnzoo.save(attnzoo.create("se", channels=32), tmp_path / "se.safetensors")
    path = tmp_path / "registry.yaml"
    path.write_text(ENTRY.format(url="se.safetensors", sha=sha256_of(tmp_path / "se.safetensors")))
    monkeypatch.setenv("ATTNZOO_REGISTRY", str(path))
    return path


def run(*arguments):
    return CliRunner().invoke(main, ["weights", *arguments])


def test_a_registry_of_ones_own_is_merged_with_the_shipped_one(own):
    names = [e.name for e in catalogue_of(attnzoo.default_registry()).weights]
    assert "se/mine" in names
    assert len(names) > 1


def test_weights_of_ones_own_registry_are_created_by_name(own):
    block = attnzoo.create("se", weights="se/mine")
    expected = attnzoo.load(own.parent / "se.safetensors").state_dict()
    assert all((value == expected[name]).all() for name, value in block.state_dict().items())


def test_several_registries_are_given_separated_by_blanks(own, monkeypatch, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(own.read_text().replace("se/mine", "se/theirs"))
    monkeypatch.setenv("ATTNZOO_REGISTRY", f"{own} {other}")
    names = [e.name for e in catalogue_of(attnzoo.default_registry()).weights]
    assert {"se/mine", "se/theirs"} <= set(names)


def test_one_name_for_two_files_is_refused_with_both_sources(own, monkeypatch, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(ENTRY.format(url="se.safetensors", sha="0" * 64))
    monkeypatch.setenv("ATTNZOO_REGISTRY", f"{own} {other}")
    with pytest.raises(RegistryFileError) as caught:
        catalogue_of(attnzoo.default_registry())
    assert str(caught.value) == (
        f"weights 'se/mine': {own} and {other} give different files; expected one; rename one of them"
    )


def test_a_fault_in_ones_own_registry_is_told_with_its_line(own):
    own.write_text(own.read_text().replace("licence: MIT", "license: MIT"))
    with pytest.raises(RegistryFileError) as caught:
        catalogue_of(attnzoo.default_registry())
    assert f"{own}:7:5: unknown key 'license'; did you mean 'licence'?" in str(caught.value)


def test_pull_prints_where_each_file_is(own):
    result = run("pull", "se/mine")
    assert (result.exit_code, result.output) == (0, f"{own.parent / 'se.safetensors'}\n")


def test_pull_of_an_unknown_name_tells_the_near_one(own):
    result = run("pull", "se/mien")
    assert result.exit_code != 0
    assert "no weights named 'se/mien'; did you mean 'se/mine'" in result.output + str(result.exception)


def test_pull_of_a_changed_file_is_refused(own):
    with open(own.parent / "se.safetensors", "ab") as file:
        file.write(b"!")
    result = run("pull", "se/mine")
    assert result.exit_code != 0
    assert "se/mine" in result.output + str(result.exception)


def test_where_prints_the_folder_of_fetched_files(own, tmp_path):
    assert run("where").output == f"{tmp_path / 'cache'}\n"


def test_prune_removes_unfinished_downloads_only(own, tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    for name in ("a.safetensors", "a.safetensors.ok", "b.part", "b.etag", "b.lock"):
        (folder / name).write_bytes(b"123")
    result = run("prune")
    assert result.output == f"9 bytes removed from {folder}\n"
    assert sorted(p.name for p in folder.iterdir()) == ["a.safetensors", "a.safetensors.ok"]


def test_prune_all_removes_every_fetched_file(own, tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "a.safetensors").write_bytes(b"123")
    assert run("prune", "--all").output == f"3 bytes removed from {folder}\n"
    assert list(folder.iterdir()) == []


def test_prune_of_a_folder_that_is_not_there_removes_nothing(own, tmp_path):
    assert run("prune").output == f"0 bytes removed from {tmp_path / 'cache'}\n"
