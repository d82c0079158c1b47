"""The speedrun model: the Transformer plus findings from speedruns of small language models."""

from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nnscratch.autocast import cast_for_autocast
from nnscratch.cache import KeyValueCache
from nnscratch.functional import dropout
from nnscratch.interchange import load_untied, read_pretrained, untied_state, write_pretrained
from nnscratch.language_model import LanguageModel
from nnscratch.layers import Embedding, Linear, NGramEmbeddings, RMSNorm
from nnscratch.rotary_embedding import RotaryEmbedding
from nnscratch.speedrun.block import SpeedrunBlock
from nnscratch.speedrun.config import SpeedrunConfig

HEAD_STD = 0.001
"""Initial standard deviation of a zero-initialised model's output layer (nanochat's): small, but gradients pass."""


class SpeedrunLM(LanguageModel):
    """Pre-norm Transformer with rotary positions and the additions that `SpeedrunConfig` switches on.

    With every switch off it equals `nnscratch.TransformerLM` to the bit. Parameters that two configs share start alike
    from the same seed, unless a switch initialises them differently: additions draw their random numbers last.

    Sources and differences (modded-nanogpt: github.com/KellerJordan/modded-nanogpt, numbers are its records of track 1;
    nanochat: github.com/karpathy/nanochat):

    - ReLU² (So et al. 2021, Primer; record 5) instead of SwiGLU.
    - QK-norm (Henry et al. 2020; record 5): RMSNorm of each head's queries and keys before they are rotated.
    - Norms without gains (both projects). In the stream a gain adds nothing that the matrix after it could not do, and
      its gradient is a sum over all positions.
    - Zero-initialised projections (record 5): see `SpeedrunBlock`. The output layer starts at N(0, 0.001²) like
      nanochat's, not at zero as in the record, so the blocks learn from the second step on rather than the third. A new
      model's logits are near zero and depend on the current token alone. A tied matrix is also an embedding and keeps
      the initialisation of `TransformerLM`.
    - Soft-capped logits (Gemma Team 2024; records 9 and 18): cap · tanh(z / cap).
    - Value embeddings (records 14 to 17) in nanochat's form: on every other block, including the last, with a gate per
      head (`HeadGates`). Tables start at the standard deviation of `v_proj`, 1 / sqrt(d_model).
    - Skip connections (record 11; U-Net, Ronneberger et al. 2015): for i in the first half, the input of block
      L - 1 - i gets the output of block i, times a learned scale that starts at 1. With an odd number of blocks the
      middle one gets nothing.
    - Normalised embeddings x0 (record 9, nanochat): embeddings have high learning rates and grow; without a norm, what
      the blocks add to them counts less and less.
    - Embedding shortcut (record 9): before each block x = x + shortcut_scale · x0. Each block has its own scale, which
      starts at 0. The projects also scale x, in nanochat at a hundredth of the rate, so that it stays near 1. Here x is
      left as it is, because each gradient of a scale reads the whole stream.
    - N-gram embeddings (`ngram_rows`; record 62 has bigrams): `nnscratch.HashedNGramEmbedding`, or with
      `ngram_min_count` `nnscratch.FrequentNGramEmbedding`, added to the token embeddings and hence part of x0. The
      record adds hashed ones before each block, with scales.
    - Attention gates: see `SpeedrunBlock`.
    - Smeared embeddings (record 34): e_t + smear_scale · sigmoid(smear_gate · e_t[:12]) · e_{t-1}, for token embeddings
      without n-grams and norm. The scale starts at 0, where nothing is added, and the gate at 0.
    - Backout (record 40, nanochat): after the last block x - backout_scale · y, where y is the stream after the first
      num_layers // 2 blocks. The scale starts at 0; the projects start at 0.5 and 0.2.
    - Narrow residual stream (both projects keep embeddings in bfloat16): under autocast, embeddings are looked up in
      float32 and rounded, so everything between matrix products moves half as many bytes. Norms compute in float32.
    - Untied output layer (record 8).

    State-dict names are those of `TransformerLM`, plus those of the additions that are switched on:
    `value_embeddings.{i}.weight` (vocab_size, d_model) and `layers.{i}.value_gate.weight` (num_heads, gate_channels)
    for the blocks i of `value_embedding_layers`; `layers.{i}.attn.{q,k}_norm.weight` (head_size,); `skip_scales`
    (num_layers // 2,), ordered from the first block with a skip to the last; `shortcut_scales` (num_layers,);
    `ngram_embeddings.{n}.weight` (ngram_rows, d_model), with `ngram_min_count` also `.numbers` (ngram_rows - 1,);
    `ln_embeddings.weight` (d_model,); `layers.{i}.attn_gate.weight` (num_heads, 12); `smear_gate` (12,), `smear_scale`
    and `backout_scale` (1,). `load_state_dict` is strict: it refuses weights of another config and names what differs.

    Args:
        config: The architecture.
        device: Device of the parameters.
        dtype: Dtype of the parameters.
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
        width = config.d_model
        rope = RotaryEmbedding(config.rope_theta, config.d_k, config.context_length, device)
        gated = config.value_embedding_layers
        std = width**-0.5 if config.tie_embeddings else 1.0
        self.token_embeddings = Embedding(config.vocab_size, width, device, dtype, std=std)
        self.layers = nn.ModuleList(
            SpeedrunBlock(config, rope, index in gated, device, dtype) for index in range(config.num_layers)
        )
        self.ln_final = RMSNorm(width, config.norm_eps, device, dtype)
        self.lm_head = Linear(width, config.vocab_size, device, dtype)
        if config.tie_embeddings:
            self.lm_head.weight = self.token_embeddings.weight
        elif config.zero_init_projections:
            with torch.no_grad():  # scaled down rather than redrawn, so that no other draw changes
                self.lm_head.weight.mul_(HEAD_STD / (2 / (width + config.vocab_size)) ** 0.5)
        self.value_embeddings = nn.ModuleDict(
            {str(index): Embedding(config.vocab_size, width, device, dtype, std=width**-0.5) for index in gated}
        )
        if config.ngram_rows is not None:
            self.ngram_embeddings = NGramEmbeddings(
                config.ngrams,
                config.ngram_rows,
                width,
                device,
                dtype,
                dropout=config.ngram_dropout,
                min_count=config.ngram_min_count,
                vocab_size=config.vocab_size,
            )
        if config.embedding_norm:
            self.ln_embeddings = RMSNorm(width, config.norm_eps, device, dtype)
        if config.skip_connections:
            self.skip_scales = nn.Parameter(torch.ones(config.num_skips, device=device, dtype=dtype))
        if config.embedding_shortcut:
            self.shortcut_scales = nn.Parameter(torch.zeros(config.num_layers, device=device, dtype=dtype))
        if config.smear:
            self.smear_gate = nn.Parameter(torch.zeros(config.small_gate_channels, device=device, dtype=dtype))
            self.smear_scale = nn.Parameter(torch.zeros(1, device=device, dtype=dtype))
        if config.backout:
            self.backout_scale = nn.Parameter(torch.zeros(1, device=device, dtype=dtype))
        if config.gainless_norms:
            for module in self.modules():
                if isinstance(module, RMSNorm):
                    module.weight = None

    def _features(
        self,
        token_ids: Int[Tensor, "batch seq"],
        token_positions: Int[Tensor, "batch seq"] | None,
        cache: KeyValueCache | None,
        mask: Bool[Tensor, "batch seq keys"] | None,
    ) -> Float[Tensor, "batch seq d_model"]:
        embeddings = self.token_embeddings(token_ids)
        if self.config.smear:
            embeddings = self._smeared(embeddings, token_positions, cache)
        if self.config.ngram_rows is not None:
            embeddings = embeddings + self.ngram_embeddings(token_ids, token_positions, cache)
        if self.config.embedding_norm:
            embeddings = self.ln_embeddings(embeddings)
        if self.config.narrow_stream:
            (embeddings,) = cast_for_autocast(embeddings)
        x = embeddings = dropout(embeddings, self.config.dropout, self.training)
        num_layers, num_skips = self.config.num_layers, self.config.num_skips
        skip_scales = self.skip_scales.unbind() if self.config.skip_connections else ()
        shortcut_scales = self.shortcut_scales.unbind() if self.config.embedding_shortcut else ()
        outputs: list[Tensor] = []  # of the first half, waiting to be added in the second
        middle = x
        for index, layer in enumerate(self.layers):
            if index == num_layers // 2:
                middle = x
            if index >= num_layers - num_skips:
                # Not addcmul: under autocast on CUDA its result has the wider dtype of the scales.
                x = x + outputs.pop() * skip_scales[index - (num_layers - num_skips)]
            if shortcut_scales:
                x = x + embeddings * shortcut_scales[index]
            values = None
            if layer.value_gate is not None:
                values = self.value_embeddings[str(index)](token_ids)
                if self.config.narrow_stream:
                    (values,) = cast_for_autocast(values)
            x = layer(x, token_positions, None if cache is None else cache.layers[index], mask, values)
            if index < num_skips:
                outputs.append(x)
        if self.config.backout:
            x = x - middle * self.backout_scale.to(x.dtype)
        return self.ln_final(x)

    def _smeared(
        self,
        embeddings: Float[Tensor, "batch seq d_model"],
        token_positions: Int[Tensor, "batch seq"] | None,
        cache: KeyValueCache | None,
    ) -> Float[Tensor, "batch seq d_model"]:
        """Return the embeddings, each with a gated share of that of the token before; the first token has none."""
        if cache is None or cache.length == 0 or cache.last_token_ids is None:
            before = torch.zeros_like(embeddings[:, :1])
        else:
            before = self.token_embeddings(cache.last_token_ids.unsqueeze(1))
        previous = torch.cat((before, embeddings), dim=1)[:, :-1]
        gates = (embeddings[..., : len(self.smear_gate)] * self.smear_gate).sum(-1, keepdim=True).sigmoid()
        shares = gates * self.smear_scale
        if token_positions is not None:  # a text after padding begins at position 0
            shares = shares * (token_positions > 0).unsqueeze(-1)
        return embeddings + previous * shares

    def save_pretrained(self, directory: str | Path) -> None:
        """Write `config.json` and `model.safetensors` into a directory, which is created if necessary."""
        write_pretrained(Path(directory), self.config.to_dict(), untied_state(self, self.config.tie_embeddings))

    @classmethod
    def from_pretrained(cls, directory: str | Path, device: torch.device | str = "cpu") -> "SpeedrunLM":
        """Load a model that `save_pretrained` of this class or of a pre-norm `nnscratch.TransformerLM` wrote.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If the files are damaged, do not belong together, or describe another model.
        """
        values, weights = read_pretrained(Path(directory))
        config = SpeedrunConfig.from_dict(values)
        model = cls(config, device)
        load_untied(model, weights, config.tie_embeddings)
        return model

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters in groups that want different optimizers or learning rates; each is in one group.

        - "matrices": two-dimensional parameters inside the blocks, for Muon. Gates of heads are among them, as in
          nanochat. Their gradients are small while gates are near 1, but Muon's step ignores the gradient's size, so
          they need no rate of their own.
        - "embeddings": tables of tokens and values, of which a step has gradients only for the rows of its tokens.
        - "tables": tables of n-grams, with sparse gradients, for `RowwiseAdagrad`.
        - "head": the output layer; empty if it is tied, because it then belongs to the embeddings.
        - "scalars": gains of norms, the gate of `smear`, and the scales of skip connections and other additions.
        """
        groups: dict[str, list[nn.Parameter]] = {
            "matrices": [], "embeddings": [], "tables": [], "head": [], "scalars": []
        }  # fmt: skip
        for name, param in self.named_parameters():  # lists a tied matrix once, as the embedding
            if name.startswith(("token_embeddings.", "value_embeddings.")):
                groups["embeddings"].append(param)
            elif name.startswith("ngram_embeddings."):
                groups["tables"].append(param)
            elif name.startswith("lm_head."):
                groups["head"].append(param)
            else:
                groups["matrices" if param.dim() == 2 else "scalars"].append(param)
        return groups
