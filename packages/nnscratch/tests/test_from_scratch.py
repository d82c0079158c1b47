"""The from-scratch rule: no source uses torch.nn, torch.nn.functional or torch.optim beyond a list of names."""

import ast
from pathlib import Path

import pytest

SOURCES = sorted((Path(__file__).parents[1] / "src").rglob("*.py"))
ALLOWED = {
    "torch.nn",
    "torch.nn.Parameter",
    "torch.nn.Module",
    "torch.nn.ModuleList",
    "torch.nn.ModuleDict",
    "torch.nn.Sequential",
    "torch.nn.ParameterList",
    "torch.nn.init",
    "torch.nn.init.trunc_normal_",
    "torch.optim",
    "torch.optim.Optimizer",
}
RESTRICTED = ("torch.nn", "torch.optim", "torch.ops.aten", "torch._C", "torch.functional")
# Functions of torch itself that are torch.nn.functional's under another name.
BACK_DOORS = {
    f"torch.{name}"
    for name in (
        "softmax _softmax log_softmax _log_softmax rms_norm layer_norm native_layer_norm group_norm batch_norm"
        " embedding dropout relu relu_ prelu celu selu cross_entropy_loss nll_loss bilinear conv1d conv2d"
        " scaled_dot_product_attention _scaled_dot_product_attention_math _scaled_dot_product_flash_attention"
        " _scaled_dot_product_efficient_attention _native_multi_head_attention _transformer_encoder_layer_fwd"
        " _fused_adam_ _fused_adamw_ _fused_sgd_ _fused_rms_norm"
    ).split()
}
METHODS = {"softmax", "log_softmax", "relu", "relu_"}


def dotted(node):
    """Dotted name of a chain of attributes, or None."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


def forbidden(source):
    """Names in a source that are not from scratch."""
    tree, meaning, used = ast.parse(source), {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                used.add(alias.name)
                meaning[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                used.add(f"{node.module}.{alias.name}")
                meaning[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if name := dotted(node):
                root, _, rest = name.partition(".")
                used.add(f"{meaning.get(root, root)}.{rest}")
            if node.attr in METHODS and not (name or "").startswith("nnscratch"):
                used.add(f"a tensor's .{node.attr}")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr" and node.args:
            owner = dotted(node.args[0])
            if owner and meaning.get(owner.split(".")[0], "").startswith("torch"):
                used.add(f"getattr on {owner}")
    return {
        name
        for name in used
        if name in BACK_DOORS
        or name.startswith(("a tensor's", "getattr on"))
        or (name not in ALLOWED and any(f"{name}.".startswith(f"{item}.") for item in RESTRICTED))
    }


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_source_is_from_scratch(path):
    assert not forbidden(path.read_text("utf-8"))


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.nn.functional.silu(x)",
        "import torch.nn.functional as F\nF.silu(x)",
        "from torch.nn import functional",
        "from torch.nn import Linear",
        "from torch import nn\nnn.Linear(1, 2)",
        "from torch import nn as layers\nlayers.utils.clip_grad_norm_(p, 1)",
        "import torch\ntorch.optim.AdamW(p)",
        "from torch import optim\noptim.lr_scheduler.LambdaLR",
        "import torch\ntorch.ops.aten._scaled_dot_product_flash_attention(q, k, v)",
        "import torch\ntorch.softmax(x, -1)",
        "x.softmax(-1)",
        "from torch import nn\ngetattr(nn, 'Linear')",
        "from torch import nn\nnn.init.xavier_uniform_(w)",
    ],
)
def test_forbidden_names_are_found(source):
    assert forbidden(source)


def test_allowed_names_pass():
    source = "from torch import nn, optim\nnn.Parameter(x); nn.init.trunc_normal_(x)\nclass A(optim.Optimizer): pass"
    assert not forbidden(source)
