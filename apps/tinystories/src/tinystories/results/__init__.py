"""Records of finished runs: read back, grouped by seed, compared, and searched for the best rate and batch size."""

from tinystories.results.batches import BatchFindings, Cost, study_batches
from tinystories.results.comparisons import DECIMALS, Comparison, compare, shown_interval, summarised
from tinystories.results.rates import RateFindings, rate_of, study_rates
from tinystories.results.records import (
    BASELINE,
    EXPERIMENT_FILE,
    FAILURE_FILE,
    KILLED_FOR_MEMORY,
    Curve,
    Experiment,
    Failure,
    Group,
    Kind,
    Result,
    read_experiment,
    read_failure,
    read_header,
    read_result,
    write_header,
)

__all__ = [
    "BASELINE",
    "DECIMALS",
    "EXPERIMENT_FILE",
    "FAILURE_FILE",
    "KILLED_FOR_MEMORY",
    "BatchFindings",
    "Comparison",
    "Cost",
    "Curve",
    "Experiment",
    "Failure",
    "Group",
    "Kind",
    "RateFindings",
    "Result",
    "compare",
    "rate_of",
    "read_experiment",
    "read_failure",
    "read_header",
    "read_result",
    "shown_interval",
    "study_batches",
    "study_rates",
    "summarised",
    "write_header",
]
