"""The command that measures."""

import json
from dataclasses import asdict

from measured_runs import ONE

from owt_leaderboard.commands import measure


def test_measure_runs_every_limit_and_keeps_what_it_finds(tmp_path, monkeypatch, capsys):
    made = []

    def complete(run, notify):
        made.append((run.run_dir.name, run.command))
        return None if "9s" in run.run_dir.name else {"final_valid_loss": 3.0}

    monkeypatch.setattr(measure, "complete", complete)
    monkeypatch.setattr(measure, "measurement_of", lambda run_dir, dataset: ONE)
    assert measure.main(["--limits", "5s", "9s", "--out", str(tmp_path), "--set", "batch_size=4"]) == 1
    assert [name for name, _ in made] == ["5s-seed-0", "9s-seed-0"]
    words = list(made[0][1])
    assert words[words.index("--set") + 1] == "batch_size=4"
    assert words[words.index("--rates") + 1] == "recipe"  # which a search between two runs does not change
    assert "--dataset" not in words  # of which the run has to know that nobody named it
    assert {command[command.index("--valid-bytes") + 1] for _, command in made} == {"50000"}  # that of the shortest
    assert json.loads((tmp_path / "measurements.json").read_text("utf-8")) == [asdict(ONE)]
    assert "1 runs measured, 1 failed" in capsys.readouterr().out
    assert measure.main(["--seeds", "0", "--out", str(tmp_path)]) == 2
    assert "error: --seeds 0: expected 1 or more" in capsys.readouterr().err


def test_a_long_limit_on_a_cpu_is_refused_before_the_first_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    monkeypatch.setattr(measure, "complete", lambda run, notify: None)
    assert measure.main(["--limits", "5s", "10m", "--out", str(tmp_path)]) == 2
    assert "the time limit is 600 s and this machine has no GPU" in capsys.readouterr().err
