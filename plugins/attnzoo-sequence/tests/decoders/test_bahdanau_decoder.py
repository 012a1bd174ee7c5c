import torch

from attnzoo_sequence.decoders.bahdanau_decoder import BahdanauDecoder


def lively(block):
    torch.manual_seed(0)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return block.double()


def test_it_is_the_formula():
    block = lively(BahdanauDecoder(3, 4, align_dim=5))
    embedding, state, key = torch.randn(1, 2, 3).double(), torch.randn(1, 4).double(), torch.randn(1, 6, 8).double()
    states, contexts = block(embedding, state, key)
    s = state[0]
    e_r, e_z, e_s = block.input.weight.chunk(3)
    b_r, b_z, b_s = block.input.bias.chunk(3)
    c_r, c_z, c_s = block.context.weight.chunk(3)
    u_r, u_z = block.gates.weight.chunk(2)
    for t in range(2):
        hidden = torch.tanh(block.score.query.weight @ s + key[0] @ block.score.key.weight.T)
        c = (hidden @ block.score.vector.weight[0]).softmax(0) @ key[0]
        y = embedding[0, t]
        r = torch.sigmoid(e_r @ y + b_r + u_r @ s + c_r @ c)
        z = torch.sigmoid(e_z @ y + b_z + u_z @ s + c_z @ c)
        candidate = torch.tanh(e_s @ y + b_s + block.candidate.weight @ (r * s) + c_s @ c)
        s = z * candidate + (1 - z) * s
        torch.testing.assert_close(states[0, t], s)
        torch.testing.assert_close(contexts[0, t], c)


def test_padding_of_the_source_changes_nothing():
    block = lively(BahdanauDecoder(3, 4))
    embedding, state, key = torch.randn(2, 3, 3).double(), torch.randn(2, 4).double(), torch.randn(2, 6, 8).double()
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    states, _ = block(embedding, state, key, mask)
    alone, _ = block(embedding[1:], state[1:], key[1:, :4])
    torch.testing.assert_close(states[1:], alone)


def test_steps_one_by_one_give_the_same():
    block = lively(BahdanauDecoder(3, 4))
    embedding, key = torch.randn(2, 3, 3).double(), torch.randn(2, 6, 8).double()
    states, _ = block(embedding, None, key)
    state = None
    for t in range(3):
        step, _ = block(embedding[:, t : t + 1], state, key)
        state = step[:, 0]
        torch.testing.assert_close(state, states[:, t])
