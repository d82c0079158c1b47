import dataclasses
import inspect
import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from samples import varied
from variants import VARIANTS, optimizer_for, tables, variant

import nnscratch
from nnscratch import AdamW, KeyValueCache, TransformerBlock, TransformerConfig, TransformerLM, count_parameters
from nnscratch.functional import dropout, ngram_rows


def ids(config, length=None, batch=2):
    return torch.randint(config.vocab_size, (batch, length or config.context_length))


def reference_logits(model, token_ids):
    """The pre-norm model in the words of torch.nn.functional."""
    config, weights = model.config, model.state_dict()
    length, size = token_ids.shape[1], config.d_k
    angles = torch.outer(torch.arange(length), config.rope_theta ** -(torch.arange(0, size, 2) / size))
    turns = torch.polar(torch.ones_like(angles), angles)

    def rotate(x):
        return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turns).flatten(-2)

    def norm(x, name):
        return F.rms_norm(x, x.shape[-1:], weights[f"{name}.weight"], eps=1e-5)

    x = F.embedding(token_ids, weights["token_embeddings.weight"])
    for index in range(config.num_layers):
        layer = f"layers.{index}"
        h = norm(x, f"{layer}.ln1")
        q, k, v = (
            F.linear(h, weights[f"{layer}.attn.{n}_proj.weight"]).unflatten(-1, (config.num_heads, -1)).transpose(1, 2)
            for n in "qkv"
        )
        h = F.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True).transpose(1, 2).flatten(-2)
        x = x + F.linear(h, weights[f"{layer}.attn.output_proj.weight"])
        h = norm(x, f"{layer}.ln2")
        w1, w2, w3 = (weights[f"{layer}.ffn.w{n}.weight"] for n in (1, 2, 3))
        x = x + F.linear(F.silu(F.linear(h, w1)) * F.linear(h, w3), w2)
    return F.linear(norm(x, "ln_final"), weights["lm_head.weight"])


@pytest.mark.parametrize("length", [1, 7, 16])
def test_logits_are_those_of_torch(model, config, length):
    token_ids = ids(config, length)
    torch.testing.assert_close(model(token_ids), reference_logits(model, token_ids), atol=1e-4, rtol=1e-4)


def test_state_dict_names(model):
    layer = [
        *(f"attn.{name}_proj.weight" for name in ("q", "k", "v", "output")),
        *(f"ffn.w{n}.weight" for n in (1, 2, 3)),
        "ln1.weight",
        "ln2.weight",
    ]
    expected = {f"layers.{index}.{name}" for index in range(2) for name in layer}
    assert set(model.state_dict()) == expected | {"token_embeddings.weight", "ln_final.weight", "lm_head.weight"}


def test_a_block_works_alone(model, config):
    block = TransformerBlock(config)
    block.load_state_dict(model.layers[0].state_dict())
    x = torch.randn(2, 5, 32)
    assert torch.equal(block(x), model.layers[0](x))


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_variant_learns_and_its_loss_is_the_cross_entropy_of_its_logits(config, changes):
    model = variant(config, changes)
    assert count_parameters(model) == count_parameters(model.config)
    inputs, targets = ids(config), ids(config)
    optimizer = optimizer_for(model, lr=1e-3)
    losses = []
    for _ in range(5):
        loss = model.loss(inputs, targets)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        assert all(param.grad.to_dense().isfinite().all() for param in model.parameters())
        optimizer.step()
    assert losses[-1] < losses[0]
    expected = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    torch.testing.assert_close(model.loss(inputs, targets), expected)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_no_logit_depends_on_a_later_token(config, changes):
    model = variant(config, changes)
    token_ids = ids(config)
    changed = token_ids.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % config.vocab_size
    torch.testing.assert_close(model(token_ids)[:, :9], model(changed)[:, :9], atol=1e-5, rtol=1e-5)


def test_the_norms_of_each_kind(config):
    def norms(kind):
        names = TransformerLM(dataclasses.replace(config, norm=kind)).state_dict()
        return {name for name in names if ".ln" in name or name.startswith("ln")}

    blocks = {f"layers.{index}.ln{n}.weight" for index in range(2) for n in (1, 2)}
    assert norms("pre") == blocks | {"ln_final.weight"}
    assert norms("reordered") == blocks | {"ln_final.weight"}
    assert norms("post") == blocks
    assert norms("none") == set()


