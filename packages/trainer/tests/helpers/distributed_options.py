"""Runs of two processes with losses that count targets, float16, callbacks, compiled updates and background saves."""

import threading

import torch
import torch.distributed as dist
from compiling_optimizers import Both, Momentum, auto_compiles
from distributed_run import Blocks, loss_fn, make_trainer, others
from torch.nn.functional import cross_entropy

from trainer.callbacks import EarlyStopping
from trainer.checkpoints import store
from trainer.distributed.rank import read_ranks
from trainer.training.compilation import CompilationError

PATIENCE = 120.0
"""Seconds after which an event that has not come is a failure; nothing takes nearly as long."""
IGNORED = -100
WAYS = ("ddp", "fsdp")
SGD = {"steps": 1, "max_grad_norm": None}
FLOAT16 = {"dtype": "float16", "steps": 6, "grad_accumulation_steps": 1}
OVERFLOW = 3
"""Step in which a gradient of the second process overflows."""
BACKGROUND = {"parallel": "fsdp", "steps": 8, "checkpoint_interval": 2, "eval_tokens": 50, "eval_interval": 8}


def train_with_options(directory):
    """Train in all ways, and leave what was seen in DIRECTORY/rank{R}.pt."""
    seen = {}
    for way in WAYS:
        seen[f"counted {way}"] = count_targets(directory / f"counted-{way}", way)
        seen[f"float16 {way}"] = overflow(directory / f"float16-{way}", way)
        seen[f"stopped {way}"] = stop(directory / f"stopped-{way}", way)
        seen[f"shared {way}"] = share(directory / f"shared-{way}", way)
    for name in ("off", "on", "fails", "differs"):
        seen[name] = compile_updates(directory / name, name)
    seen["foreground"] = save(directory / "foreground", {}, save_in_background=False)
    released = {step: threading.Event() for step in (2, 4)}
    seen["background"] = save(directory / "background", released)
    torch.save(seen, directory / f"rank{read_ranks().rank}.pt")


def counted_loss(model, inputs, targets, rank):
    """The sum of the losses, and the number of targets that count: 1 or 2 of 8 on rank 0, and 6 or 7 on rank 1."""
    last = targets[:, :1] % 2 + 5 * rank
    targets = torch.where(torch.arange(targets.shape[1]) > last, IGNORED, targets)
    logits = model.logits(inputs).flatten(0, 1)
    return cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, reduction="sum"), (targets != IGNORED).sum()


def whole(tensor):
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().clone()


def count_targets(run_dir, way):
    """Return the batches of a step and its gradients."""
    batches, gradients = [], []

    def loss(model, inputs, targets):
        if model.training:
            batches.append((inputs, targets))
        return counted_loss(model, inputs, targets, read_ranks().rank)

    model = Blocks()
    optimizer = torch.optim.SGD(model.parameters())
    optimizer.register_step_pre_hook(
        lambda *_: gradients.extend(whole(parameter.grad) for parameter in optimizer.param_groups[0]["params"])
    )
    make_trainer(run_dir, loss=loss, model=model, optimizer=optimizer, parallel=way, **SGD).fit()
    return batches, gradients


class Overflow(torch.autograd.Function):
    """A zero, whose gradient for the very first number is infinite."""

    @staticmethod
    def forward(context, value):
        context.save_for_backward(value)
        return value.new_zeros(())

    @staticmethod
    def backward(context, gradient):
        (value,) = context.saved_tensors
        result = torch.zeros_like(value)
        result.view(-1)[0] = torch.inf
        return result


