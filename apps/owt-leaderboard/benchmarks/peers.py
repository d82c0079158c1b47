"""nanoGPT and nanochat, written anew in plain torch, to train beside our recipe on the same CPU.

These are compact rewrites from published descriptions. The originals were not at hand, so nothing was compared with
their code. Tests compare the models with torch's own block and with our speedrun model, and Muon with ours.
`cpu_minutes.py` gives all the same time limit, tokenizer and final measure, and an allocator that keeps freed memory.
Each rewrite has what makes the original fast: SDPA, fused AdamW, autocast to bfloat16, and torch.compile on demand.

nanoGPT (github.com/karpathy/nanoGPT, `model.py` and `train.py` of 2022 to 2024, its README's commands for a CPU and for
Shakespeare's characters): GPT-2 blocks with LayerNorm, GELU, learned positions and tied output; AdamW with betas 0.9
and 0.99; gradients clipped to 1; 100 steps of warm-up, then a cosine to a tenth. Differences: the cosine follows the
time instead of the steps, and dropout is 0 and not implemented.

nanochat (github.com/karpathy/nanochat, `gpt.py`, `optim.py` and `base_train.py`, as its log described them in early
2026): RMSNorm without gains, also after the embedding; rotary positions; QK-norm; squared ReLU; gated value embeddings
on alternate layers; learned scales of the stream and of the first embedding; soft cap; Muon with Polar Express,
variance reduction and cautious weight decay; AdamW for all else. Differences:

- The schedules of rates and weight decay follow the time instead of the steps; warm-up is in steps, as published.
- Versions differ. Rates, warm-up, initial sizes and the factor 1.2 after QK-norm are its newer ones. Momentum from 0.85
  to 0.95, gates of 32 channels and initial scales of 1 and 0.1 are older. Smear and backout are absent.
- All layers see the whole context, as in its script for CPUs.
- Batches are adjacent windows in random order. Its loader begins each row with a document and drops the rest of many,
  which at short contexts would train on beginnings only.
- Weight decay is the 0.2 of 12 layers. Its rules for other sizes give 2 to 10 for 4 layers of 128, far outside of what
  they were made for.
- Embeddings are float32 and are looked up in the autocast dtype. The vocabulary is not padded to a multiple of 64.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
"""Coefficients of five iterations (Amsel et al. 2025, arXiv 2505.16932), with the margin of 2 % that nanochat has."""
REFERENCE_BATCH, REFERENCE_WIDTH = 2**19, 768  # tokens per step, and width, for which nanochat's rates hold


def linear(inputs: int, outputs: int, bias: bool = False) -> nn.Linear:
    """Return a linear layer, by default without bias."""
    return nn.Linear(inputs, outputs, bias=bias)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return causal attention of (batch, time, heads, head size), as (batch, time, width)."""
    heads = (part.transpose(1, 2) for part in (q, k, v))
    return functional.scaled_dot_product_attention(*heads, is_causal=True).transpose(1, 2).flatten(2)