@pytest.mark.parametrize("norm", ["post", "none"])
def test_the_place_of_the_norm(config, norm):
    block, x = TransformerBlock(dataclasses.replace(config, norm=norm)), torch.randn(2, 5, 32)
    first, second = (block.ln1, block.ln2) if norm == "post" else (lambda y: y, lambda y: y)
    middle = first(x + block.attn(x))
    torch.testing.assert_close(block(x), second(middle + block.ffn(middle)))


def test_reordered_norms_are_on_the_branches(config):
    block, x = varied(TransformerBlock(dataclasses.replace(config, norm="reordered"))), torch.randn(2, 5, 32)
    middle = x + block.ln1(block.attn(x))
    torch.testing.assert_close(block(x), middle + block.ln2(block.ffn(middle)))


def test_each_layer_has_its_window_and_its_positions(config):
    changes = {"num_layers": 4, "window": 3, "full_attention_layers": (1,), "no_rope_layers": (2, 3)}
    model = TransformerLM(dataclasses.replace(config, **changes))
    assert [layer.attn.window for layer in model.layers] == [3, None, 3, 3]
    assert [layer.attn.rope is None for layer in model.layers] == [False, False, True, True]
    # Through one window of three and one of three more, the last position sees four before it.
    narrow = TransformerLM(dataclasses.replace(config, window=3))
    token_ids = ids(config)[:1].repeat(2, 1)
    token_ids[1, :4] = (token_ids[1, :4] + 1) % config.vocab_size
    logits = narrow(token_ids)
    torch.testing.assert_close(logits[0, 8:], logits[1, 8:])
    assert not torch.allclose(logits[0, 7], logits[1, 7])


@pytest.mark.parametrize("norm", ["pre", "post", "reordered", "none"])
def test_dropout_in_the_embeddings_and_branches_acts_in_training_only(config, norm):
    config = dataclasses.replace(config, norm=norm, num_layers=1)
    plain, dropping = TransformerLM(config), TransformerLM(dataclasses.replace(config, dropout=0.5))
    dropping.load_state_dict(plain.state_dict())
    token_ids = ids(config)
    torch.manual_seed(1)
    output = dropping(token_ids)
    torch.manual_seed(1)
    block = plain.layers[0]
    x = dropout(plain.token_embeddings(token_ids), 0.5, training=True)
    if norm == "pre":
        x = x + dropout(block.attn(block.ln1(x)), 0.5, training=True)
        x = plain.ln_final(x + dropout(block.ffn(block.ln2(x)), 0.5, training=True))
    elif norm == "post":
        x = block.ln1(x + dropout(block.attn(x), 0.5, training=True))
        x = block.ln2(x + dropout(block.ffn(x), 0.5, training=True))
    elif norm == "reordered":
        x = x + dropout(block.ln1(block.attn(x)), 0.5, training=True)
        x = plain.ln_final(x + dropout(block.ln2(block.ffn(x)), 0.5, training=True))
    else:
        x = x + dropout(block.attn(x), 0.5, training=True)
        x = x + dropout(block.ffn(x), 0.5, training=True)
    torch.testing.assert_close(output, plain.lm_head(x))
    assert torch.equal(dropping.eval()(token_ids), plain(token_ids))


@pytest.mark.parametrize(
    "changes", [{}, {"window": 3}, {"position": "none", "num_kv_heads": 2}, {"ngram_rows": 97, "ngrams": (2, 3, 5)}]
)
def test_documents_in_one_sequence_do_not_see_one_another(config, changes):
    model = variant(config, {"document_separator": 7, **changes})
    first, second, third = [3, 4, 5, 6, 8], [7, 9, 1], [7, 2, 3, 4]
    together = torch.tensor([[*first, *second, *third], [7, *first, 7, *first]])
    expected = torch.cat([model(torch.tensor([document])) for document in (first, second, third)], dim=1)
    torch.testing.assert_close(model(together)[:1], expected)
    alone = model(torch.tensor([[7, *first]]))
    torch.testing.assert_close(model(together)[1:], torch.cat((alone, alone), dim=1))
    for pieces in ((1,) * 12, (4, 1, 5, 2), (6, 6)):
        cache = KeyValueCache(2, 12)
        found = [model(piece, cache) for piece in together.split(pieces, dim=1)]
        torch.testing.assert_close(torch.cat(found, dim=1), model(together))
    other = dataclasses.replace(model.config, document_separator=None)
    assert not torch.allclose(TransformerLM(other)(together)[:, 6:], model(together)[:, 6:])


