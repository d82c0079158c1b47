"""Losses and updates under torch.compile, checked against the eager ones before they are used."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.optim import Optimizer

from trainer.config import TrainConfig
from trainer.devices import autocast, is_out_of_memory
from trainer.distributed import Parallel, Processes, optimizer_parts
from trainer.evaluation import LossFunction, LossResult, read_loss
from trainer.training.compiled_checks import UpdateCheck, WrongResultError, check_loss, disturbed

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

FailureHandler = Callable[[str, Exception], None]
"""Called with what could not be compiled and the reason, in all processes; returns if the run goes on without it."""


class CompilationError(ValueError):
    """The compiler fails or is wrong, and the run must not go on without it."""


def is_wanted(config: TrainConfig, device: torch.device) -> bool:
    """Return whether a run compiles."""
    return config.compile == "on" or (config.compile == "auto" and device.type == "cuda")


def keep_compiled_programs(directory: Path) -> None:
    """Let this process and later ones find in `directory` what they have compiled; call it before anything is compiled.

    By default, programs are in a folder for temporary files, which a restart may empty, and Triton's kernels elsewhere.
    If the user has set TORCHINDUCTOR_CACHE_DIR or TRITON_CACHE_DIR, nothing changes.
    """
    # torch sets the first one to its default when it imports Dynamo, for example with the first optimizer.
    present, default = os.environ.get("TORCHINDUCTOR_CACHE_DIR"), Path(tempfile.gettempdir(), "torchinductor_")
    if (present is None or present.startswith(str(default))) and "TRITON_CACHE_DIR" not in os.environ:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(directory.resolve())
        os.environ["TRITON_CACHE_DIR"] = str(directory.resolve() / "triton")


def raise_failure(what: str, error: Exception) -> None:
    """End a run whose compiler has failed.

    Raises:
        CompilationError: In any case.
    """
    raise CompilationError(describe_failure(what, error)) from error


def describe_failure(what: str, error: Exception) -> str:
    """Return in one line what could not be compiled and why."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
    kind = "" if isinstance(error, WrongResultError) else f"{type(error).__name__}: "
    return f"torch.compile failed for {what} ({kind}{reason})"


def compile_loss(loss_fn: LossFunction, *, is_alone: bool) -> LossFunction:
    """Return the compiled loss function, which is compiled when it is first called.

    Raises:
        Exception: Whatever torch.compile raises where it does not work at all.
    """
    if not is_alone:
        # For DDP, Dynamo would split the graph at the borders of gradient buckets, to all-reduce them sooner. The
        # parts fuse less, and some versions refuse graphs with autograd functions, of which ours are full.
        from torch._dynamo import config as dynamo_config

        dynamo_config.optimize_ddp = False
    # The whole loss is compiled: a loss_fn may call any method of the model.
    return torch.compile(loss_fn, dynamic=False)


