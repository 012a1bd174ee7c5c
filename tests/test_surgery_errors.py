"""Every wrong insertion is an error that says what to do, and the host is unchanged."""

import re

import pytest
import torch
from hosts import make_host
from hosts.blocks import Gate, Narrow, TokenGate, gate, order, put
from torch import nn

from attnzoo.errors import AttnZooError, NameNotFound, SurgeryError
from attnzoo.surgery import Order, insert, inserted


def refused(host, orders, text, error=SurgeryError, **how):
    """Check the error's text and that the host is as it was."""
    before = [(name, type(module), len(module._forward_hooks)) for name, module in host.named_modules()]
    values = {key: value.clone() for key, value in host.state_dict().items()}
    with pytest.raises(error, match=re.escape(text)) as caught:
        insert(host, orders, **how)
    assert isinstance(caught.value, AttnZooError)
    assert [(name, type(module), len(module._forward_hooks)) for name, module in host.named_modules()] == before
    assert all(torch.equal(value, values[key]) for key, value in host.state_dict().items())


def test_no_match():
    refused(make_host("unet"), Order(gate, "botom"), "no module of UNet matches; did you mean 'bottom'?", NameNotFound)


def test_a_site_that_never_ran():
    text = (
        "site 'decoder' (ModuleList): the host did not call it, so a block there would never run; "
        "choose a module that is called"
    )
    refused(make_host("unet"), Order(gate, "decoder"), text)


def test_one_bad_site_among_good_ones_stops_all():
    refused(
        make_host("unet"), [Order(gate, "bottom"), Order(gate, "up")], "site 'up' (ModuleList): the host did not call"
    )


