"""Result of a run, as `summary.json` keeps it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

_VERSION = 1
_TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "RunStatus": (str,),
}

RunStatus = Literal["completed", "diverged", "time_limit", "stopped"]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Result of a run, as `summary.json` keeps it; a number that is not finite is None."""

    status: RunStatus
    """Why training ended: all steps made, divergence, out of time, or stopped by a callback."""
    diverged: bool
    """Whether a loss or gradient was not finite, or the final validation loss is above the first one."""
    diverged_at_step: int | None
    """The first step whose loss or gradient norm was not finite."""
    divergence: str | None
    """The divergence in words."""
    steps: int
    """Optimizer steps made."""
    tokens: int
    """Training tokens seen."""
    parameters: int
    """Parameters of the model, shared ones once."""
    final_valid_loss: float | None
    """Validation loss at the end, nats per token; None if the run diverged before."""
    best_valid_loss: float | None
    """The lowest validation loss of all evaluations on the whole split."""
    perplexity: float | None
    """exp(final_valid_loss)."""
    bits_per_byte: float | None
    """Of the final evaluation; None if the token file does not say how long its text was."""
    seconds_total: float
    """Wall clock over all resumes, everything included."""
    seconds_training: float
    """The part of it spent on optimizer steps."""
    tokens_per_second: float | None
    """Training tokens by `seconds_training`."""
    mfu: float | None
    """Model FLOPs utilisation in training, from 0 to 1; None where FLOPs or the device's peak are not known."""
    peak_memory_bytes: int | None
    """The most memory in use: of tensors on CUDA, of the process elsewhere; None where it is not known."""
    spikes: int
    """Training records whose largest loss was far above the usual one."""
    skipped_steps: int
    """Steps without an update, because their loss or gradient was not finite."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values for `json.dumps`: the format's version, and the fields."""
        return {"version": _VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, values: dict[str, Any], source: str = "the summary") -> Summary:
        """Rebuild a summary from what `to_json` returned.

        Args:
            values: Content of a `summary.json`.
            source: Name of the file, for errors.

        Raises:
            ValueError: If another version wrote it, or a field is missing, unknown or of another type.
        """
        version = values.get("version")
        if version != _VERSION:
            raise ValueError(
                f"{source} has version {version} of the format, expected {_VERSION}: read it with the version of this "
                "package that wrote it (environment.json names it), or train in another run directory"
            )
        given = {name: value for name, value in values.items() if name != "version"}
        expected = {field.name for field in fields(cls)}
        if given.keys() != expected:
            wrong = ", ".join(sorted(given.keys() ^ expected))
            raise ValueError(
                f"{source} is not a summary: {wrong} missing or unknown; restore it, or remove it to resume from the "
                "last checkpoint"
            )
        wrong = ", ".join(field.name for field in fields(cls) if not _fits(given[field.name], str(field.type)))
        if wrong:
            raise ValueError(
                f"{source} is not a summary: {wrong} of another type than expected; restore it, or remove it to resume "
                "from the last checkpoint"
            )
        return cls(**given)


def _fits(value: object, annotation: str) -> bool:
    """Return whether a value has the type of an annotation, such as "float | None"."""
    kind, _, optional = annotation.partition(" | ")
    if value is None:
        return bool(optional)
    return type(value) in _TYPES[kind]