def test_ngrams_add_the_vectors_of_their_rows_to_the_embeddings(config):
    model = variant(config, {"ngram_rows": 97, "ngrams": (2, 4), "num_layers": 1})
    assert {"ngram_embeddings.2.weight", "ngram_embeddings.4.weight"} < set(model.state_dict())
    plain = TransformerLM(dataclasses.replace(config, num_layers=1))
    plain.load_state_dict(model.state_dict(), strict=False)
    token_ids = ids(config)
    vectors = model.token_embeddings(token_ids)
    for n, table in ((2, tables(model)[0]), (4, tables(model)[1])):
        for row, place in [(row, place) for row in range(2) for place in range(16)]:
            ngram = [-1] * (n - 1 - place) + token_ids[row, max(place - n + 1, 0) : place + 1].tolist()
            vectors[row, place] += table[ngram_rows(torch.tensor(ngram), 97)]
    plain.token_embeddings.forward = lambda _: vectors
    torch.testing.assert_close(model(token_ids), plain(token_ids))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_ngrams_continue_after_a_cache_and_padding(config, dtype):
    model = variant(config, {"ngram_rows": 97, "ngrams": (2, 3, 5)})
    token_ids = ids(config, 12).to(dtype)
    padded = torch.cat((token_ids[:, :3], token_ids), dim=1)  # ids in front that are not looked at
    padding = torch.tensor([3, 3])
    torch.testing.assert_close(model(padded, padding=padding)[:, 3:], model(token_ids))
    cache = KeyValueCache(2, 15)
    for pieces in ((1,) * 15, (1, 5, 2, 7), (2, 12, 1)):
        cache.reset()
        assert cache.previous_ids is None
        found = torch.cat([model(piece, cache, padding) for piece in padded.split(pieces, dim=1)], dim=1)
        torch.testing.assert_close(found[:, 3:], model(token_ids))
        assert torch.equal(cache.previous_ids, token_ids[:, -4:].long())
    with pytest.raises(
        ValueError, match="token_ids has 1 sequences, but the cache holds 2; pass the same sequences, or"
    ):
        model(token_ids[:1, :1], cache)


def test_the_optimizer_in_the_docstring_trains_tables_of_ngrams(config):
    model = TransformerLM(dataclasses.replace(config, ngram_rows=97))
    lines = [line[4:] for line in inspect.getdoc(TransformerLM).splitlines() if line.startswith("    ") and "=" in line]
    assert len(lines) == 3
    names = vars(nnscratch) | {"model": model}
    exec("\n".join(lines), names)
    optimizer = names["optimizer"]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    inputs, targets = ids(config), ids(config)
    losses = []
    for _ in range(5):
        loss = model.loss(inputs, targets)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert all(table.grad.is_sparse for table in tables(model))
    assert all(table.any() for table in tables(model))
    with pytest.raises(ValueError, match=r"AdamW got a sparse gradient .* give the parameter to RowwiseAdagrad"):
        AdamW(model.parameters()).step()


def test_attention_may_be_another_function(config):
    def torch_attention(q, k, v, first_keys=None):
        assert first_keys is None
        calls.append(q.shape)
        return F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[-2] > 1, enable_gqa=True)

    calls = []
    config = dataclasses.replace(config, num_kv_heads=2)
    ours, theirs = TransformerLM(config), TransformerLM(config, attend=torch_attention)
    theirs.load_state_dict(ours.state_dict())
    token_ids = ids(config)
    torch.testing.assert_close(theirs(token_ids), ours(token_ids))
    assert len(calls) == config.num_layers


def test_without_positions_the_order_of_earlier_tokens_does_not_matter(config):
    token_ids = torch.tensor([[1, 2, 3, 4]])
    swapped = torch.tensor([[2, 1, 3, 4]])
    one_layer = dataclasses.replace(config, num_layers=1)
    blind = TransformerLM(dataclasses.replace(one_layer, position="none"))
    torch.testing.assert_close(blind(token_ids)[:, -1], blind(swapped)[:, -1], atol=1e-5, rtol=1e-5)
    seeing = TransformerLM(one_layer)
    assert not torch.allclose(seeing(token_ids)[:, -1], seeing(swapped)[:, -1], atol=1e-3)


