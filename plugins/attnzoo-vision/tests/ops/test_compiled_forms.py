"""The forms that a compiler for a CPU is given against the eager ones: numbers, gradients, statistics, layouts."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

import attnzoo
from attnzoo_vision.ops import (
    adaptive_pooling,
    compiling,
    contextual,
    convolution,
    deformable,
    grid_sample,
    group_norm,
    patches,
    plane_conv,
    pooling,
    query_blocks,
    resize,
    shuffled_gates,
    window_filters,
    window_pooling,
)
from attnzoo_vision.ops.adaptive_pooling import adaptive_mean
from attnzoo_vision.ops.batch_norm import BatchNorm1d, BatchNorm2d
from attnzoo_vision.ops.channel_groups import scale_groups
from attnzoo_vision.ops.channel_window import filter_channels
from attnzoo_vision.ops.compiling import kept_sigmoid, kept_silu, kept_softmax, settled
from attnzoo_vision.ops.convolution import convolve, convolve_by, convolve_through
from attnzoo_vision.ops.frames import filter_frames
from attnzoo_vision.ops.gram import gram
from attnzoo_vision.ops.plane_conv import convolve_to_plane
from attnzoo_vision.ops.pooling import global_mean
from attnzoo_vision.ops.position_pooling import position_logits, weighted_sum
from attnzoo_vision.ops.rectify import rectify, rectify_
from attnzoo_vision.ops.relative import relative_map
from attnzoo_vision.ops.strips import pool_strips, scale_by_strips

# torch 2.13 warns of its own way to trace a function with a gradient; 2.14 does not
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])


def compiled(function):
    torch.compiler.reset()
    return torch.compile(function, fullgraph=True, backend="aot_eager")


def assert_same(function, *inputs: Tensor) -> None:
    """Check that outputs, their strides and gradients are those of eager execution."""
    inputs = [t.detach().requires_grad_(t.is_floating_point()) for t in inputs]
    expected, output = function(*inputs), compiled(function)(*inputs)
    torch.testing.assert_close(output, expected)
    assert output.stride() == expected.stride()
    grad = torch.randn_like(expected)
    grads = (torch.autograd.grad(y, inputs, grad) for y in (output, expected))
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        torch.testing.assert_close(compiled(function)(*inputs), expected.detach())


def image(layout: torch.memory_format, channels: int = 8, size: tuple[int, int] = (5, 6)) -> Tensor:
    return torch.randn(4, channels, *size).contiguous(memory_format=layout)


@LAYOUTS
def test_pixel_means(layout):
    assert_same(global_mean, image(layout))


@LAYOUTS
def test_pixel_maxima(layout):
    assert_same(pooling.global_max, image(layout))


def test_large_channels_last_maps_are_pooled_as_small_ones(monkeypatch):
    x = image(torch.channels_last)
    small = [form(x) for form in (global_mean, pooling.square_sum)]
    for bound in ("_CACHED", "_SQUARED"):
        monkeypatch.setattr(pooling, bound, 0)
    torch.testing.assert_close([form(x) for form in (global_mean, pooling.square_sum)], small)


@LAYOUTS
@pytest.mark.parametrize("size", [(1, 1), (3, 3), (5, 5), (4, 7)])
def test_means_of_regions(layout, size):
    assert_same(lambda x: adaptive_mean(x, *size), image(layout))
    assert_same(lambda x: adaptive_mean(x, *size), image(layout, 8, size))


@pytest.mark.parametrize("pixels", [3, 9])
def test_products_of_channels(pixels):
    assert_same(lambda x: gram(x * 1), torch.randn(2, 6, pixels))


@pytest.mark.parametrize("circular", [True, False])
@pytest.mark.parametrize("shape", [(1,), (5,), (8, 5)])
def test_filters_along_the_channels(circular, shape):
    assert_same(lambda x, w: filter_channels(x, w, circular=circular), torch.randn(4, 8), torch.randn(shape))


@LAYOUTS
def test_large_planes_by_rows_of_the_kernel(layout):
    x, weight = torch.randn(2, 2, 32, 33).contiguous(memory_format=layout), torch.randn(1, 2, 7, 7)
    assert_same(convolve_to_plane, x, weight)


def test_sigmoids():
    assert_same(kept_sigmoid, 10 * image(torch.channels_last))


def test_silus():
    assert_same(kept_silu, 10 * image(torch.channels_last))
    with torch.enable_grad():
        half = (10 * image(torch.channels_last)).bfloat16().requires_grad_()
        grads = [torch.autograd.grad(form(half).sum(), half)[0] for form in (compiled(kept_silu), F.silu)]
        assert torch.equal(*grads)


def test_group_norms_of_several_channels_are_operators():
    graphs = []

    def keep(module: torch.fx.GraphModule, _inputs: list[Tensor]):
        graphs.append(module.code)
        return module.forward

    for groups in (3, 6):
        torch.compiler.reset()
        torch.compile(group_norm.GroupNorm(groups, 6), backend=keep)(image(torch.channels_last, 6))
    assert ["attnzoo_vision" in code for code in graphs] == [True, False]


def test_group_norms_may_lose_their_bias():
    norm = group_norm.GroupNorm(3, 6)
    norm.bias = None
    assert_same(norm, image(torch.channels_last, 6))


@LAYOUTS
@pytest.mark.parametrize("size", [(5, 6), (1, 6), (5, 1), (1, 1)])
@pytest.mark.parametrize("samples", [4, 1])
def test_group_norms(layout, size, samples):
    norm = group_norm.GroupNorm(3, 6)
    x = image(layout, 6, size)[::4] if samples == 1 else image(layout, 6, size)
    weights = {"weight": torch.randn(6), "bias": torch.randn(6)}
    with torch.no_grad():
        compiled_by = compiled(lambda x: torch.func.functional_call(norm, weights, (x,)))
        torch.testing.assert_close(compiled_by(x), F.group_norm(x, 3, **weights))
    assert_same(
        lambda x, weight, bias: torch.func.functional_call(norm, {"weight": weight, "bias": bias}, (x,)).contiguous(),
        x,
        *weights.values(),
    )


@LAYOUTS
@pytest.mark.parametrize("dim", [1, 2, -1])
def test_softmax_over_any_axis(layout, dim):
    assert_same(lambda x: kept_softmax(x, dim).contiguous(), 10 * image(layout))


def test_weights_by_relative_places():
    tensors = (torch.randn(2, 3, 6, width) for width in (4, 4, 2, 3))
    assert_same(lambda query, key, row, column: relative_map(query, key, row, column, 0.5), *tensors)


@LAYOUTS
def test_strips(layout):
    def strips(x):
        rows, columns = pool_strips(x)
        return scale_by_strips(x, torch.sigmoid(rows), torch.tanh(columns))

    assert_same(strips, image(layout))
    assert_same(strips, image(layout, 3, (1, 7)))


@LAYOUTS
def test_weights_and_sums_of_positions(layout):
    assert_same(lambda x, w: weighted_sum(x, torch.tanh(position_logits(x, w))), image(layout), torch.randn(1, 8))
    assert_same(position_logits, image(layout), torch.randn(4, 1, 8))


@LAYOUTS
def test_groups_of_channels(layout):
    x = image(layout)
    output = scale_groups(x, torch.rand(4, 2, 5, 6))
    assert output.stride() == x.stride()
    assert_same(scale_groups, x, torch.rand(4, 2, 5, 6))


@LAYOUTS
@pytest.mark.parametrize("bias", [True, False])
def test_1x1_convolutions(layout, bias):
    layer = nn.Conv2d(8, 3, 1, bias=bias)
    assert_same(lambda x: convolve(layer, x), image(layout))
    x = image(layout)
    expected, grads = (
        torch.autograd.grad(form(x).square().sum(), list(layer.parameters()))
        for form in (layer, compiled(lambda x: convolve(layer, x)))
    )
    torch.testing.assert_close(grads, expected)


@pytest.mark.parametrize("options", [{"stride": 2}, {"padding": 1}, {"groups": 4}, {"kernel_size": 3}])
def test_other_convolutions_are_left_alone_by_the_product(options):
    layer = nn.Conv2d(8, 4, **{"kernel_size": 1, **options})
    assert_same(lambda x: convolve(layer, x), image(torch.contiguous_format))


class Twice(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize("planes", [1, 2])
def test_layers_of_other_kinds_and_hooked_ones_are_called(planes):
    other, hooked = Twice(8, planes, 1), nn.Conv2d(8, planes, 1)
    hooked.register_forward_hook(lambda layer, inputs, output: 3 * output)
    x = image(torch.contiguous_format).requires_grad_()
    for layer in (other, hooked):
        for function in (convolve, compiled(convolve)):
            torch.testing.assert_close(function(layer, x), layer(x))


def test_convolutions_of_strips():
    layer = nn.Conv1d(8, 8, 7, padding=3, groups=8, bias=False)
    assert_same(lambda x: convolve(layer, x), torch.randn(4, 8, 9))


@LAYOUTS
def test_convolutions_of_maps(layout):
    layer = nn.Conv2d(8, 6, 3, stride=2, padding=2, dilation=2, groups=2)
    assert_same(lambda x: convolve(layer, x), image(layout))
    assert_same(convolve_by, image(layout), torch.randn(1, 8, 7, 7), torch.randn(1))


@LAYOUTS
@pytest.mark.parametrize("options", [{"groups": 2}, {"bias": False, "padding": 1}, {"output_padding": 1}])
def test_transposed_convolutions(layout, options):
    layer = nn.ConvTranspose2d(8, 6, 4, stride=2, **options)
    assert_same(lambda x: convolve(layer, x), image(layout))


@LAYOUTS
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
def test_maps_read_at_points(layout, mode, padding_mode):
    grid = 2.4 * torch.rand(4, 7, 3, 2) - 1.2
    assert_same(lambda x, g: grid_sample.grid_sample(x, g, mode, padding_mode, align_corners=True), image(layout), grid)


@LAYOUTS
def test_patches_of_maps(layout):
    assert_same(lambda x: patches.unfold(x, 3).contiguous(), image(layout))
    assert_same(lambda x: patches.fold(x, [5, 6], 3), torch.randn(2, 30, 18))


@pytest.mark.parametrize("queries", [5, 1])
def test_several_maps_read_at_points(queries):
    def sampled(value, place, weight):
        y = deformable.sample_levels(value, [(4, 3), (2, 2)], place, weight)
        # the axis of a single query may have any stride
        return y if queries > 1 else y.clone(memory_format=torch.contiguous_format)

    place, weight = torch.rand(2, queries, 2, 2, 3, 2), torch.rand(2, queries, 2, 2, 3)
    assert_same(sampled, torch.randn(2, 16, 2, 3), place, weight)


@LAYOUTS
@pytest.mark.parametrize("options", [("bilinear", True), ("bilinear", False), ("nearest", None)])
@pytest.mark.parametrize("size", [(3, 9), (5, 6), (12, 13)])
def test_resized_maps(layout, options, size):
    mode, corners = options

    def resized(x):
        return resize.resize(x, size, mode, align_corners=bool(corners))

    x = image(layout)
    torch.testing.assert_close(compiled(resized)(x), F.interpolate(x, size, mode=mode, align_corners=corners))
    assert_same(resized, x)
    assert compiled(resized)(x[:0].requires_grad_()).shape == (0, 8, *size)


@LAYOUTS
@pytest.mark.parametrize(
    ("kind", "sizes", "options"),
    [
        ("max_pool2d", (3, 2, 1), {}),
        ("max_pool2d", (2,), {"ceil_mode": True}),
        ("max_pool2d", ([2, 3], [1, 2]), {}),
        ("avg_pool2d", (3, 2, 1), {}),
        ("avg_pool2d", (2,), {"ceil_mode": True}),
        ("avg_pool2d", (5, 3, 2), {"count_include_pad": False}),
    ],
)
def test_windows_of_pixels(layout, kind, sizes, options):
    def pooled(x):
        return getattr(window_pooling, kind)(x, *sizes, **options)

    x = image(layout).requires_grad_()
    torch.testing.assert_close(compiled(pooled)(x), getattr(F, kind)(x, *sizes, **options))
    assert_same(pooled, x)


@pytest.mark.parametrize("window", [(3, 5, 1), (1, 1, 7)])
def test_convolutions_of_volumes(window):
    assert_same(convolve_by, torch.randn(2, 4, 5, 6, 7), torch.randn(3, 4, *window), torch.randn(3))


@LAYOUTS
def test_sequences_of_layers_and_their_hooks(layout):
    layers = nn.Sequential(nn.Conv2d(8, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 1))
    assert_same(lambda x: convolve_through(layers, x), image(layout))
    layers[1].register_forward_hook(lambda layer, inputs, output: 3 * output)
    assert_same(lambda x: convolve_through(layers, x), image(layout))


def test_convolutions_by_frozen_weights_give_the_gradient_of_the_map():
    layer = nn.Conv1d(8, 8, 3, padding=1).requires_grad_(False)
    assert_same(lambda x: convolve(layer, x), torch.randn(4, 8, 9))


@pytest.mark.parametrize("taps", [1, 3, 9])
@pytest.mark.parametrize("steady", [True, False])
def test_filters_along_time(taps, steady):
    weights = [torch.randn(2, 1 if steady else 3, 8, 1, 1) for _ in range(taps)]
    for x in (torch.randn(2, 3, 8, 5, 6), torch.randn(2, 3, 5, 6, 8).permute(0, 1, 4, 2, 3)):
        assert_same(lambda x, *w: filter_frames(x, w), x, *weights)


@pytest.mark.parametrize("function", [rectify, lambda x: rectify_(x + 0)])
def test_rectified_maps(function):
    assert_same(function, image(torch.contiguous_format))
    assert_same(function, torch.tensor([-1.0, -0.0, 0.0, 1.0, float("inf")]))
    assert compiled(function)(torch.tensor([float("nan")])).isnan()


@pytest.mark.parametrize("momentum", [0.1, 3e-4])
@pytest.mark.parametrize(
    ("kind", "make"),
    [
        (BatchNorm2d, lambda: image(torch.contiguous_format)),
        (BatchNorm2d, lambda: image(torch.channels_last)),
        (BatchNorm1d, lambda: torch.randn(9, 8)),
        (BatchNorm1d, lambda: torch.randn(4, 8, 7)),
    ],
    ids=["maps", "channels_last", "vectors", "lines"],
)
def test_batch_norm_and_its_statistics(kind, make, momentum):
    exact, norm = kind(8, momentum=momentum).double(), kind(8, momentum=momentum)
    x = 3 * make() + 100
    inputs = [x.double().requires_grad_(), x.clone().requires_grad_()]
    outputs = (exact(inputs[0]), compiled(norm)(inputs[1]))
    torch.testing.assert_close(outputs[1].double(), outputs[0], rtol=1e-4, atol=1e-4)
    grad = torch.randn_like(x)
    for output in outputs:
        output.backward(grad.to(output.dtype))
    torch.testing.assert_close(inputs[1].grad.double(), inputs[0].grad, rtol=1e-4, atol=1e-4)
    # the mean is rounded like the numbers, and that is all of their deviation which single precision can tell
    rounding = torch.finfo(x.dtype).eps * (x.abs().max() / x.std()) * grad.abs().sum() / 8
    for name, parameter in exact.named_parameters():
        torch.testing.assert_close(
            norm.get_parameter(name).grad.double(), parameter.grad, rtol=1e-4, atol=rounding.item()
        )
    for name, buffer in exact.named_buffers():
        torch.testing.assert_close(norm.get_buffer(name).to(buffer.dtype), buffer, rtol=1.3e-6, atol=1e-5)


def test_one_value_a_channel_is_normalised_as_before():
    norm = BatchNorm2d(8)
    torch.testing.assert_close(compiled(norm)(torch.ones(1, 8, 1, 1)), BatchNorm2d(8)(torch.ones(1, 8, 1, 1)))


def test_settled_tensors_and_their_gradients_are_contiguous():
    turned = torch.randn(3, 4, 5).transpose(1, 2).requires_grad_()
    settle = compiled(lambda x: settled(x) * 1)
    assert settle(turned).is_contiguous()
    assert_same(settled, turned)


def layer_inputs(shape: tuple[int, ...], stride: int, *, transposed: bool) -> tuple:
    """Return a map, weights of ``shape`` and a bias of 6 channels, and the sizes of a convolution in two groups."""
    tensors = (image(torch.channels_last), torch.randn(shape), torch.randn(6))
    return *(t.requires_grad_() for t in tensors), [stride, stride], [1, 1], [1, 1], 2, transposed


def window_inputs() -> tuple:
    """Return a map, and kernel, stride and padding of a pooling."""
    return image(torch.channels_last).requires_grad_(), [3, 2], [2, 2], [1, 1]


OPERATORS = {
    "adaptive mean": (adaptive_pooling._operator, lambda: (image(torch.channels_last).requires_grad_(), 3, 4)),
    "sigmoid": (compiling._sigmoid, lambda: (image(torch.channels_last).requires_grad_(),)),
    "shuffled gates": (
        shuffled_gates._operator,
        lambda: (
            image(torch.channels_last, 16).requires_grad_(),
            [torch.randn(4, requires_grad=True) for _ in range(4)],
            2,
            1e-5,
        ),
    ),
    "grid sample": (
        grid_sample._operator,
        lambda: (
            image(torch.channels_last).requires_grad_(),
            (2 * torch.rand(4, 3, 7, 2) - 1).requires_grad_(),
            0,
            1,
            True,
        ),
    ),
    "unfold": (patches._operator, lambda: (image(torch.channels_last).requires_grad_(), 3)),
    "fold": (patches._fold_operator, lambda: (torch.randn(2, 18, 30, requires_grad=True), [5, 6], 3)),
    "turn pairs of one query": (
        deformable._turn_operator,
        lambda: (torch.randn(2, 1, 4, 5, 2, requires_grad=True), [0, 2, 3, 1]),
    ),
    "global max": (pooling._max_operator, lambda: (image(torch.channels_last),)),
    "turn pairs": (deformable._turn_operator, lambda: (torch.randn(2, 3, 4, 5, 2, requires_grad=True), [0, 2, 3, 1])),
    "max pool": (window_pooling._max_operator, lambda: (*window_inputs(), True)),
    "avg pool": (window_pooling._avg_operator, lambda: (*window_inputs(), True, False)),
    "resize": (resize._operator, lambda: (image(torch.channels_last).requires_grad_(), [7, 3], "bilinear", True)),
    "repeat": (resize._operator, lambda: (image(torch.channels_last).requires_grad_(), [7, 3], "nearest", False)),
    "group norm": (
        group_norm._norm_operator,
        lambda: (
            image(torch.channels_last).requires_grad_(),
            *(torch.randn(8, requires_grad=True) for _ in range(2)),
            4,
            1e-5,
        ),
    ),
    "softmax": (compiling._softmax, lambda: (image(torch.channels_last).requires_grad_(), 1)),
    "merge windows": (
        window_filters._merge_operator,
        lambda: (torch.randn(2, 3, 3, 3, 3, 3, 5, 6, requires_grad=True),),
    ),
    "split windows": (window_filters._split_operator, lambda: (torch.randn(2, 3, 5, 5, 5, 6, requires_grad=True),)),
    "apply filters": (
        window_filters._apply_operator,
        lambda: (torch.randn(2, 3, 4, 9, requires_grad=True), torch.randn(2, 3, 2, 7, requires_grad=True), [2, 0]),
    ),
    "aggregate locally": (
        contextual._aggregate_operator,
        lambda: (image(torch.channels_last, 8).requires_grad_(), image(torch.channels_last, 36).requires_grad_(), 3, 2),
    ),
    "convolve by rows": (plane_conv._operator, lambda: (image(torch.channels_last, 2), torch.randn(1, 2, 3, 3))),
    "mean": (pooling._mean_operator, lambda: (image(torch.channels_last).requires_grad_(),)),
    "settle": (compiling._settle, lambda: (torch.randn(3, 4, 5).transpose(1, 2).requires_grad_(),)),
    "convolve": (convolution._operator, lambda: layer_inputs((6, 4, 3, 3), 1, transposed=False)),
    "convolve transposed": (convolution._operator, lambda: layer_inputs((8, 3, 4, 4), 2, transposed=True)),
    "attend": (
        query_blocks._operator,
        lambda: (*(torch.randn(2, 6, width, requires_grad=True) for width in (2, 2, 5)), None, None, 0.5),
    ),
    "attend with rows and columns": (
        query_blocks._operator,
        lambda: (*(torch.randn(2, 6, width, requires_grad=True) for width in (2, 2, 5, 2, 3)), 0.5),
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_tell_compilers_the_truth(name):
    operator, inputs = OPERATORS[name]
    torch.library.opcheck(operator, inputs())


@pytest.mark.parametrize(
    "name", ["danet-position-attention", "ela", "ema", "se", "external-attention", "bam", "gam", "lambda-layer", "sk"]
)
def test_exports_hold_operators_of_torch_alone(name):
    assert_exported_plainly(attnzoo.create(name, channels=64), image(torch.channels_last, 64, (8, 8)))


def test_exported_token_blocks_hold_operators_of_torch_alone():
    outlook = attnzoo.create("outlook-attention", embed_dim=64, num_heads=2)
    assert_exported_plainly(outlook, torch.randn(1, 14, 14, 64))
    halo = attnzoo.create("halo-attention", channels=64, num_heads=2, block_size=7)
    assert_exported_plainly(halo, torch.randn(1, 64, 14, 14))


def assert_exported_plainly(block: nn.Module, x: Tensor) -> None:
    program = torch.export.export(block.eval(), (x,))
    assert not [node for node in program.graph.nodes if "attnzoo" in str(node.target)]


@pytest.mark.parametrize("name", ["ela", "external-attention", "bam", "triplet-attention"])
def test_autocast_and_the_compiler_go_together(name):
    block = attnzoo.create(name, **({} if name == "triplet-attention" else {"channels": 64}))
    with torch.autocast("cpu", torch.bfloat16):
        assert compiled(block)(image(torch.channels_last, 64)).isfinite().all()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own, in forward mode
@pytest.mark.parametrize("name", ["se", "bam"])
def test_transforms_of_functions_are_compiled_from_plain_forms(name):
    block, x = attnzoo.create(name, channels=32).eval(), image(torch.channels_last, 32)

    def slope(x):
        return torch.func.jvp(block, (x,), (torch.ones_like(x),))[1]

    def gradient(x):
        return torch.func.grad(lambda x: block(x).square().sum())(x)

    for function in (slope, gradient) if name == "se" else (gradient,):  # torch has no jvp of the others
        torch.testing.assert_close(compiled(function)(x), function(x), rtol=1e-4, atol=1e-5)


def test_pruned_layers_are_masked_anew_when_compiled():
    block, x = attnzoo.create("scse", channels=32).train(), image(torch.contiguous_format, 32)
    prune.l1_unstructured(block.spatial, "weight", 0.5)
    block(x)
    function = compiled(block)
    with torch.no_grad():
        block.spatial.weight_orig.mul_(3)
    torch.testing.assert_close(function(x), block(x))


def test_an_empty_batch_leaves_the_statistics():
    norm = BatchNorm2d(8)
    compiled(norm)(torch.randn(0, 8, 5, 6))
    assert all(buffer.isfinite().all() for buffer in norm.buffers())


def test_large_maps_pass_on_the_meta_device():
    block = attnzoo.create("mlca", channels=16).to("meta")
    assert block(torch.empty(2, 16, 32, 32, device="meta")).shape == (2, 16, 32, 32)
