"""The speedrun model: nnscratch's Transformer with what the speedruns of small language models have found."""

import torch
from torch import Tensor, nn

from nnscratch import Embedding, KeyValueCache, LanguageModel, Linear, RMSNorm, RotaryEmbedding
from nnscratch.autocast import cast_for_autocast
from owt_leaderboard.model.bigrams import BigramEmbedding
from owt_leaderboard.model.block import SpeedrunBlock
from owt_leaderboard.model.config import SpeedrunConfig

HEAD_STD = 0.001
"""Standard deviation of a zero-initialised model's output layer (nanochat's): small, but gradients pass through it."""


class SpeedrunLM(LanguageModel):
    """A pre-norm Transformer with rotary positions and the additions that `SpeedrunConfig` switches on.

    With `ffn="swiglu"` and everything else off it is `nnscratch.TransformerLM`, to the bit. Parameters that two
    configs have both start alike from the same seed, as far as their switches do not initialise them otherwise: what
    is added draws its numbers last, or none.

    Where it comes from (modded-nanogpt: github.com/KellerJordan/modded-nanogpt, numbers are its records of track 1;
    nanochat: github.com/karpathy/nanochat), and what is different here:

    - ReLU² (So et al. 2021, Primer; record 5) in the place of SwiGLU.
    - QK-norm (Henry et al. 2020; record 5): RMSNorm of each head's queries and keys, before they are turned as there;
      the norms have gains here, and so have all others.
    - Zero-initialised projections (record 5): `SpeedrunBlock`. The output layer starts at N(0, 0.001²) like nanochat's,
      not at zero as in the record, so that the blocks learn from the second step on rather than the third. A new model
      has logits that are near zero and depend on the token alone. A tied matrix is an embedding too and stays as
      `TransformerLM` draws it.
    - Soft-capped logits (Gemma Team 2024; records 9 and 18): cap · tanh(z / cap).
    - Value embeddings (records 14 to 17) in nanochat's form: on every other block, the last among them, with a gate
      for each head (`ValueGate`). Tables start with the standard deviation of `v_proj`, 1 / sqrt(d_model).
    - Skip connections (record 11; U-Net, Ronneberger et al. 2015): the input of block L - 1 - i gets the output of
      block i, times a learned scale that starts at 1, for i in the first half. With an odd number of blocks the one in
      the middle gets nothing.
    - Normalised embeddings x0 (record 9, nanochat): embeddings have high rates and grow, and without a norm what the
      blocks add to them counts less and less.
    - Embedding shortcut (record 9): before each block x = stream_scale · x + shortcut_scale · x0, with scales for each
      block that start at 1 and 0.
    - Bigram embeddings (record 62): `BigramEmbedding`, added to the token embeddings, and so a part of x0. The record
      adds them before each block, with scales.
    - A narrow residual stream (both have embeddings in bfloat16): under autocast embeddings are looked up in float32
      and rounded, so that everything between matrix products moves half as many bytes. Norms compute in float32.
    - An untied output layer (record 8).

    State-dict names are those of `TransformerLM` and, where there is such a thing: `value_embeddings.{i}.weight`
    (vocab_size, d_model) and `layers.{i}.value_gate.weight` (num_heads, gate_channels) for the blocks i of
    `value_embedding_layers`, `layers.{i}.attn.{q,k}_norm.weight` (head_size,), `skip_scales` (num_layers // 2,), from
    the first block of the second half that has a skip to the last, `stream_scales` and `shortcut_scales` (num_layers,),
    `bigram_embeddings.weight` (5 · vocab_size, d_model), `ln_embeddings.weight` (d_model,).
    `load_state_dict` is strict: weights of another config are refused by their names and shapes.

    Args:
        config: the architecture.
        device: where the parameters live.
        dtype: their type.
    """

    config: SpeedrunConfig

    def __init__(
        self,
        config: SpeedrunConfig,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        width, plain = config.d_model, config.transformer
        rope = RotaryEmbedding(config.rope_theta, plain.head_size, config.context_length, device)
        gated = config.value_embedding_layers
        std = width**-0.5 if config.tie_embeddings else 1.0
        self.token_embeddings = Embedding(config.vocab_size, width, device, dtype, std=std)
        self.layers = nn.ModuleList(
            SpeedrunBlock(config, rope, index in gated, device, dtype) for index in range(config.num_layers)
        )
        self.ln_final = RMSNorm(width, plain.norm_eps, device, dtype)
        self.lm_head = Linear(width, config.vocab_size, device, dtype)
        if config.tie_embeddings:
            self.lm_head.weight = self.token_embeddings.weight
        elif config.zero_init_projections:
            with torch.no_grad():  # a smaller multiple of what was drawn, so that no other draw changes
                self.lm_head.weight.mul_(HEAD_STD / (2 / (width + config.vocab_size)) ** 0.5)
        self.value_embeddings = nn.ModuleDict(
            {str(index): Embedding(config.vocab_size, width, device, dtype, std=width**-0.5) for index in gated}
        )
        if config.bigram_embeddings:
            self.bigram_embeddings = BigramEmbedding(config.vocab_size, config.bigram_rows, width, device, dtype)
        if config.embedding_norm:
            self.ln_embeddings = RMSNorm(width, plain.norm_eps, device, dtype)
        if config.skip_connections:
            self.skip_scales = nn.Parameter(torch.ones(config.num_skips, device=device, dtype=dtype))
        if config.embedding_shortcut:
            self.stream_scales = nn.Parameter(torch.ones(config.num_layers, device=device, dtype=dtype))
            self.shortcut_scales = nn.Parameter(torch.zeros(config.num_layers, device=device, dtype=dtype))

    def _features(
        self,
        token_ids: Tensor,
        token_positions: Tensor | None,
        cache: KeyValueCache | None,
        mask: Tensor | None,
    ) -> Tensor:
        embeddings = self.token_embeddings(token_ids)
        if self.config.bigram_embeddings:
            embeddings = embeddings + self.bigram_embeddings(token_ids, token_positions, cache)
        if self.config.embedding_norm:
            embeddings = self.ln_embeddings(embeddings)
        if self.config.narrow_stream:
            (embeddings,) = cast_for_autocast(embeddings)
        x = embeddings
        num_layers, num_skips = self.config.num_layers, self.config.num_skips
        skip_scales = self.skip_scales.unbind() if self.config.skip_connections else ()
        stream_scales: tuple[Tensor, ...] = ()
        shortcut_scales: tuple[Tensor, ...] = ()
        if self.config.embedding_shortcut:
            stream_scales, shortcut_scales = self.stream_scales.unbind(), self.shortcut_scales.unbind()
        outputs: list[Tensor] = []  # of the first half that are still to be added
        for index, layer in enumerate(self.layers):
            if index >= num_layers - num_skips:
                # Not by addcmul, whose result autocast on CUDA makes as wide as the scales.
                x = x + outputs.pop() * skip_scales[index - (num_layers - num_skips)]
            if stream_scales:
                x = x * stream_scales[index] + embeddings * shortcut_scales[index]
            values = None
            if layer.value_gate is not None:
                values = self.value_embeddings[str(index)](token_ids)
                if self.config.narrow_stream:
                    (values,) = cast_for_autocast(values)
            x = layer(x, token_positions, None if cache is None else cache.layers[index], mask, values)
            if index < num_skips:
                outputs.append(x)
        return self.ln_final(x)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by what an optimizer should know of them, each in one group.

        - "matrices": the two-dimensional ones inside of the blocks, for Muon. The value gates are among them, as in
          nanochat: Muon's step does not depend on the size of their gradient, which is small while gates are near 1,
          and so they need no rate of their own.
        - "embeddings": of tokens, pairs of them and values, of whose rows a step changes only those of its tokens.
        - "head": the output layer; nothing if it is tied, for it is among the embeddings then.
        - "scalars": gains of norms, and the scales of skip connections and shortcut.
        """
        groups: dict[str, list[nn.Parameter]] = {"matrices": [], "embeddings": [], "head": [], "scalars": []}
        for name, param in self.named_parameters():  # a tied matrix comes once, as the embedding
            if name.startswith(("token_embeddings.", "bigram_embeddings.", "value_embeddings.")):
                groups["embeddings"].append(param)
            elif name.startswith("lm_head."):
                groups["head"].append(param)
            else:
                groups["matrices" if param.dim() == 2 else "scalars"].append(param)
        return groups
