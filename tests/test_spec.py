import pytest

import attnzoo
from attnzoo.errors import SpecError
from attnzoo.spec import BlockSpec, ChainSpec, Insertion, InsertSpec, ResidualSpec, SumSpec, check_spec, write_spec
from attnzoo.spec_reader import read_spec, read_spec_text, spec_from_data


def check(text):
    check_spec(read_spec_text(text, "s.yaml"), attnzoo.default_registry())


def faults(text):
    with pytest.raises(SpecError) as caught:
        check(text)
    return caught.value.faults


ALL_KINDS = ChainSpec(
    (
        BlockSpec("vision/se", {"channels": 64, "reduction": 16}),
        ResidualSpec(BlockSpec("simam")),
        SumSpec((BlockSpec("eca", {"channels": 64}), BlockSpec("se", {"channels": 64}, "se.safetensors"))),
    )
)


@pytest.mark.parametrize(
    "spec",
    [
        BlockSpec("se", {"channels": 64, "eps": 1e-5, "gate": "no"}),
        ALL_KINDS,
        InsertSpec((Insertion(BlockSpec("cbam", {"reduction": 16}), "layer[1-4].*", "before", True),)),
        InsertSpec((Insertion(ChainSpec((BlockSpec("simam"),)), "stage2"),)),
    ],
)
def test_a_spec_round_trips(spec):
    assert read_spec_text(write_spec(spec)) == spec


def test_a_bare_name_is_a_block():
    assert read_spec_text("chain: [simam, se]") == ChainSpec((BlockSpec("simam"), BlockSpec("se")))


def test_all_faults_are_told_at_once_with_their_places():
    text = "chain:\n  - {blok: se}\n  - {block: 3}\n  - {block: se, arg: {}}\n  - residual: {chain: []}\n"
    assert faults(text) == [
        "s.yaml:2:5: chain[0]: keys 'blok', expected exactly one of block, chain, sum, residual, insert; "
        "did you mean 'block'?",
        "s.yaml:3:13: chain[1].block: 3, expected a block name",
        "s.yaml:4:17: chain[2]: unknown key 'arg'; did you mean 'args'?",
        "s.yaml:5:23: chain[3].residual.chain: an empty list, expected a list of at least one node",
    ]


def test_wrong_names_and_types_of_arguments_are_told_with_their_places():
    text = (
        "chain:\n  - block: se\n    args: {channels: 64, reducton: 4}\n"
        "  - block: se\n    args:\n      channels: '64'\n  - block: sse\n"
    )
    found = faults(text)
    assert found[0] == "s.yaml:3:26: args.reducton: block 'se': no argument 'reducton'; did you mean 'reduction'?"
    assert found[1] == "s.yaml:6:7: args.channels: block 'se': argument 'channels' is '64', expected a whole number"
    assert found[2].startswith("s.yaml:7:5: no block named 'sse'; did you mean ")
    assert "'se'" in found[2]


def test_a_missing_argument_is_told():
    text = "s.yaml:1:1: args.channels: block 'se': no value for argument 'channels', expected a whole number"
    assert faults("block: se") == [text]


def test_a_choice_is_told_with_its_values():
    text = faults("{block: se, args: {channels: 8, gate: sigmod}}")[0]
    assert text.startswith("s.yaml:1:33: args.gate: block 'se': argument 'gate' is 'sigmod', expected 'sigmoid' or ")


def test_an_insert_needs_at_and_a_known_position():
    assert faults("insert:\n  - {block: se, position: behind}") == [
        "s.yaml:2:5: insert[0]: no 'at', expected where in the host the block goes",
        "s.yaml:2:27: insert[0].position: 'behind', expected one of after, before, replace",
    ]


def test_an_insert_inside_a_chain_is_refused():
    assert "an insert inside another node" in faults("chain:\n  - insert:\n      - {block: se, at: x}")[0]


def test_a_dotted_path_is_only_an_unknown_name():
    assert "no block named 'os.system'" in faults("block: os.system")[0]


def test_another_contract_version_is_refused():
    assert "contract version 7" in faults("{block: simam, version: 7}")[0]


def test_a_file_with_two_documents_is_refused(tmp_path):
    path = tmp_path / "two.yaml"
    path.write_text("block: se\n---\nblock: se\n")
    with pytest.raises(SpecError, match="2 documents, expected one spec"):
        read_spec(path)


def test_python_data_is_read_like_yaml():
    assert spec_from_data({"residual": {"block": "simam"}}) == ResidualSpec(BlockSpec("simam"))
    with pytest.raises(SpecError, match="expected plain data"):
        spec_from_data({"block": object()})