class EvaluationLoss:
    """The loss function in evaluations of one process: compiled for whole batches, and eager for odd ones.

    The first whole batch is checked against the eager loss, with noise added to the weights.

    Args:
        parallel: The model.
        loss_fn: The loss function.
        shape: Windows and tokens per window of a whole batch.
        dtype: Type of the matrix products.
        on_failure: Called if the compiler fails or is wrong; if it returns, all batches are eager from then on.
    """

    def __init__(
        self,
        parallel: Parallel,
        loss_fn: LossFunction,
        shape: tuple[int, int],
        dtype: torch.dtype,
        on_failure: FailureHandler,
    ) -> None:
        self._parallel = parallel
        self._eager = loss_fn
        self._shape = shape
        self._dtype = dtype
        self._on_failure = on_failure
        self._compiled: LossFunction | None = None
        self._has_failed = False
        self.seconds_compiling = 0.0
        """Seconds of compiling, and of the check."""

    def __call__(self, inputs: torch.Tensor, targets: torch.Tensor) -> LossResult:
        """Return the loss of a batch."""
        if self._has_failed or tuple(inputs.shape) != self._shape:
            return self._parallel.call(self._eager, inputs, targets)
        if self._compiled is None:
            began = time.perf_counter()
            self._compile(inputs, targets)
            self.seconds_compiling += time.perf_counter() - began
        return self._parallel.call(self._compiled or self._eager, inputs, targets)

    def _compile(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        with disturbed(self._parallel):
            eager = self._value(self._eager, inputs, targets)
            try:
                compiled = compile_loss(self._eager, is_alone=True)
                check_loss(self._value(compiled, inputs, targets), eager, self._dtype)
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                failure = error
            else:
                self._compiled = compiled
                return
        self._has_failed = True
        self._on_failure("the loss of evaluations", failure)

    def _value(self, loss_fn: LossFunction, inputs: torch.Tensor, targets: torch.Tensor) -> float:
        with autocast(self._parallel.device, self._dtype):
            loss, count = read_loss(self._parallel.call(loss_fn, inputs, targets))
        return float(loss) if count is None else float(loss) / max(1.0, float(count))


def compile_update(
    parallel: Parallel,
    config: TrainConfig,
    dtype: torch.dtype = torch.float32,
    on_failure: FailureHandler = raise_failure,
    *,
    scheduled: Collection[str] = (),
) -> CompiledUpdate | None:
    """Return the compiled update, or None if it is not wanted or not offered by the optimizer.

    An optimizer offers it by a true `step_compiles`: torch.compile(optimizer.step) must make one program for all steps
    and for all rates, and weight decays and momenta if `scheduled` names them, that are tensors of one number. Of a
    combined optimizer, which lists its parts as `optimizers`, the parts that offer it are compiled. Updates of sharded
    parameters are eager.
    """
    offered = any(getattr(part, "step_compiles", False) for part in optimizer_parts(parallel.optimizer))
    if not (is_wanted(config, parallel.device) and offered) or parallel.is_sharded:
        return None
    return CompiledUpdate(parallel, dtype, on_failure, scheduled=scheduled)


class CompiledUpdate:
    """Step of an optimizer, compiled as one graph for each of its parts that offers it.

    The first compiled step of a session is compared with an eager step from the same parameters and state.

    Several processes, each of which has all parameters, stop using the compiler together: if it fails in one of them,
    or if the parameters differ after the first compiled step, which compilers on different machines might cause. If
    the run goes on, it does so from the parameters of rank 0.

    Args:
        parallel: The model, an optimizer or a combined one, and the processes of the run.
        dtype: Type of the matrix products.
        on_failure: Called if the compiler fails or is wrong; if it returns, steps are eager from then on.
        scheduled: Settings of the groups that change from step to step, like the rate.
    """

    def __init__(
        self,
        parallel: Parallel,
        dtype: torch.dtype,
        on_failure: FailureHandler,
        *,
        scheduled: Collection[str] = (),
    ) -> None:
        self._optimizer = parallel.optimizer
        self._names = {id(parameter): name for name, parameter in parallel.model.named_parameters()}
        self._dtype = dtype
        self._on_failure = on_failure
        self._scheduled = ("lr", *scheduled)
        self._processes = parallel.processes
        self._parts = optimizer_parts(self._optimizer)
        self._is_compiled = [bool(getattr(part, "step_compiles", False)) for part in self._parts]
        self._steps: list[Callable[[], object] | None] = [None] * len(self._parts)

    def make(self) -> float:
        """Make the update, and return the seconds that compiling it has taken, its first run included.

        The very first update is eager: it creates the optimizer's state, which is another program. A step that could
        not be compiled, or is wrong, is undone before `on_failure` is called, and then made eagerly.
        """
        if not self._optimizer.state:
            self._optimizer.step()
            return 0.0
        seconds = 0.0
        for index, part in enumerate(self._parts):
            step = self._steps[index]
            if not self._is_compiled[index]:
                part.step()
            elif step is not None:
                with _as_tensors(part, self._scheduled):
                    step()
            else:
                began = time.perf_counter()
                self._is_compiled[index] = self._make_first(index)
                seconds += time.perf_counter() - began
        return seconds

    def _make_first(self, index: int) -> bool:
        """Compile and make the first step of a part, or an eager one; return whether it compiled in all processes."""
        part = self._parts[index]
        check = UpdateCheck(part, self._names)
        check.make_eager_step()
        failure: Exception | None = None
        try:
            step = torch.compile(part.step, fullgraph=True)
            with _as_tensors(part, self._scheduled):
                step()
            check.compare(self._dtype)
            self._steps[index] = step
        except Exception as error:
            if is_out_of_memory(error):
                raise
            failure = error
        failure = agreed_failure(failure, self._processes)
        if failure is None and self._processes.are_several and not self._is_equal_everywhere(part):
            failure = WrongResultError("its first update differs between processes")
        if failure is None:
            return True
        check.undo()
        self._on_failure(f"the update of {type(part).__name__}", failure)
        part.step()
        states = [value for state in part.state.values() for value in state.values()]
        tensors = [*_parameters(part), *(value for value in states if isinstance(value, torch.Tensor))]
        self._processes.copy_from_rank_0(tensors)
        return False

    def _is_equal_everywhere(self, part: Optimizer) -> bool:
        """Compare the sums of the bits of all parameters, as integers, which do not round."""
        sums = [value.detach().contiguous().view(_INTEGERS[value.itemsize]).sum() for value in _parameters(part)]
        digest = float(sum(int(value) for value in torch.stack(sums).tolist()) % 2**52)
        return self._processes.maximum(digest) == -self._processes.maximum(-digest)


def _parameters(optimizer: Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


@contextmanager
def _as_tensors(optimizer: Optimizer, names: Collection[str]) -> Iterator[None]:
    """Replace scheduled settings of the groups by tensors: a number would be a constant of the compiled program."""
    replaced = [(group, name, group[name]) for group in optimizer.param_groups for name in names if name in group]
    try:
        for group, name, value in replaced:
            group[name] = torch.tensor(value, dtype=torch.float64, device="cpu")
        yield
    finally:
        for group, name, value in replaced:
            group[name] = value


def agreed_failure(failure: Exception | None, processes: Processes) -> Exception | None:
    """Return the failure of the compiler in this process, or one that says that it has failed in another."""
    if processes.maximum(float(failure is not None)) > 0:
        return failure or RuntimeError("in another process")
    return None
