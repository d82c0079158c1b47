"""Training graph of a model as torch's compiler writes it for an H100 that need not be present: bytes and launches.

The loss is traced forward and backward under bfloat16 autocast on fake tensors, which have shapes but no memory.
Inductor then writes the program for an H100, and nothing is executed. Tested with torch 2.13.0 and Triton 3.7.1. Other
versions may need other patches, because torch has no public way to compile for an absent GPU.

The module changes what torch and Triton believe, so import it only in a process that does nothing else with them.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple, cast
from unittest import mock

os.environ.pop("TRITON_INTERPRET", None)  # Kernels of the compiler are not to be interpreted.
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # Nothing is compiled, so no processes for that are needed.

import torch
from functorch.compile import make_boxed_func
from torch import Tensor
from torch._inductor import config as inductor_config
from torch._inductor.compile_fx import compile_fx, compile_fx_inner
from torch._inductor.utils import get_code
from torch._inductor.virtualized import V
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.passes.fake_tensor_prop import FakeTensorProp
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from nnscratch import losses
from nnscratch.config import TransformerConfig
from nnscratch.language_model import LanguageModel

HEAD_SIZE = 128
ALLOCATION = re.compile(r"\s*(\w+) = empty_strided_cuda\((\(.*?\)), \(.*?\), torch\.(\w+)\)")
REUSE = re.compile(r"\s*(\w+) = (?:reinterpret_tensor\((?=.*?(\(.*?\))))?(\w+)\b.*; del \3  # reuse")
CUDA = torch.device("cuda", 0)
# What the compiler asks of a device: the figures of an H100 SXM.
H100 = SimpleNamespace(
    name="NVIDIA H100 80GB HBM3",
    major=9,
    minor=0,
    multi_processor_count=132,
    regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    warp_size=32,
    total_memory=80 * 2**30,
    L2_cache_size=50 * 2**20,
    shared_memory_per_block_optin=227 * 1024,
)
H100_DRIVER = SimpleNamespace(get_current_target=lambda: GPUTarget("cuda", 90, H100.warp_size))


class Graph(NamedTuple):
    """Forward or backward pass as Inductor receives it, with its options for `compile_fx_inner`."""

    module: torch.fx.GraphModule
    inputs: list[Any]
    options: dict[str, Any]


class LoweredPass(NamedTuple):
    """Counts of the program that Inductor writes for a forward or backward pass."""

    name: str
    """"forward" or "backward"."""
    program: str
    tokens: int
    logits: int
    """Buffers of a chunk's logits that exist at most at the same time."""
    wide_heads: int
    """Buffers that hold the queries or keys of all positions, or half of each, in float32."""
    kernel_bytes: float
    """Bytes that the compiler's Triton kernels read and write, if each touches its buffers once."""
    operator_bytes: int
    """Bytes that our own operators read and write beside products and attention."""
    triton: int
    """Launches of the compiler's Triton kernels."""
    products: int
    """Calls of matrix products."""
    others: int
    """Calls of other operators."""

    @property
    def launches(self) -> int:
        """Calls of kernels, products and other operators."""
        return self.triton + self.products + self.others


class Buffer(NamedTuple):
    """Memory that a generated program allocates, or uses again for a tensor of another shape."""

    shape: tuple[int, ...]
    dtype: str


