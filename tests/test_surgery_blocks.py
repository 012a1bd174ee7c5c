"""The whole life of an insertion: every block for maps and tokens of the installed plugins in every host."""

import copy

import pytest
import torch
from hosts import HOSTS, SITES, make_host, make_input, same, tensors
from hosts.blocks import wake

import attnzoo
from attnzoo.errors import AttnZooError, SurgeryError
from attnzoo.insertion import block_layout
from attnzoo.registry import default_registry
from attnzoo.shape import parse_contract
from attnzoo.surgery import Site, inserted

# Blocks that take one tensor but have no place in these hosts, with the reason.
ELSEWHERE = {
    "vision/attention-pool2d": "returns one vector a sample",
    "vision/rot-attention-pool2d": "returns one vector a sample",
    "vision/bisenet-spatial-path": "returns a map an eighth as large",
    "vision/gltr": "returns one vector a sample",
    "vision/swin-window-attention": "takes the tokens of one window",
}
# Hosts whose site has maps of 4 x 4 pixels, where a block takes no such.
TOO_SMALL = {("vision/pan-fpa-smp", "detector"), ("vision/pan-fpa-smp", "vit")}
# Arguments that fit maps of 4 to 16 pixels and 16 to 32 channels, where the card's example does not.
ARGUMENTS = {
    "vision/bat": {"block_size": 4},
    "vision/axial-block": {"num_heads": 2},
}
TOLD = ("channels", "embed_dim", "in_channels", "out_channels", "feature_size")


def candidates():
    """Return the blocks of attnzoo-vision that take one image map or token tensor and give one back."""
    for entry in default_registry():
        if entry.plugin.name != "vision":
            continue
        contract = parse_contract(entry.card.shape)
        if len([given for given in contract.inputs if not given.optional]) != 1:
            continue
        try:
            layout = block_layout(entry)
        except AttnZooError:
            continue
        if set(layout) <= set("nchwl") and len(contract.outputs) == 1 and entry.id not in ELSEWHERE:
            yield entry


def arguments(entry):
    """Return the card's example without what the site tells."""
    return {k: v for k, v in {**entry.card.example, **ARGUMENTS.get(entry.id, {})}.items() if k not in TOLD}


def put(host, name, entry):
    layout = block_layout(entry)
    view = {"vit": "map" if "h" in layout else None}.get(name, None if "h" in layout else "tokens")
    spec = {"block": entry.id, "args": arguments(entry)}
    return attnzoo.insert(host, spec, at=SITES[name], identity=True, view=view, inputs=make_input(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("entry", list(candidates()), ids=lambda entry: entry.id)
def test_the_life_of_an_inserted_block(entry, name, tmp_path):
    if (entry.id, name) in TOO_SMALL:
        with pytest.raises(SurgeryError, match=r"input of \(4, 4\) pixels, expected 8 or more"):
            put(make_host(name), name, entry)
        return
    torch.manual_seed(0)
    host, plain, x = make_host(name), make_host(name), make_input(name)
    old = plain(x)
    put(host, name, entry)
    assert same(host(x), old)
    wake(host)
    trained = copy.deepcopy(host).train()
    optimizer = torch.optim.SGD(trained.parameters(), lr=1e-3)
    sum(t.square().mean() for t in tensors(trained(x))).backward()
    gradients = [p.grad for item in inserted(trained) for p in item.block.parameters() if p.requires_grad]
    assert not gradients or any(g is not None and g.abs().sum() > 0 for g in gradients)
    assert all(g is None or bool(g.isfinite().all()) for g in gradients)
    optimizer.step()
    attnzoo.save_inserted(host, tmp_path / "blocks.safetensors")
    fresh = make_host(name)
    attnzoo.load_inserted(fresh, tmp_path / "blocks.safetensors", inputs=x)
    assert same(fresh(x), host(x))
    attnzoo.remove(fresh)
    assert same(fresh(x), old)
    assert list(fresh.state_dict()) == list(plain.state_dict())


def test_channels_and_sizes_are_told_by_the_site():
    host = make_host("resnet")
    attnzoo.insert(host, "se", at="layer2.1", identity=True)
    told = {"block": "vision/se", "args": {"channels": 32}, "version": 1}
    assert inserted(host)[0].module.place.spec == told


def test_a_spec_file_puts_several_blocks(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "insert:\n"
        "  - {block: se, at: bottom, args: {reduction: 4}, identity: true}\n"
        "  - chain: [{block: eca}, {block: simam}]\n"
        "    at: encoder.1\n"
        "    name: pair\n"
    )
    host = make_host("unet")
    report = attnzoo.insert(host, path)
    assert [(row.site, row.name) for row in report.rows] == [("bottom", "se"), ("encoder.1", "pair")]
    assert attnzoo.read_spec(path).insertions[1].name == "pair"


def test_a_block_of_maps_goes_among_tokens_only_when_told_to():
    text = (
        r"site 'layers\.0\.mlp': its tensor is nlc \(1, 17, 32\), the block takes nchw; "
        r"view='map' shows it the tokens as a map of 4 x 4 after 1 prefix tokens"
    )
    with pytest.raises(attnzoo.errors.SurgeryError, match=text):
        attnzoo.insert(make_host("vit"), "cbam", at="layers.*.mlp")


def test_a_swap_by_name():
    host, x = make_host("resnet"), make_input("resnet")
    old = host(x)
    attnzoo.insert(host, "se", at="layer2.1", identity=True)
    attnzoo.swap(host, {"block": "eca", "args": {"kernel_size": 5}}, at="layer2.1")
    assert [item.key for item in inserted(host)] == ["layer2.1/eca"]
    assert same(host(x), old)


def test_where_is_said_once():
    with pytest.raises(attnzoo.errors.SpecError, match=r"insert: no place was given; give at=…"):
        attnzoo.insert(make_host("unet"), "se")
    spec = {"insert": [{"block": "se", "at": "bottom"}]}
    with pytest.raises(attnzoo.errors.SpecError, match=r"it says where its blocks go, and at='bottom' was given too"):
        attnzoo.insert(make_host("unet"), spec, at="bottom")


def test_a_block_of_several_tensors_is_refused():
    with pytest.raises(attnzoo.errors.SurgeryError, match=r"it takes 2 tensors .*, one was expected in a host"):
        attnzoo.insert(make_host("unet"), "attention-gate", at="bottom")


def test_a_file_with_blocks_of_no_plugin_says_so(tmp_path):
    host = make_host("unet")

    def make(site: Site) -> torch.nn.Module:
        return torch.nn.Conv2d(site.channels, site.channels, 1)

    attnzoo.insert(host, make, at="bottom")
    attnzoo.save_inserted(host, tmp_path / "x.safetensors")
    with pytest.raises(attnzoo.errors.SurgeryError, match=r"block 'conv2d' at 'bottom' was no block of a plugin"):
        attnzoo.load_inserted(make_host("unet"), tmp_path / "x.safetensors")