def test_silu_has_the_parameters_of_swiglu():
    base = TransformerConfig(2048, 128, 384, 4, 4, 1024)
    assert count_parameters(dataclasses.replace(base, ffn="silu", d_ff=4 * 384)) == count_parameters(base)


def test_tied_embeddings_are_one_matrix_and_start_with_small_logits(config):
    config = TransformerConfig(1000, 16, 256, 2, 4, 512, tie_embeddings=True)
    model = TransformerLM(config)
    assert model.lm_head.weight is model.token_embeddings.weight
    assert model.token_embeddings.weight.std().item() == pytest.approx(1 / 16, rel=0.03)
    loss = model.loss(ids(config, batch=8), ids(config, batch=8)).item()
    assert loss == pytest.approx(math.log(1000), abs=1.0)


def test_a_new_model_predicts_all_tokens_alike(config):
    model = TransformerLM(TransformerConfig(1000, 16, 64, 2, 4, 128))
    inputs, targets = torch.randint(1000, (2, 16, 16))
    assert model.loss(inputs, targets).item() == pytest.approx(math.log(1000), abs=0.3)


def test_logits_stay_below_the_cap(config):
    model = TransformerLM(dataclasses.replace(config, logit_soft_cap=0.5))
    token_ids = ids(config)
    logits = model(token_ids)
    assert logits.abs().max() < 0.5
    plain = TransformerLM(config)
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(logits, 0.5 * torch.tanh(plain(token_ids) / 0.5))


def test_too_long_an_input_is_refused(model, config):
    with pytest.raises(ValueError, match=r"an input of 17 tokens exceeds context_length=16; shorten it or"):
        model(ids(config, 17))
    with pytest.raises(ValueError, match="17 tokens"):
        model.loss(ids(config, 17), ids(config, 17))


@pytest.mark.parametrize("shape", [(2, 0), (0, 4), (0, 0)])
@pytest.mark.parametrize("grad", [True, False])
def test_no_tokens_have_no_logits(config, shape, grad):
    model = TransformerLM(dataclasses.replace(config, d_model=128))  # whose weights Linear reads in parts
    with torch.set_grad_enabled(grad):
        assert model(torch.empty(shape, dtype=torch.long)).shape == (*shape, config.vocab_size)
        padding = torch.zeros(shape[0], dtype=torch.long)
        assert model(torch.empty(shape, dtype=torch.long), padding=padding).shape == (*shape, config.vocab_size)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize(
    "changes",
    [
        {"logit_soft_cap": 5.0, "num_kv_heads": 2},
        {"qk_norm": True, "norm": "post", "ffn": "relu_squared"},
        {"ngram_rows": 97, "document_separator": 3},
    ],
    ids=str,
)
def test_compiles_as_one_graph(unchecked_shapes, config, changes):
    model = variant(config, {"num_layers": 1, **changes})
    inputs, targets = ids(config), ids(config)
    loss = model.loss(inputs, targets)
    expected = torch.autograd.grad(loss, list(model.parameters()))
    torch.compiler.reset()
    compiled = torch.compile(model.loss, fullgraph=True, backend="aot_eager")(inputs, targets)
    torch.testing.assert_close(compiled, loss)
    for ours, exact in zip(torch.autograd.grad(compiled, list(model.parameters())), expected, strict=True):
        torch.testing.assert_close(ours, exact.to_dense(), atol=1e-5, rtol=1e-4)
    logits = torch.compile(model, fullgraph=True, backend="eager")(inputs)
    torch.testing.assert_close(logits, model(inputs), atol=1e-5, rtol=1e-5)


def test_autocast_stays_close_and_gives_gradients_in_float32(model, config):
    inputs, targets = ids(config), ids(config)
    exact = model.loss(inputs, targets)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(inputs, targets)
        assert model(inputs).dtype == torch.bfloat16
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.01)
    assert all(param.grad.dtype == torch.float32 for param in model.parameters())


def test_a_model_can_be_built_on_meta(config):
    model = TransformerLM(config, device="meta", dtype=torch.bfloat16)
    assert {param.device.type for param in model.parameters()} == {"meta"}
    assert {param.dtype for param in model.parameters()} == {torch.bfloat16}


