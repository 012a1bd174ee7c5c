"""Wrong input from Python: every one is an error of attnzoo that says where, what was found, and what was expected."""

import copy
import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import attnzoo
from attnzoo.errors import ArgumentError, AttnZooError, BuildError, CardError, NameNotFound, SpecError
from attnzoo.registry import Registry, set_default_registry
from attnzoo.spec import BlockSpec, ChainSpec
from attnzoo.spec_reader import read_spec, read_spec_text
from attnzoo.yaml_reader import plain, read_yaml


@pytest.fixture
def local():
    """Undo what the test registers."""
    old = attnzoo.default_registry()
    yield
    set_default_registry(old)


def told(kind: type[AttnZooError], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("spec", [None, 5, ["simam"], ChainSpec(("simam",))], ids=repr)
def test_what_is_no_spec_is_refused(spec):
    assert "expected a path, a mapping, or a spec of attnzoo.spec" in told(SpecError, lambda: attnzoo.build(spec))


def test_fields_of_a_spec_made_by_hand_are_checked():
    build = lambda **fields: told(SpecError, lambda: attnzoo.build(BlockSpec("se", **fields)))  # noqa: E731
    assert build(args=None) == "args: None, expected a mapping of arguments"
    assert build(weights=5) == "weights: 5, expected a weights name, path or address as text"
    assert build(version="1") == "version: '1', expected a contract version"


def test_a_path_with_a_null_byte_is_refused():
    assert "cannot be read (embedded null byte)" in told(SpecError, lambda: read_spec("a\0b"))


def test_a_list_under_args_is_refused():
    text = told(SpecError, lambda: read_spec_text("{block: simam, args: [1]}", "s.yaml"))
    assert text == "s.yaml:1:22: args: a list, expected a mapping of arguments"


def test_arguments_beside_weights_are_checked_with_their_place():
    spec = read_spec_text("block: cbam\nweights: cbam/fashion-mnist\nargs: {chanels: 4, reduction: many}\n", "s.yaml")
    assert told(SpecError, lambda: attnzoo.build(spec)).splitlines() == [
        "s.yaml:3:8: args.chanels: block 'cbam': no argument 'chanels'; did you mean 'channels' or 'hidden_channels'?",
        "s.yaml:3:20: args.reduction: block 'cbam': argument 'reduction' is 'many', expected a whole number",
    ]


def test_an_unknown_weights_name_in_a_spec_is_told_with_its_place():
    spec = read_spec_text("chain:\n- {block: cbam, weights: cbam/fashion-mist}\n", "s.yaml")
    text = told(NameNotFound, lambda: attnzoo.build(spec))
    assert text.startswith("s.yaml:2:3: no weights named 'cbam/fashion-mist'; did you mean 'cbam/fashion-mnist'")


def test_many_wrong_names_are_told_only_up_to_a_limit():
    text = "chain:\n" + "".join(f"- {{block: simam, args: {{a{i}: 1}}}}\n" for i in range(300))
    faults = told(SpecError, lambda: attnzoo.build(read_spec_text(text))).splitlines()
    assert (len(faults), faults[-1]) == (101, "and perhaps more: what follows was not checked")


def test_keys_are_the_text_that_is_written():
    assert plain(read_yaml("{null: 1, true: 2, 1e3: 3, 0x10: 4}")[0]) == {"null": 1, "true": 2, "1e3": 3, "0x10": 4}


@pytest.mark.parametrize("weights", [5, ["x"], object()])
def test_weights_that_are_no_name_are_refused(weights):
    text = told(ArgumentError, lambda: attnzoo.create("cbam", weights=weights))
    assert text.endswith(f"of type {type(weights).__name__}, expected a name, path or address")


@pytest.mark.parametrize("name", [5, None, "", "vision/", "/", "x" * 10_000])
def test_a_wrong_name_of_any_kind_is_a_name_not_found(name):
    told(NameNotFound, lambda: attnzoo.create(name))


@pytest.mark.parametrize("domain", ["chanel", "", 5])
def test_a_wrong_domain_of_any_kind_is_refused(domain):
    text = told(NameNotFound, lambda: attnzoo.list_blocks(domain))
    assert text.startswith(f"domain {domain!r}: expected one of channel, spatial")


def test_a_size_that_torch_cannot_make_is_told_with_block_and_place():
    spec = read_spec_text("block: se\nargs: {channels: 1000000000000}\n", "s.yaml")
    assert told(BuildError, lambda: attnzoo.build(spec)).startswith("s.yaml:1:1: block 'se': RuntimeError: ")


@dataclass
class Options:
    number: int = 1


class Odd(nn.Module):
    """Takes what JSON does not have."""

    def __init__(
        self, call: Callable[[int], int] = abs, options: Options | None = None, act: type[nn.Module] = nn.ReLU
    ):
        super().__init__()
        if call(-1) != 1:
            raise RuntimeError("no absolute value")


def test_arguments_of_odd_types_are_checked(local):
    attnzoo.register(Odd, name="odd")
    assert isinstance(attnzoo.create("odd", options=Options()), Odd)
    create = lambda **arguments: told(ArgumentError, lambda: attnzoo.create("odd", **arguments))  # noqa: E731
    assert create(call=3) == "block 'odd': argument 'call' is 3, expected Callable[[int], int]"
    assert create(options=3) == "block 'odd': argument 'options' is 3, expected Options or null"
    assert create(act=3) == "block 'odd': argument 'act' is 3, expected a subclass of Module"


def test_a_constructor_that_fails_in_any_way_is_a_build_error(local):
    attnzoo.register(Odd, name="odd")
    text = told(BuildError, lambda: attnzoo.create("odd", call=lambda x: x))
    assert text == "block 'odd': RuntimeError: no absolute value"


MISUSES = [
    ({"cls": int}, "register: <class 'int'>, expected a class that is an nn.Module"),
    ({"cls": "se"}, "register: 'se', expected a class that is an nn.Module"),
    ({"cls": Odd, "name": 5}, "register(Odd): name: 5, expected a name"),
    ({"cls": Odd, "name": "a/b"}, "register(Odd): name: 'a/b', expected lower case with dashes, as 'a-b'"),
    ({"cls": Odd, "domain": "chanel"}, "register(Odd): domain: 'chanel', expected one of channel, "),
    ({"cls": Odd, "shape": "n c"}, "register(Odd): shape: 'n c', expected 'inputs -> outputs'"),
    ({"cls": Odd, "example": [1]}, "register(Odd): example: [1], expected a mapping of arguments"),
]


@pytest.mark.parametrize(("options", "text"), MISUSES, ids=range(len(MISUSES)))
def test_registering_what_is_no_block_is_refused_and_registers_nothing(local, options, text):
    before = attnzoo.default_registry()
    assert told(CardError, lambda: attnzoo.register(**options)).startswith(text)
    assert attnzoo.default_registry() is before


def test_threads_that_register_at_once_keep_every_block(local):
    classes = [type(f"Thread{i}", (nn.Identity,), {}) for i in range(16)]
    threads = [threading.Thread(target=attnzoo.register, args=(cls,)) for cls in classes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {e.card.name for e in attnzoo.default_registry() if e.plugin.name == "local"}
    assert found >= {f"thread{i}" for i in range(16)}


def test_a_chain_of_pretrained_blocks_saves_and_loads(tmp_path):
    chain = attnzoo.build({"chain": [{"block": "cbam", "weights": "cbam/fashion-mnist"}, {"residual": "simam"}]})
    attnzoo.save(chain, tmp_path / "c.safetensors")
    x = torch.randn(1, 32, 5, 5)
    assert torch.equal(attnzoo.load(tmp_path / "c.safetensors").eval()(x), chain.eval()(x))


def test_a_built_block_survives_pickle_deepcopy_and_torch_save(tmp_path):
    block = attnzoo.build(read_spec_text("chain: [simam, {residual: {block: se, args: {channels: 16}}}]"))
    torch.save(block, tmp_path / "block.pt")
    copies = [pickle.loads(pickle.dumps(block)), copy.deepcopy(block)]
    copies.append(torch.load(tmp_path / "block.pt", weights_only=False))
    assert all(c.attnzoo_spec == block.attnzoo_spec for c in copies)
    assert "attnzoo_spec" not in block.state_dict()


def test_a_plugin_that_is_left_out_is_named_and_not_called_missing():
    from attnzoo.plugins import discover

    registry = Registry(tuple(discover(environ={"ATTNZOO_PLUGINS": ""})))
    text = told(NameNotFound, lambda: registry.find("se"))
    assert "plugin 'vision' (attnzoo-vision) is not loaded: left out by ATTNZOO_PLUGINS" in text
    assert "pip install" not in text


def test_a_known_block_of_no_installed_plugin_has_the_line_that_installs_it():
    text = told(NameNotFound, lambda: Registry().find("vision/cbam"))
    assert "it is in attnzoo-vision, which is not installed; pip install attnzoo-vision" in text
