"""One optimizer step: micro-batches, gradients, clipping, update."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import nn

from trainer.checkpoints import NumpyStateReader, get_random_states, same_random_states, set_random_states
from trainer.config import TrainConfig
from trainer.data import BatchLoader, StepBatches
from trainer.devices import autocast, free_cached_memory, is_out_of_memory
from trainer.distributed import Parallel
from trainer.evaluation import COUNTING_EXPECTED, LossFunction, read_loss
from trainer.training import compilation
from trainer.training.compilation import (
    FailureHandler,
    agreed_failure,
    compile_loss,
    compile_update,
    raise_failure,
)
from trainer.training.compiled_checks import Gradients, check_gradients, disturbed

_FLOAT16_SCALE = 1024.0  # of losses in the check, so that small gradients do not vanish


class TrainingStep:
    """Computes the gradients of a step and applies them.

    A step reads one or more batches from the loader. Each batch is one micro-batch, that is one forward and backward
    pass; it is split into several if a whole batch does not fit into memory.

    Args:
        parallel: The model, its optimizer, and the parallelism of the processes.
        loss_fn: Function that returns the mean loss of a batch.
        loader: Source of the batches.
        config: Settings of the run.
        device: Device that computes.
        dtype: torch.bfloat16 and torch.float16 compute under autocast, float16 with loss scaling.
        scheduled: Settings of the optimizer's groups, besides the rate, that change from step to step.
        on_halving: Called with a message after `micro_batch_size` has been reduced.
        on_compile_failure: Called if the compiler fails or is wrong; if it returns, training continues without it.
        on_unchecked: Called with a message if the gradients of the compiled loss cannot be compared with eager ones.
    """

    def __init__(
        self,
        parallel: Parallel,
        loss_fn: LossFunction,
        loader: BatchLoader,
        config: TrainConfig,
        device: torch.device,
        dtype: torch.dtype,
        *,
        scheduled: Collection[str] = (),
        on_halving: Callable[[str], None] = lambda message: None,
        on_compile_failure: FailureHandler = raise_failure,
        on_unchecked: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._parallel = parallel
        self._optimizer = parallel.optimizer
        self._loss_fn = loss_fn
        self._loader = loader
        self._config = config
        self._device = device
        self._dtype = dtype
        self._compiles = compilation.is_wanted(config, device)
        self._compiled: LossFunction | None = None
        """The compiled loss, after its check for the present `micro_batch_size`."""
        self._on_compile_failure = on_compile_failure
        self._on_unchecked = on_unchecked
        self._update = compile_update(parallel, config, dtype, on_compile_failure, scheduled=scheduled)
        self.micro_batch_size = loader.rows
        """Windows in one forward pass: a whole batch, or less if that did not fit into memory."""
        self._on_halving = on_halving
        self._micro_steps = 0
        self._numpy_reader = NumpyStateReader()
        self._counted: torch.Tensor | None = None
        """Targets of the step that count, in this process so far; None if the loss function returns means."""
        self.has_targets: torch.Tensor | None = None
        """Whether any target of the last step counts, a scalar; None if all do."""
        self._scaler = torch.amp.GradScaler(device.type) if dtype == torch.float16 else None
        self.seconds_compiling = 0.0
        """Seconds of the passes and updates that included compilation."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        is_halved = self.micro_batch_size < self._loader.rows
        return {
            "micro_batch_size": self.micro_batch_size if is_halved else None,
            "scaler": None if self._scaler is None else self._scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, for any number of processes."""
        self.micro_batch_size = largest_part(self._loader.rows, state["micro_batch_size"] or self._loader.rows)
        if self._scaler is not None and state["scaler"] is not None:
            self._scaler.load_state_dict(state["scaler"])

    def compute_gradients(self, step: int, batches: StepBatches) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the gradients of the mean loss over the step's batches, and clip them.

        If memory runs out, the step starts again with smaller micro-batches.

        Args:
            step: Number of the step, from 0.
            batches: Batches of the step.

        Returns:
            The mean loss over all processes, and the global L2 norm of the gradients before clipping; both are scalars
            on the device.

        Raises:
            torch.OutOfMemoryError: If memory runs out, and micro-batches must not or cannot be halved.
        """
        self._micro_steps = self._loader.micro_steps(batches)
        may_halve = self._config.halve_on_out_of_memory
        while True:
            # Read only if needed for a second try, because reading costs some 20 microseconds.
            is_read = may_halve and self._reason_not_to_halve() is None
            states = get_random_states(self._numpy_reader) if is_read else None
            self._optimizer.zero_grad(set_to_none=True)
            try:
                return self._run_passes(batches), self._clip()
            except RuntimeError as error:
                if not may_halve or not is_out_of_memory(error):
                    raise
                reason = str(error).strip().partition("\n")[0]
                if states is None:
                    raise torch.OutOfMemoryError(f"{self._reason_not_to_halve()} ({reason})") from error
            # Outside the except block, because the error keeps the tensors of its traceback alive.
            self._optimizer.zero_grad(set_to_none=True)
            free_cached_memory(self._device)
            self._halve(step, reason)
            set_random_states(states)

    @property
    def loss_scale(self) -> float | None:
        """Factor of the losses in backward passes; None without loss scaling."""
        return None if self._scaler is None else self._scaler.get_scale()

    def omit(self, grad_norm: torch.Tensor) -> None:
        """Make no update; with loss scaling, reduce the scale if gradients were too large for float16.

        As in torch's GradScaler, the gradients alone decide: a loss of nan reduces the scale by its gradients.

        Args:
            grad_norm: Norm that `compute_gradients` returned.
        """
        if self._scaler is None:
            return
        scale = self._scaler.get_scale()
        if torch.isfinite(grad_norm):
            self._scaler.update(new_scale=scale)
            return
        self._scaler.update(new_scale=scale * self._scaler.get_backoff_factor())
        self._scaler.load_state_dict({**self._scaler.state_dict(), "_growth_tracker": 0})

    def apply(self) -> None:
        """Update the parameters."""
        if self._update is None:
            self._optimizer.step()
        else:
            self.seconds_compiling += self._update.make()
        if self._scaler is not None:
            self._scaler.update()

    def _run_passes(self, batches: StepBatches) -> torch.Tensor:
        """Run all forward and backward passes of a step, and return the mean loss over all processes."""
        total: torch.Tensor | None = None
        self._counted = self.has_targets = None
        passes_left = self._passes()
        for micro_step in range(self._micro_steps):
            batch = self._loader.get(batches, micro_step)
            is_whole = self.micro_batch_size == self._loader.rows
            parts = [batch] if is_whole else zip(*(ids.split(self.micro_batch_size) for ids in batch), strict=True)
            for part in parts:
                passes_left -= 1
                with self._parallel.accumulating(more_to_come=passes_left > 0):
                    loss = self._accumulate(*part)
                total = loss if total is None else total + loss
        assert total is not None
        self._parallel.check_gradients()
        if self._scaler is not None:
            self._scaler.unscale_(self._optimizer)
        total = self._parallel.processes.mean(total)
        return total if self._counted is None else total * self._weigh(self._counted)

    def _weigh(self, counted: torch.Tensor) -> torch.Tensor:
        """Turn gradients of the mean over all targets of the step into those of the mean over the ones that count.

        Args:
            counted: The number of targets that count in this process; a scalar.

        Returns:
            The factor between the two means.
        """
        targets = self._loader.rows * self._config.context_length * self._micro_steps * self._loader.world_size
        counted = self._parallel.processes.sum(counted)
        self.has_targets = counted > 0
        factor = torch.where(self.has_targets, targets / counted, 0.0)
        gradients = [parameter.grad for parameter in self._parameters() if parameter.grad is not None]
        torch._foreach_mul_(gradients, factor)
        return factor

    def _reason_not_to_halve(self) -> str | None:
        """Return the error message for a step that cannot use smaller micro-batches; None if it can."""
        if self._loader.world_size > 1:
            return (
                f"out of memory with {self.micro_batch_size} windows in a forward pass of each of "
                f"{self._loader.world_size} processes: choose a smaller batch_size with more grad_accumulation_steps"
            )
        if self.micro_batch_size == 1:
            return (
                "out of memory with one window in a forward pass: choose a smaller context_length or model, or another "
                "device"
            )
        return None

    def _halve(self, step: int, reason: str) -> None:
        before = self.micro_batch_size
        self.micro_batch_size = largest_part(before, before // 2)
        self._compiled = None  # the new shape must be compiled
        self._on_halving(
            f"out of memory in step {step + 1:,} ({reason}): micro-batches of {self.micro_batch_size} instead of "
            f"{before} windows from here on, the tokens per step stay the same"
        )

    def _accumulate(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Add the gradients of one micro-batch, and return its share of the step's loss.

        Before the first pass the loss is compiled, and its gradients are checked against eager ones. If that fails in
        any process, all go on without the compiler, or none.
        """
        if self._compiles and self._compiled is None:
            began = time.perf_counter()
            self._compile(inputs, targets)
            self.seconds_compiling += time.perf_counter() - began
        return self._backward(self._compiled or self._loss_fn, inputs, targets)

    def _compile(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Compile the loss for the shape of this batch, and check it on weights with noise, leaving no trace.

        With several processes no gradients are exchanged, because a process that fails could not take part.
        """
        failure: Exception | None = None
        with disturbed(self._parallel), self._parallel.accumulating(more_to_come=True):
            before = get_random_states()
            eager = self._eager_gradients(inputs, targets)
            is_random = not same_random_states(before, get_random_states())
            try:
                compiled_loss = compile_loss(self._loss_fn, is_alone=not self._parallel.processes.are_several)
                compiled = self._gradients(compiled_loss, [(inputs, targets)])
                if not is_random:  # compiled programs draw other numbers
                    check_gradients(compiled, eager, self._dtype)
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                failure = error
        self._parallel.model.zero_grad(set_to_none=True)
        failure = agreed_failure(failure, self._parallel.processes)
        if failure is None:
            self._compiled = compiled_loss
            if is_random:
                self._on_unchecked(
                    "the gradients of the compiled loss are not compared with eager ones, because the loss draws "
                    "random numbers, as for masked inputs or dropout"
                )
            return
        self._compiles = False
        self._on_compile_failure("the training loss", failure)

    def _eager_gradients(self, inputs: torch.Tensor, targets: torch.Tensor) -> Gradients:
        """Return the loss of a batch and its gradients, in parts if eager passes do not have enough memory."""
        rows = len(inputs)
        while True:
            parts = zip(inputs.split(rows), targets.split(rows), strict=True)
            try:
                return self._gradients(self._loss_fn, list(parts))
            except RuntimeError as error:
                if rows == 1 or self._parallel.processes.are_several or not is_out_of_memory(error):
                    raise
            self._parallel.model.zero_grad(set_to_none=True)
            free_cached_memory(self._device)
            rows = largest_part(rows, rows // 2)

    def _gradients(self, loss_fn: LossFunction, parts: list[tuple[torch.Tensor, torch.Tensor]]) -> Gradients:
        """Return the mean loss of a batch in equal parts and its gradients, which the parameters do not keep."""
        total, model = 0.0, self._parallel.model
        for part in parts:
            loss = self._mean_loss(loss_fn, *part)[0] / len(parts)
            total += loss.item()
            scale = _FLOAT16_SCALE if self._dtype == torch.float16 else 1.0
            (loss * scale).backward()  # type: ignore[no-untyped-call, unused-ignore]
        gradients = {
            name: self._parallel.own_part(parameter.grad)
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }
        model.zero_grad(set_to_none=True)
        return Gradients(total, gradients)

    def _passes(self) -> int:
        """Return the number of forward passes in the present step."""
        return self._micro_steps * (self._loader.rows // self.micro_batch_size)

    def _backward(self, loss_fn: LossFunction, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Add the gradients of one forward pass, and return its share of the step's mean loss over all targets."""
        loss, count = self._mean_loss(loss_fn, inputs, targets)
        if count is not None:
            # The number of targets that count is known only after the last pass; `_weigh` then corrects the mean.
            before = torch.zeros((), device=self._device) if self._counted is None else self._counted
            self._counted = before + count
        if (passes := self._passes()) > 1:  # a division by 1 would be one more operation, and its backward pass
            loss = loss / passes
        scaled = loss if self._scaler is None else self._scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call, unused-ignore]
        return loss.detach()

    def _mean_loss(
        self, loss_fn: LossFunction, inputs: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | float | None]:
        """Return the mean loss of a forward pass over all targets, and the number of those that count, if it is known.

        Raises:
            ValueError: If the loss function does not return what it should.
        """
        with autocast(self._device, self._dtype):
            loss, count = read_loss(self._parallel.differentiate(loss_fn, inputs, targets))
        if count is None and self._loader.has_ignored_targets:
            raise ValueError(COUNTING_EXPECTED)
        if count is not None:
            loss = loss / targets.numel()
        if not loss.requires_grad:
            raise ValueError(
                "the loss has no gradient: expected loss_fn to compute it from trainable parameters of the model, "
                "without detach or no_grad"
            )
        return loss, count

    def _parameters(self) -> list[nn.Parameter]:
        """Return the parameters that the optimizer updates."""
        return [parameter for group in self._optimizer.param_groups for parameter in group["params"]]

    def _clip(self) -> torch.Tensor:
        parameters = [parameter for parameter in self._parameters() if parameter.grad is not None]
        norm = self._parallel.norm(parameter.grad for parameter in parameters if parameter.grad is not None)
        if self._config.max_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self._config.max_grad_norm, norm)
        return norm


def largest_part(rows: int, limit: int) -> int:
    """Return the largest divisor of `rows` that is at most `limit`; at least 1."""
    return next(part for part in range(max(1, min(rows, limit)), 0, -1) if rows % part == 0)