def test_a_model_on_meta_computes_shapes(config):
    model, token_ids = TransformerLM(config, device="meta"), ids(config).to("meta")
    logits = model(token_ids)
    assert (logits.device.type, logits.shape) == ("meta", (*token_ids.shape, config.vocab_size))
    model.loss(token_ids, token_ids).backward()
    assert all(param.grad.shape == param.shape for param in model.parameters())


def test_a_model_filled_later_is_the_same(model, config):
    later = TransformerLM(config, device="meta").to_empty(device="cpu")
    later.load_state_dict(model.state_dict())
    token_ids = ids(config)
    assert torch.equal(later(token_ids), model(token_ids))


def test_the_same_seed_gives_the_same_losses(config):
    def losses():
        torch.manual_seed(7)
        model = TransformerLM(config)
        optimizer, inputs, targets = AdamW(model.parameters()), ids(config), ids(config)
        result = []
        for _ in range(3):
            loss = model.loss(inputs, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            result.append(loss.item())
        return result

    assert losses() == losses()


def loss_and_gradients(model, compute, inputs, targets):
    model.zero_grad()
    torch.manual_seed(3)  # of dropout
    loss = compute(inputs, targets)
    loss.backward()
    return [loss.detach(), *(param.grad.to_dense().clone() for param in model.parameters())]


def bytes_kept(model, inputs, targets):
    """Bytes of all different tensors, parameters aside, that the forward pass keeps for the backward pass."""
    kept, known = {}, {param.data_ptr() for param in model.parameters()}

    def remember(tensor):
        if tensor.data_ptr() not in known:
            kept[tensor.untyped_storage().data_ptr()] = tensor  # kept alive, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        model.loss(inputs, targets)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


class Dropped(torch.nn.Module):
    """A block followed by dropout."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x, *others):
        return F.dropout(self.block(x, *others), 0.3)


@pytest.mark.parametrize("changes", [*VARIANTS, "dropout"], ids=str)
def test_checkpointed_blocks_give_equal_gradients(config, changes):
    model = variant(config, {} if changes == "dropout" else changes)
    if changes == "dropout":
        model.layers = torch.nn.ModuleList(Dropped(block) for block in model.layers)
    inputs, targets = ids(config), ids(config)
    expected = loss_and_gradients(model, model.loss, inputs, targets)
    model.checkpoint_blocks = True
    for ours, exact in zip(loss_and_gradients(model, model.loss, inputs, targets), expected, strict=True):
        assert torch.equal(ours, exact)


def test_checkpointed_blocks_keep_their_inputs_only(config):
    config = dataclasses.replace(config, num_layers=6)
    model = TransformerLM(config)
    inputs, targets = ids(config), ids(config)
    whole = bytes_kept(model, inputs, targets)
    model.checkpoint_blocks = True
    few = bytes_kept(model, inputs, targets)
    stream = inputs.numel() * config.d_model * 4  # bytes of the residual stream
    without_blocks = TransformerLM(dataclasses.replace(config, num_layers=1))
    without_blocks.layers = torch.nn.ModuleList()
    assert few <= bytes_kept(without_blocks, inputs, targets) + config.num_layers * stream
    assert whole > 6 * few


def test_checkpointed_blocks_compute_twice_only_for_a_backward_pass(config, model):
    model.checkpoint_blocks = True
    calls = []
    model.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    loss = model.loss(ids(config), ids(config))
    assert len(calls) == 1
    loss.backward()
    assert len(calls) == 2
    with torch.no_grad():
        model.loss(ids(config), ids(config))
    assert len(calls) == 3
    padding = torch.tensor([0, 3])
    model(ids(config), padding=padding).sum().backward()
    assert len(calls) == 5


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
def test_checkpointed_blocks_compile_as_one_graph(unchecked_shapes, config, model):
    inputs, targets = ids(config), ids(config)
    expected = loss_and_gradients(model, model.loss, inputs, targets)
    model.checkpoint_blocks = True
    torch.compiler.reset()
    compiled = torch.compile(model.loss, fullgraph=True, backend="aot_eager")
    for ours, exact in zip(loss_and_gradients(model, compiled, inputs, targets), expected, strict=True):
        torch.testing.assert_close(ours, exact)