@contextmanager
def h100() -> Iterator[None]:
    """Let torch and Triton find one H100, on which nothing can run.

    Some answers stay in caches of torch, so enter it only in a process that does nothing else.
    """
    chunk_rows = losses._chunk_rows
    answers = {
        "torch.cuda.is_available": lambda: True,
        "torch.cuda.device_count": lambda: 1,
        "torch.cuda.current_device": lambda: 0,
        "torch.cuda.get_rng_state": lambda *_: torch.get_rng_state(),
        "torch.cuda.set_rng_state": lambda *_: None,
        # The compiler keeps the original `get_device_properties`, which calls this and `_get_device_properties`.
        "torch.cuda._lazy_init": lambda: None,
        # Contexts such as `torch.cuda.device` call these.
        "torch.cuda._exchange_device": lambda _: 0,
        "torch.cuda._maybe_exchange_device": lambda _: 0,
        # A fake tensor on a GPU would start the GPU first.
        "torch._subclasses.fake_tensor.init_gpu_context": lambda *_: None,
        # Computes the shape of an assignment to a slice by a copy, for which torch wants a CUDA library.
        "torch._inductor.fx_passes.reinplace._inplace_generalized_scatter": lambda tensor, *_: tensor,
        # Draws again until no number is out of range, but fake tensors have no numbers.
        "torch.nn.init.trunc_normal_": lambda tensor, **_: tensor,
        # The graph is traced on the CPU, because autograd for CUDA tensors needs the library, too.
        "nnscratch.losses._chunk_rows": lambda _, count, vocab_size: chunk_rows("cuda", count, vocab_size),
        "nnscratch.attention_kernels.can_flash": lambda *_: True,
        "nnscratch.attention.can_normalize_and_rotate": lambda *_: True,
        "nnscratch.layers.can_fuse_relu_squared": lambda *_: True,
    }
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch(name, answer))
        # Builds of torch for CPUs do not have this function.
        stack.enter_context(mock.patch("torch.cuda._get_device_properties", return_value=H100, create=True))
        stack.enter_context(mock.patch.object(torch.version, "cuda", "12.8"))
        # `driver.reset_active` would look for a GPU.
        stack.enter_context(mock.patch.object(driver, "_active", H100_DRIVER))
        yield


def traced(loss: Callable[..., Tensor], *inputs: Tensor) -> list[Graph]:
    """Return the graphs of the forward and backward pass, after Inductor's passes over both together."""
    graphs = []

    def keep(module: torch.fx.GraphModule, inputs: list[Any], **options: Any) -> Callable[..., Any]:
        graphs.append(Graph(module, inputs, options))
        return make_boxed_func(module.forward)

    def backend(module: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        return compile_fx(module, inputs, inner_compile=cast(Any, keep))

    torch.compiler.reset()
    with torch.autocast("cpu", torch.bfloat16):
        result = torch.compile(loss, backend=backend, fullgraph=True, dynamic=False)(*inputs)
    result.backward()
    return graphs


def moved_to_cuda(graph: Graph, mode: FakeTensorMode) -> list[Any]:
    """Move the constants of a graph and the fake results of its nodes to CUDA, and return inputs there."""
    for node in graph.module.graph.nodes:
        node.kwargs = {name: CUDA if isinstance(value, torch.device) else value for name, value in node.kwargs.items()}
        assert not any(isinstance(value, torch.device) for value in node.args), node.format_node()
        # Inputs as they were traced, on the CPU; the compiler would trace operators that write to an input with them.
        node.meta.pop("eager_input_vals", None)
    graph.module.recompile()
    with mode:
        inputs = [
            torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=CUDA)
            if isinstance(value, Tensor)
            else value
            for value in graph.inputs
        ]
    FakeTensorProp(graph.module, mode).propagate_dont_convert_inputs(*inputs)
    return inputs


def lowered(graph: Graph) -> str:
    """Return the program that Inductor writes for a graph on an H100."""
    mode = FakeTensorMode()
    inputs = moved_to_cuda(graph, mode)
    options = inductor_config.patch(force_disable_caches=True, profile_bandwidth=True)  # The latter notes bytes.
    with options, mode, V.set_fake_mode(mode):
        return get_code(lambda: compile_fx_inner(graph.module, inputs, **graph.options))[0]


def buffers(program: str) -> Iterator[tuple[Buffer | None, list[Buffer]]]:
    """Yield, for each line of a program, the buffer that begins there, if any, and all that exist after the line."""
    existing: dict[str, Buffer] = {}
    for line in program.splitlines():
        new = None
        if match := ALLOCATION.match(line):
            name, shape, dtype = match.groups()
            new = existing[name] = Buffer(dimensions(shape), dtype)
        elif (match := REUSE.match(line)) and match[3] in existing:
            name, shape, old = match.groups()
            before = existing[old]
            new = existing[name] = before._replace(shape=dimensions(shape)) if shape else before
        for name in re.findall(r"\bdel (\w+)", line):
            existing.pop(name, None)
        yield new, list(existing.values())


def dimensions(shape: str) -> tuple[int, ...]:
    """Return the numbers in a shape as it is written in a program."""
    return tuple(map(int, re.findall(r"\d+", shape)))


def most_logits(program: str, tokens: int, vocab_size: int) -> int:
    """Return how many buffers of a chunk's logits exist at most at the same time."""
    rows = losses._chunk_rows("cuda", tokens, vocab_size)
    shapes = {(rows, vocab_size), (tokens % rows, vocab_size)}
    return max(sum(buffer.shape in shapes for buffer in existing) for _, existing in buffers(program))


