"""Profiles of steps: a trace and a table of operators."""

import gzip
import json
from types import SimpleNamespace

import pytest
from bigram_run import Notices, make_trainer
from torch.autograd import DeviceType

from trainer.training.profiling import operator_table

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.mark.parametrize(("steps", "profiled"), [(30, 3), (12, 2), (10, 0), (8, 0)])
def test_steps_after_the_first_ten_are_profiled(tmp_path, timeless, steps, profiled):
    run, notices = tmp_path / "run", Notices()
    settings = {"steps": steps, "eval_interval": 11, "checkpoint_interval": 11}  # with both among the profiled steps
    make_trainer(run, profile=3, loggers=[notices], **settings).fit()
    make_trainer(tmp_path / "plain", **settings).fit()
    assert timeless(run) == timeless(tmp_path / "plain")
    if not profiled:
        assert not (run / "profile").exists()
        message = f"nothing is profiled: this session made {steps} steps, and the profile begins after 10"
        assert message in notices.messages
        return
    assert sorted(path.name for path in (run / "profile").iterdir()) == ["operators.md", "trace.json.gz"]
    with gzip.open(run / "profile" / "trace.json.gz") as file:
        events = json.load(file)["traceEvents"]
    traced = {event["name"] for event in events if event["name"].startswith("ProfilerStep")}
    assert len(traced) == profiled + (steps == 12)  # the end of the session is another one
    table = (run / "profile" / "operators.md").read_text()
    assert f"on average of {profiled} steps on cpu" in table
    # Two passes of two linear layers in each step.
    (products,) = [line for line in table.splitlines() if line.startswith("| aten::addmm |")]
    assert products.split(" | ")[1] == "4"
    assert any(f"profiled {profiled} steps" in message for message in notices.messages)


def test_the_table_has_shares_of_the_time_and_of_the_peak():
    def event(key, device_time, cpu_time, flops=0, device_type=DeviceType.CPU):
        return SimpleNamespace(
            key=key,
            count=6,
            self_device_time_total=device_time,
            self_cpu_time_total=cpu_time,
            flops=flops,
            device_type=device_type,
        )

    events = [
        event("aten::mm", 3000.0, 10.0, flops=6e11),
        event("a kernel", 3000.0, 0.0, device_type=DeviceType.CUDA),
        event("aten::add", 1000.0, 90.0),
        event("ProfilerStep#10", 9000.0, 9000.0),
    ]
    lines = operator_table(events, 2, "cuda", 400e12).splitlines()
    assert lines[0] == "2.000 ms of operators per step, on average of 2 steps on cuda."
    assert lines[5:] == [
        "| aten::mm | 3 | 1.500 | 75.0% | 200,000.0 | 50.0% |",
        "| aten::add | 3 | 0.500 | 25.0% |  |  |",
    ]
    lines = operator_table(events, 2, "cpu", None).splitlines()
    assert lines[5] == "| aten::add | 3 | 0.045 | 90.0% |  |  |"
    assert lines[6] == "| aten::mm | 3 | 0.005 | 10.0% | 60,000,000.0 |  |"
