"""Records of finished runs: read back, grouped by seed, compared, and searched for the best rate and batch size."""

from tinystories.results.batches import BatchFindings as BatchFindings
from tinystories.results.batches import Cost as Cost
from tinystories.results.batches import study_batches as study_batches
from tinystories.results.comparisons import DECIMALS as DECIMALS
from tinystories.results.comparisons import Comparison as Comparison
from tinystories.results.comparisons import compare as compare
from tinystories.results.comparisons import shown_interval as shown_interval
from tinystories.results.comparisons import summarised as summarised
from tinystories.results.rates import RateFindings as RateFindings
from tinystories.results.rates import rate_of as rate_of
from tinystories.results.rates import study_rates as study_rates
from tinystories.results.records import BASELINE as BASELINE
from tinystories.results.records import EXPERIMENT_FILE as EXPERIMENT_FILE
from tinystories.results.records import FAILURE_FILE as FAILURE_FILE
from tinystories.results.records import Curve as Curve
from tinystories.results.records import Experiment as Experiment
from tinystories.results.records import Failure as Failure
from tinystories.results.records import Group as Group
from tinystories.results.records import Kind as Kind
from tinystories.results.records import Result as Result
from tinystories.results.records import read_experiment as read_experiment
from tinystories.results.records import read_failure as read_failure
from tinystories.results.records import read_header as read_header
from tinystories.results.records import read_result as read_result
from tinystories.results.records import write_header as write_header