class GPT2Block(nn.Module):
    """Pre-norm block of nanoGPT."""

    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1 = nn.LayerNorm(width, bias=bias)
        self.c_attn, self.attn_proj = linear(width, 3 * width, bias), linear(width, width, bias)
        self.ln_2 = nn.LayerNorm(width, bias=bias)
        self.c_fc, self.mlp_proj = linear(width, 4 * width, bias), linear(4 * width, width, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the residual stream after the block."""
        qkv = self.c_attn(self.ln_1(x)).unflatten(-1, (3, self.heads, -1))
        x = x + self.attn_proj(attend(*qkv.unbind(2)))
        return x + self.mlp_proj(functional.gelu(self.c_fc(self.ln_2(x))))


class NanoGPT(nn.Module):
    """nanoGPT's model and training recipe."""

    max_grad_norm = 1.0
    shuffled = False
    """Windows are drawn with replacement."""

    def __init__(
        self, *, vocab_size: int, layers: int, width: int, heads: int, context: int, bias: bool = False
    ) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab_size, width), nn.Embedding(context, width)
        self.h = nn.ModuleList(GPT2Block(width, heads, bias) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width, bias=bias)
        for name, param in self.named_parameters():
            if name.endswith("_proj.weight"):
                nn.init.normal_(param, std=0.02 / math.sqrt(2 * layers))
            elif param.dim() == 2:
                nn.init.normal_(param, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(param)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits of (batch, time) token ids."""
        x = self.wte(inputs) + self.wpe(torch.arange(inputs.shape[1], device=inputs.device))
        for block in self.h:
            x = block(x)
        return functional.linear(self.ln_f(x), self.wte.weight)

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        return functional.cross_entropy(self(inputs).flatten(0, 1), targets.flatten())

    def make_optimizers(self, *, learning_rate: float, weight_decay: float) -> list[torch.optim.Optimizer]:
        """Return AdamW, which decays matrices and embeddings."""
        groups = [
            {"params": [p for p in self.parameters() if p.dim() >= 2], "weight_decay": weight_decay},
            {"params": [p for p in self.parameters() if p.dim() < 2], "weight_decay": 0.0},
        ]
        return [with_peak_rates(torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.99), fused=True))]

    def schedule(self, optimizers: list[torch.optim.Optimizer], step: int, share: float) -> None:
        """Set the rates of a step, counted from 0, at a share of the time."""
        factor = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share))
        for group in optimizers[0].param_groups:
            group["lr"] = group["peak"] * min(factor, (step + 1) / 101)


def norm(x: Tensor) -> Tensor:
    """Return RMSNorm without gains."""
    return functional.rms_norm(x, (x.shape[-1],))


class NanochatBlock(nn.Module):
    """Block of nanochat; `ve_gate` exists where the block gets value embeddings."""

    def __init__(self, width: int, heads: int, gated: bool) -> None:
        super().__init__()
        self.heads = heads
        self.c_q, self.c_k, self.c_v, self.attn_proj = (linear(width, width) for _ in range(4))
        self.ve_gate = linear(min(32, width), heads) if gated else None
        self.c_fc, self.mlp_proj = linear(width, 4 * width), linear(4 * width, width)

    def forward(self, x: Tensor, values: Tensor | None, cos: Tensor, sin: Tensor) -> Tensor:
        """Return the residual stream after the block; `values` are the value embeddings."""
        normal = norm(x)
        q, k, v = (layer(normal).unflatten(-1, (self.heads, -1)) for layer in (self.c_q, self.c_k, self.c_v))
        if self.ve_gate is not None and values is not None:
            gates = 2 * torch.sigmoid(self.ve_gate(normal[..., : self.ve_gate.in_features]))
            v = v + gates.unsqueeze(-1) * values.unflatten(-1, (self.heads, -1))
        q, k = (norm(rotate(part, cos, sin)) * 1.2 for part in (q, k))
        x = x + self.attn_proj(attend(q, k, v))
        return x + self.mlp_proj(functional.relu(self.c_fc(norm(x))).square())


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return (batch, time, heads, head size) with the pairs (x[i], x[i + half]) rotated."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1)


class Nanochat(nn.Module):
    """nanochat's model and pretraining recipe."""

    max_grad_norm = None
    shuffled = True
    """Windows are drawn without replacement."""

    def __init__(
        self, *, vocab_size: int, layers: int, width: int, heads: int, context: int, soft_cap: float = 20.0
    ) -> None:
        super().__init__()
        self.soft_cap = soft_cap
        gated = [index for index in range(layers) if index % 2 == (layers - 1) % 2]
        self.wte = nn.Embedding(vocab_size, width)
        self.h = nn.ModuleList(NanochatBlock(width, heads, index in gated) for index in range(layers))
        self.lm_head = linear(width, vocab_size)
        self.value_embeds = nn.ModuleDict({str(index): nn.Embedding(vocab_size, width) for index in gated})
        self.resid_lambdas = nn.Parameter(torch.ones(layers))
        self.x0_lambdas = nn.Parameter(torch.full((layers,), 0.1))
        size = width // heads
        angles = torch.outer(torch.arange(context), 10_000.0 ** -(torch.arange(0, size, 2) / size))
        self.register_buffer("cos", angles.cos().unsqueeze(1), persistent=False)
        self.register_buffer("sin", angles.sin().unsqueeze(1), persistent=False)
        nn.init.normal_(self.wte.weight, std=0.8)
        nn.init.normal_(self.lm_head.weight, std=0.001)
        bound = math.sqrt(3 / width)
        for name, param in [*self.h.named_parameters(), *self.value_embeds.named_parameters()]:
            if "_proj" in name or "ve_gate" in name:
                nn.init.zeros_(param)
            else:
                scale = 0.4 if "c_fc" in name else 1.0
                nn.init.uniform_(param, -bound * scale, bound * scale)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits of (batch, time) token ids, in float32."""
        kind = inputs.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.wte.weight.dtype
        cos, sin = (table[: inputs.shape[1]].to(dtype) for table in (self.cos, self.sin))
        x = x0 = norm(self.wte(inputs).to(dtype))
        for index, block in enumerate(self.h):
            x = self.resid_lambdas[index] * x + self.x0_lambdas[index] * x0
            values = None if block.ve_gate is None else self.value_embeds[str(index)](inputs).to(dtype)
            x = block(x, values, cos, sin)
        return self.soft_cap * torch.tanh(self.lm_head(norm(x)).float() / self.soft_cap)

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        return functional.cross_entropy(self(inputs).flatten(0, 1), targets.flatten())

    def make_optimizers(
        self,
        *,
        matrix_rate: float,
        embedding_rate: float,
        head_rate: float,
        scalar_rate: float,
        weight_decay: float,
        batch_tokens: int,
        dtype: torch.dtype,
        compiled: bool,
    ) -> list[torch.optim.Optimizer]:
        """Return AdamW and Muon with rates for a batch of so many tokens; `dtype` is that of Muon's products."""
        by_batch = math.sqrt(batch_tokens / REFERENCE_BATCH)
        by_width = by_batch * (self.wte.embedding_dim / REFERENCE_WIDTH) ** -0.5
        embeddings = [self.wte.weight, *self.value_embeds.parameters()]
        groups = [
            {"params": [self.lm_head.weight], "lr": head_rate * by_width},
            {"params": embeddings, "lr": embedding_rate * by_width},
            {"params": [self.resid_lambdas], "lr": scalar_rate * by_batch / 100},
            {"params": [self.x0_lambdas], "lr": scalar_rate * by_batch, "betas": (0.96, 0.95)},
        ]
        adamw = torch.optim.AdamW(groups, betas=(0.8, 0.95), eps=1e-10, weight_decay=0.0, fused=True)
        muon = Muon(self.h.parameters(), matrix_rate * by_batch, weight_decay, dtype, compiled)
        return [with_peak_rates(adamw), with_peak_rates(muon)]

    def schedule(self, optimizers: list[torch.optim.Optimizer], step: int, share: float) -> None:
        """Set the rates of a step, counted from 0, at a share of the time; and Muon's momentum and weight decay."""
        factor = min((step + 1) / 40, 1.0, 0.05 + 0.95 * (1 - share) / 0.65)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
        for group in optimizers[1].param_groups:
            group["momentum"] = 0.85 + 0.1 * min(step / 300, 1.0)
            group["weight_decay"] = group["peak_decay"] * (1 - share)


def with_peak_rates(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Note the rate and weight decay of each group, which a schedule multiplies."""
    for group in optimizer.param_groups:
        group["peak"], group["peak_decay"] = group["lr"], group["weight_decay"]
    return optimizer


class Muon(torch.optim.Optimizer):
    """nanochat's Muon, which updates all matrices of one shape at once; `dtype` is that of its products."""

    def __init__(
        self, params: Iterable[Tensor], lr: float, weight_decay: float, dtype: torch.dtype, compiled: bool = False
    ) -> None:
        shapes: dict[torch.Size, list[Tensor]] = {}
        for param in params:
            shapes.setdefault(param.shape, []).append(param)
        groups = [{"params": alike} for alike in shapes.values()]
        super().__init__(groups, {"lr": lr, "momentum": 0.95, "weight_decay": weight_decay})
        self.dtype = dtype
        self.update: Callable[..., Tensor] = torch.compile(muon_update, dynamic=False) if compiled else muon_update

    @torch.no_grad()
    def step(self) -> None:
        """Update all matrices."""
        for group in self.param_groups:
            params = group["params"]
            rows, columns = params[0].shape
            stacked, grads = torch.stack(params), torch.stack([param.grad for param in params])
            state = self.state[params[0]]
            if not state:
                state["mean"] = torch.zeros_like(grads)
                state["square"] = grads.new_zeros(
                    (len(params), rows, 1) if rows >= columns else (len(params), 1, columns)
                )
            # Tensors, because torch.compile would make a program for every number.
            numbers = (group["momentum"], group["lr"] * max(1.0, rows / columns) ** 0.5, group["weight_decay"])
            stacked = self.update(
                stacked, grads, state["mean"], state["square"], *map(torch.tensor, numbers), self.dtype
            )
            torch._foreach_copy_(params, list(stacked.unbind()))


def muon_update(
    params: Tensor, grads: Tensor, mean: Tensor, square: Tensor, momentum: Tensor, rate: Tensor, decay: Tensor,
    dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """Return the new parameters, and update `mean` and `square`; all are (matrices, rows, columns)."""
    mean.lerp_(grads, 1 - momentum)
    x = grads.lerp(mean, momentum).to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) * 1.02 + 1e-6)
    for a, b, c in POLAR_EXPRESS:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    update = (x.mT if tall else x).float()
    across = -1 if square.shape[-1] == 1 else -2  # the shorter side, whose mean square each neuron or input has
    squares = update.square().mean(across, keepdim=True)
    square.lerp_(squares, 0.05)
    scale = square.clamp_min(1e-10).rsqrt()
    before, after = (part.sum((-2, -1), keepdim=True).sqrt() for part in (squares, squares * scale.square()))
    update = update * (scale * (before / after.clamp_min(1e-10)))
    return params - rate * update - rate * decay * params * (update * params >= 0)