def wide_heads(program: str, tokens: int, d_model: int) -> int:
    """Return the number of buffers that hold the queries or keys of all positions, or half of each, in float32."""
    return sum(
        new is not None
        and new.dtype == "float32"
        and new.shape[-1:] <= (HEAD_SIZE,)
        and new.shape[-1:] != (d_model,)  # the residual stream of a model with one head
        and math.prod(new.shape) >= tokens * d_model // 2
        for new, _ in buffers(program)
    )


def launches(program: str) -> tuple[Counter[str], int, int]:
    """Return the launches of each of the compiler's Triton kernels, of matrix products, and of other operators."""
    calls = program[program.index("def call(self, args)") : program.index("runner = Runner")]
    triton = Counter(re.findall(r"(\w+)\.run\(", calls))
    products = len(re.findall(r"extern_kernels\.\w+\(", calls))
    others = re.findall(r"(?:= |^ +)torch\.ops\.|\baten\.\w+\(|\.(?:sum|zero_|copy_)\(", calls, re.MULTILINE)
    return triton, products, len(others)


def kernel_bytes(program: str) -> dict[str, float]:
    """Return the bytes that each Triton kernel reads and writes, if it touches each element of its buffers once."""
    definitions = re.split(r"^(\w+) = async_compile\.triton\(", program, flags=re.MULTILINE)[1:]
    return {
        name: 1e9 * float(re.findall(r"'kernel_num_gb': ([\d.e+-]+)", text)[0])
        for name, text in zip(definitions[::2], definitions[1::2], strict=True)
    }


def operator_bytes(program: str, d_model: int, d_ff: int) -> int:
    """Return the bytes per token that our own operators read and write beside products and attention, in bfloat16.

    They are counted by hand, for as many heads of keys as of queries. One operator reads and writes queries and keys.
    Its backward pass also reads three gradients, and writes a joint one and 64 bytes of sums for gains. Together with
    attention it replaces the gradients of queries and keys, and leaves those of the values. Squared ReLU is part of a
    product, and its backward pass reads the square.
    """
    return sum(
        numbers * 2 * len(re.findall(rf"= torch\.ops\.nnscratch\.{name}\.default\(", program))
        for name, numbers in {
            "normalize_and_rotate": 4 * d_model,
            "normalize_and_rotate_backward": 8 * d_model + 32,
            "normalized_attention_backward": 6 * d_model + 32,
            "relu_squared_product": 0,
            "relu_squared_product_backward": d_ff,
        }.items()
    )


def count(name: str, program: str, config: TransformerConfig, tokens: int) -> LoweredPass:
    """Return the counts of the program of a pass over this many tokens."""
    triton, products, others = launches(program)
    size = kernel_bytes(program)
    return LoweredPass(
        name,
        program,
        tokens,
        logits=most_logits(program, tokens, config.vocab_size),
        wide_heads=wide_heads(program, tokens, config.d_model),
        kernel_bytes=sum(size[kernel] * times for kernel, times in triton.items()),
        operator_bytes=tokens * operator_bytes(program, config.d_model, config.d_ff),
        triton=triton.total(),
        products=products,
        others=others,
    )


def lowered_passes(graphs: list[Graph], config: TransformerConfig, tokens: int) -> list[LoweredPass]:
    """Return the forward and the backward pass of a loss that `traced` has traced; call it inside `h100`."""
    names = ("forward", "backward")
    return [count(name, lowered(graph), config, tokens) for name, graph in zip(names, graphs, strict=True)]


def lower_model(make_model: Callable[[], LanguageModel], windows: int) -> list[LoweredPass]:
    """Lower the training loss of a model, forward and backward.

    Args:
        make_model: Returns the model, whose config is a `TransformerConfig`; its weights get no memory.
        windows: Windows of `context_length` tokens in a pass.

    Raises:
        torch._dynamo.exc.Unsupported: If the loss is more than one graph.
    """
    with h100():
        with FakeTensorMode():
            model = make_model()
            config = cast(TransformerConfig, model.config)
            token_ids, targets = torch.zeros(2, windows, config.context_length, dtype=torch.int64)
            graphs = traced(model.loss, token_ids, targets)
        return lowered_passes(graphs, config, windows * config.context_length)