def test_a_module_that_returns_no_tensor():
    class Names(nn.Module):
        def forward(self, x):
            return "text"

    class Host(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.names = nn.Conv2d(3, 4, 1), Names()

        def forward(self, x):
            self.names(x)
            return self.conv(x)

    refused(Host(), Order(gate, "names"), "site 'names' (Names): it returned no tensor, so no block can go there")


def test_wrong_channels():
    text = "site 'bottom': Gate cannot take its tensor nchw (1, 32, 56, 56): "
    refused(make_host("unet"), Order(Gate(16), "bottom"), text)


def test_another_shape_comes_back():
    text = "site 'bottom': Narrow gave shape (1, 16, 56, 56), (1, 32, 56, 56) was expected there"
    refused(make_host("unet"), Order(lambda site: Narrow(site.channels), "bottom"), text)


def test_another_type_comes_back():
    class Doubles(nn.Module):
        def forward(self, x):
            return x.double()

    text = "site 'bottom': Doubles gave torch.float64, torch.float32 was expected there"
    refused(make_host("unet"), Order(Doubles(), "bottom"), text)


def test_no_tensor_comes_back():
    class Speaks(nn.Module):
        def forward(self, x):
            return "text"

    refused(make_host("unet"), Order(Speaks(), "bottom"), "site 'bottom': Speaks gave str, a tensor was expected")


def test_a_block_of_maps_among_tokens():
    text = (
        "site 'layers.0.mlp': its tensor is nlc (1, 17, 32), the block takes nchw; "
        "view='map' shows it the tokens as a map of 4 x 4 after 1 prefix tokens"
    )
    refused(make_host("vit"), Order(gate, "layers.0.mlp", accepts="nchw"), text)


def test_a_block_of_tokens_among_maps():
    text = "its tensor is nchw (1, 32, 56, 56), the block takes nlc; view='tokens' shows it the map as tokens"
    refused(make_host("unet"), Order(TokenGate(32), "bottom", accepts="nlc"), text)


def test_a_block_of_frames_among_maps():
    text = "site 'bottom': its tensor is nchw (1, 32, 56, 56), the block takes ncthw; choose another block or site"
    refused(make_host("unet"), Order(gate, "bottom", accepts="ncthw"), text)


def test_tokens_that_are_no_map():
    host = make_host("vit").layers[0]
    inputs = {"hidden_states": torch.randn(1, 35, 32)}
    text = "site 'mlp': 35 tokens are not a square map after up to 8 prefix tokens; give grid=(h, w)"
    refused(host, Order(gate, "mlp", view="map"), text, inputs=inputs)
    insert(host, Order(gate, "mlp", view="map", grid=(5, 7)), inputs=inputs)
    assert inserted(host)[0].module.place.view.prefix == 0


def test_double_insertion():
    host = make_host("resnet")
    put(host, "resnet")
    text = (
        "site 'layer1.1': it already has an inserted block 'gate'; "
        "give name=… for a second one, or swap or remove the first"
    )
    refused(host, order("resnet"), text)
    put(host, "resnet", name="second")
    assert len(inserted(host)) == 4


def test_double_insertion_in_one_call():
    text = "site 'bottom': two blocks 'gate' were to be inserted; give them names"
    refused(make_host("unet"), [order("unet"), order("unet")], text)


def test_two_replacements_of_one_module():
    orders = [Order(gate, "bottom.3", "replace", name=name) for name in ("a", "b")]
    refused(make_host("unet"), orders, "site 'bottom.3': two blocks 'b' were to be inserted; give them names")
    host = make_host("unet")
    insert(host, orders[0])
    refused(host, orders[1], "site 'bottom.3': its forward is already replaced; remove that first")


def test_one_module_for_several_sites():
    text = "block Gate: one module was given for 2 sites (layer1.1, layer2.1), a function that makes one for each was"
    refused(make_host("resnet"), Order(Gate(16), "layer*.1"), text)


def test_a_factory_that_makes_no_module():
    text = "site 'bottom': the factory gave int, an nn.Module was expected"
    refused(make_host("unet"), Order(lambda _: 3, "bottom"), text)


def test_a_module_called_with_tensors_of_several_kinds():
    class Host(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.relu = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 1), nn.ReLU()

        def forward(self, x):
            return self.relu(self.b(self.relu(self.a(x))))

    text = (
        "site 'relu' (ReLU): it is called 2 times with tensors of several kinds (1, 4, 224, 224), (1, 8, 224, 224); "
        "one block does not fit them, choose another module"
    )
    refused(Host(), Order(gate, "relu"), text)


def test_identity_does_not_go_with_replace():
    text = "site 'bottom.3': identity does not go with position='replace', the old module is no longer run"
    refused(make_host("unet"), Order(gate, "bottom.3", "replace", identity=True), text)


def test_a_replacement_of_a_module_that_returns_a_tuple():
    text = "site 'layers.0' (Layer): it returns no bare tensor, so a block cannot replace it"
    refused(make_host("vit"), Order(TokenGate(32), "layers.0", "replace"), text)


def test_a_wrong_position_and_a_wrong_name():
    text = "site 'bottom': position='behind', one of before, after, replace was expected"
    refused(make_host("unet"), Order(gate, "bottom", "behind"), text)
    text = "name 'a.b': letters, digits and underscores were expected"
    refused(make_host("unet"), Order(gate, "bottom", name="a.b"), text)


def test_a_layout_that_does_not_fit():
    text = "site 'bottom': layout 'nlc' does not fit the shape (1, 32, 56, 56)"
    refused(make_host("unet"), Order(gate, "bottom", layout="nlc"), text)


def test_an_attribute_of_the_station_s_name():
    host = make_host("unet")
    host.bottom.attnzoo = 3
    refused(host, Order(gate, "bottom"), "site 'bottom': the module has an attribute 'attnzoo' of its own")


def test_a_name_that_modules_have_already_gets_an_underscore():
    host = make_host("unet")
    put(host, "unet", name="half")
    assert [item.key for item in inserted(host)] == ["bottom/half_"]


@pytest.mark.parametrize(
    ("wrap", "state"),
    [
        (lambda host: torch.compile(host, backend="eager"), "it is compiled"),
        (nn.DataParallel, "it is wrapped in DataParallel"),
    ],
)
def test_wrapped_hosts_are_refused(wrap, state):
    text = f"{state}; insert first, then wrap, shard or compile"
    with pytest.raises(SurgeryError, match=re.escape(text)):
        insert(wrap(make_host("unet")), Order(gate, "**.bottom"))


def test_a_part_that_is_compiled_is_named():
    host = make_host("unet")
    host.bottom.compile(backend="eager")
    refused(host, Order(gate, "bottom"), "host UNet: it is compiled at 'bottom'; insert first, then wrap")


def test_something_else_than_a_module():
    with pytest.raises(SurgeryError, match=r"host str: an nn\.Module was expected"):
        insert("resnet50", Order(gate, "layer1"))


def test_a_host_that_runs_on_no_guess():
    class Strange(nn.Module):
        def forward(self, a, b):
            return a

    text = "host Strange: no inputs could be guessed; give inputs=… (a tensor, shape, tuple or dict)"
    refused(Strange(), Order(gate, ""), text)


def test_inputs_that_do_not_fit():
    text = "host ViT: it could not be run to see the shapes at its sites; give other inputs"
    refused(make_host("vit"), order("vit"), text, inputs=(1, 3, 64, 64))
