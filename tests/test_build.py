import pytest
import torch
from torch import nn

import attnzoo
from attnzoo.errors import ArgumentError, BuildError, NameNotFound, SpecError
from attnzoo.spec_reader import read_spec_text


def test_create_builds_by_name():
    block = attnzoo.create("se", channels=64, reduction=8)
    assert block(torch.randn(2, 64, 3, 5)).shape == (2, 64, 3, 5)


def test_build_takes_a_path_a_mapping_and_a_spec(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("block: se\nargs: {channels: 16}\n")
    spec = attnzoo.read_spec(path)
    blocks = [attnzoo.build(s) for s in (path, str(path), {"block": "se", "args": {"channels": 16}}, spec)]
    assert {type(b).__name__ for b in blocks} == {"SE"}


def test_chain_sum_and_residual_compute_what_they_say():
    x = torch.randn(2, 8, 4, 4)
    simam = attnzoo.create("simam")
    build = lambda text: attnzoo.build(read_spec_text(text))  # noqa: E731
    torch.testing.assert_close(build("chain: [simam, simam]")(x), simam(simam(x)))
    torch.testing.assert_close(build("sum: [simam, simam]")(x), 2 * simam(x))
    torch.testing.assert_close(build("residual: {block: simam}")(x), x + simam(x))


def test_a_wrong_argument_is_refused_before_anything_is_built():
    with pytest.raises(ArgumentError) as caught:
        attnzoo.create("se", channels=64, reducton=4)
    assert str(caught.value) == "block 'se': no argument 'reducton'; did you mean 'reduction'?"


def test_a_bool_is_no_number():
    with pytest.raises(ArgumentError, match="argument 'channels' is True, expected a whole number"):
        attnzoo.create("se", channels=True)


def test_what_the_constructor_refuses_names_the_block():
    with pytest.raises(BuildError, match="block 'se': SE: channels=0"):
        attnzoo.create("se", channels=0)


def test_an_insert_is_not_built():
    with pytest.raises(SpecError, match="an insert needs a host"):
        attnzoo.build({"insert": [{"block": "simam", "at": "x"}]})


def test_register_makes_a_class_buildable_without_packaging():
    old = attnzoo.default_registry()
    try:

        @attnzoo.register(name="my-gate", example={"channels": 4})
        class MyGate(nn.Module):
            """Scale the channels."""

            def __init__(self, channels: int) -> None:
                super().__init__()
                self.scale = nn.Parameter(torch.ones(channels))

            def forward(self, x):
                return x * self.scale[:, None, None]

        assert type(attnzoo.create("my_gate", channels=4)) is MyGate
        assert "local/my-gate" in [e.id for e in attnzoo.default_registry()]
    finally:
        attnzoo.registry.set_default_registry(old)
    with pytest.raises(NameNotFound):
        attnzoo.create("my-gate", channels=4)


def test_list_blocks_lists_one_domain():
    domains = {c.domain for c in attnzoo.list_blocks(domain="channel")}
    assert domains == {"channel"}


def test_a_tuple_is_taken_where_a_list_is_expected():
    block = attnzoo.create("bot-mhsa", channels=8, feature_size=(4, 6), num_heads=2)
    again = attnzoo.create("bot-mhsa", channels=8, feature_size=[4, 6], num_heads=2)
    assert {k: v.shape for k, v in block.state_dict().items()} == {k: v.shape for k, v in again.state_dict().items()}