def overflow(run_dir, way):
    """Return the scales after each step, what was found to be infinite, the number of updates, and the weights.

    The infinite gradient is of the second process. Its place is in the shard of the first.
    """
    calls, scales, found, updates = [], [], [], []
    update, unscale = torch.amp.GradScaler.update, torch.amp.GradScaler.unscale_

    def loss(model, inputs, targets):
        value = loss_fn(model, inputs, targets)
        calls.append(model.training)
        if model.training and sum(calls) == OVERFLOW and read_ranks().rank == 1:
            value = value + Overflow.apply(model.embedding.weight)
        return value

    def note_scale(scaler, new_scale=None):
        update(scaler, new_scale)
        scales.append(scaler.get_scale())

    def note_found(scaler, optimizer):
        unscale(scaler, optimizer)
        states = scaler._per_optimizer_states[id(optimizer)]["found_inf_per_device"].values()
        found.append(sum(value.item() for value in states))

    torch.amp.GradScaler.update, torch.amp.GradScaler.unscale_ = note_scale, note_found
    model = Blocks()
    optimizer = torch.optim.AdamW(model.parameters())
    optimizer.register_step_post_hook(lambda *_: updates.append(None))
    try:
        make_trainer(run_dir, loss=loss, model=model, optimizer=optimizer, parallel=way, **FLOAT16).fit()
    finally:
        torch.amp.GradScaler.update, torch.amp.GradScaler.unscale_ = update, unscale
    return scales, found, len(updates), list(model.parameters())


def stop(run_dir, way):
    """The first process alone decides to stop at the second evaluation, as no loss is better by 100 nats."""
    stopping = EarlyStopping(patience=1 if read_ranks().rank == 0 else 100, min_delta=100.0)
    summary = make_trainer(run_dir, parallel=way, eval_interval=4, callbacks=[stopping]).fit()
    return summary.status, summary.steps


class Sharing(Momentum):
    """An optimizer whose processes might share its work."""

    def __init__(self, params):
        super().__init__(params)
        self.groups = []

    def share_among(self, group):
        self.groups.append(None if group is None else group.size())


def share(run_dir, way):
    """Return the sizes of the groups that an optimizer was told of."""
    model = Blocks()
    optimizer = Sharing(model.parameters())
    make_trainer(run_dir, model=model, optimizer=optimizer, parallel=way, steps=1).fit()
    return optimizer.groups


def compile_updates(run_dir, name):
    """Return the compiled steps, the error of a run that must not go on without them, and the weights.

    With "fails" and "differs", steps of the second process fail, or add what a compiler might round differently. Where
    they do not fail they round differently, too.
    """
    calls, compile_well, is_second = [], torch.compile, read_ranks().rank == 1

    def compile_update(function, **options):
        if getattr(function, "__name__", "") != "step":
            return function  # the loss, which other tests compile
        step = compile_well(function, backend="eager", **options)

        def call():
            calls.append(options)
            if name == "fails" and is_second:
                raise RuntimeError("no compiler")
            step()
            if name == "fails" or (name == "differs" and is_second):
                with torch.no_grad():
                    model.blocks[0][1].weight[0, 0] += 1e-6

        return call

    model = Blocks()
    torch.compile = compile_update
    message = ""
    try:
        with auto_compiles():
            parts = Momentum(model.blocks.parameters()), torch.optim.SGD(others(model), momentum=0.9)
            settings = {"steps": 4, "compile": "off" if name == "off" else "auto"}
            make_trainer(run_dir, model=model, optimizer=Both(parts), **settings).fit()
        weights, seen = list(model.parameters()), list(calls)
        if name in ("fails", "differs"):
            model = Blocks()
            parts = Momentum(model.blocks.parameters()), torch.optim.SGD(others(model), momentum=0.9)
            on = run_dir.with_name(f"{name} on")
            make_trainer(on, model=model, optimizer=Both(parts), compile="on", steps=4).fit()
    except CompilationError as error:
        message = str(error)
    finally:
        torch.compile = compile_well
    return seen, message, weights


def save(run_dir, released, **settings):
    """Return the error of a run whose second checkpoint finds no room, and the step that was then being made.

    Checkpoints in the background are written only when training is a step further.
    """
    calls = []

    def loss(model, inputs, targets):
        calls.append(model.training)
        step = (sum(calls) + 2) // 3
        for at, event in released.items():
            if step > at:
                event.set()
        return loss_fn(model, inputs, targets)

    def write_late(directory, state):
        if released:
            assert released[state.step].wait(PATIENCE)
        if state.step == 4:
            raise OSError(28, "No space left on device")
        return write(directory, state)

    write, store.write_tensors = store.write_tensors, write_late
    try:
        make_trainer(run_dir, loss=loss, **BACKGROUND, **settings).fit()
    except OSError as error:
        return str(error), sum(calls), dist.is_initialized()
    finally:
        store.write_tensors = write
