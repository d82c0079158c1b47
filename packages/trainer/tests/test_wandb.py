"""Real runs of wandb, offline or with a service that is not there."""

import json
import math
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from bigram_run import loss_fn, make_model, make_trainer
from wandb_files import OfflineRun
from wandb_service import serve

from trainer import TrainingInterrupted, WandbLogger, read_config, read_metrics
from trainer.loggers.wandb_settings import find_wandb_key

KEY = "0123456789" * 4
AXES = {"tokens", "seconds_total", "seconds_training", "progress"}
installed = pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
NOTICE_WITHOUT_KEY = "wandb: nothing is sent, because no API key is configured"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """No settings of who runs the tests are seen, and nothing is written outside of the run."""
    for name in list(os.environ):
        if name.startswith("WANDB_") or name == "NETRC" or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))
    monkeypatch.chdir(work)
    yield home
    assert list(work.iterdir()) == []


def children(run_dir):
    """Processes that were started for a run: they have it in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if os.fsencode(run_dir) in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def values_of(record):
    """What a row of wandb has of a record, under its names."""
    own = {name: value for name, value in record.items() if name not in {"event", "step", "group_lrs", *AXES}}
    own |= {f"group_lrs/{index}": rate for index, rate in enumerate(record.get("group_lrs", ()))}
    return {f"{record['event']}/{name}": value for name, value in own.items() if value is not None}


@installed
def test_an_offline_run_says_what_the_run_directory_says(tmp_path, home, capfd):
    run_dir = tmp_path / "runs" / "bigram"
    logger = WandbLogger("offline", project="p", group="g", tags=("a", "b"), log_checkpoint=True)
    model = make_model()
    groups = [{"params": model[0].parameters(), "lr_scale": 0.5}, {"params": list(model[1:].parameters())}]
    summary = make_trainer(
        run_dir,
        model=model,
        optimizer=torch.optim.AdamW(groups, lr=1.0),
        loggers=[logger],
        recorded={"note": "é"},
        sample=lambda model, step: [f"é {step}", "b\n"],
    ).fit()
    run = OfflineRun(run_dir)

    identity = json.loads((run_dir / "environment.json").read_text("utf-8"))
    assert (run.run.run_id, run.run.project, run.run.display_name) == (identity["run_id"], "p", "bigram")
    assert (run.run.run_group, list(run.run.tags)) == ("g", ["a", "b"])
    config = read_config(run_dir)
    assert {name: run.config[name] for name in config} == config
    assert run.config["environment"]["torch"] == identity["torch"]
    assert "diff" not in (run.config["environment"]["git"] or {})

    metrics = read_metrics(run_dir)
    expected = {}
    for record in metrics:  # training and evaluation of one step are one row, with the seconds of the later
        row = expected.setdefault(record["step"], {})
        row |= values_of(record) | {name: record[name] for name in AXES}
    assert [row["_step"] for row in run.rows] == sorted(expected)
    for row in run.rows:
        assert {name: value for name, value in row.items() if name in expected[row["_step"]]} == expected[row["_step"]]
    assert {name for name in run.rows[1] if name.startswith(("train/", "eval/"))} == values_of(metrics[1]).keys()
    assert run.rows[1]["train/group_lrs/0"] == run.rows[1]["train/lr"] / 2
    assert run.axes == AXES

    assert {name: run.summary[name] for name in summary.to_json()} == summary.to_json()
    last = run.rows[-1]
    table = json.loads(run.media(last["samples.path"]).read_text("utf-8"))
    assert table["columns"] == ["step", "index", "text"]
    assert table["data"] == [[60, 0, "é 60"], [60, 1, "b\n"]]
    assert run.media(last["loss_curve.path"]).read_bytes() == (run_dir / "loss.png").read_bytes()
    (model,) = [artifact for artifact in run.artifacts if artifact.type == "model"]
    files = {entry.path: Path(entry.local_path) for entry in model.manifest.contents}
    assert set(files) == {"model.safetensors", "state.pt", "meta.json"}
    assert "best" in model.aliases
    assert {path.parent.parent for path in files.values()} == {run_dir / "checkpoints"}
    assert run.exit_codes == [0]

    command = re.search(r"`wandb sync (.*)`", capfd.readouterr().err)[1]
    assert Path(shlex.split(command)[0]).samefile(run.directory)
    assert files_in(home) == []
    assert children(run_dir) == []


@installed
@pytest.mark.usefixtures("no_pictures")
def test_a_loss_that_is_not_finite_is_told(tmp_path):
    def lose(model, inputs, targets):
        lose.calls += 1
        return loss_fn(model, inputs, targets) * (float("nan") if model.training and lose.calls > 60 else 1)

    lose.calls = 0
    summary = make_trainer(tmp_path / "run", loggers=[WandbLogger("offline")], loss=lose).fit()
    assert summary.status == "diverged"
    run = OfflineRun(tmp_path / "run")
    not_finite = [row["_step"] for row in run.rows if math.isnan(row.get("train/loss", 0.0))]
    assert not_finite == [summary.diverged_at_step]
    assert run.summary["status"] == "diverged"


@installed
@pytest.mark.usefixtures("no_pictures")
def test_a_resumed_run_continues_the_same_run(tmp_path, home):
    def interrupt(model, step):
        if step == 20:
            signal.raise_signal(signal.SIGINT)
        return []

    run_dir = tmp_path / "run"
    logger = WandbLogger("offline")
    with pytest.raises(TrainingInterrupted):
        make_trainer(run_dir, loggers=[logger], sample=interrupt).fit()
    first = OfflineRun(run_dir)
    first.directory.rename(tmp_path / "first")
    make_trainer(run_dir, loggers=[logger]).fit()  # the same logger, once more
    second = OfflineRun(run_dir)
    assert first.run.run_id == second.run.run_id
    assert (first.exit_codes, second.exit_codes) == ([1], [0])
    steps = [row["_step"] for row in first.rows + second.rows]
    assert steps == sorted({record["step"] for record in read_metrics(run_dir)})


@installed
@pytest.mark.usefixtures("no_pictures")
def test_a_run_that_fails_and_resumes_online_is_one_run_with_each_step_once(tmp_path, monkeypatch, home, capfd):
    def fail(model, step):
        if step == 40:
            raise OSError("no space left")  # the checkpoint before is of step 36, so step 40 is made and told again
        return []

    run_dir = tmp_path / "run"
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with serve() as service:
        monkeypatch.setenv("WANDB_BASE_URL", service.url)
        with pytest.raises(OSError, match="no space left"):
            make_trainer(run_dir, loggers=[WandbLogger("auto")], sample=fail, log_interval=5).fit()
        assert [row["_step"] for row in service.rows] == [0, *range(5, 41, 5)]
        make_trainer(run_dir, loggers=[WandbLogger("auto")], log_interval=5).fit()
        (run_id,) = set(service.run_ids)
        assert f"wandb: run {service.url}/someone/p/runs/{run_id}" in capfd.readouterr().err
    assert service.exit_codes == [1, 0]
    steps = [row["_step"] for row in service.rows]
    assert steps == [0, *range(5, 61, 5)]
    sent = [(row["_step"], row["train/loss"]) for row in service.rows if "train/loss" in row]
    assert sent == [(record["step"], record["loss"]) for record in read_metrics(run_dir) if record["event"] == "train"]
    assert files_in(home) == []


@installed
@pytest.mark.usefixtures("no_pictures")
def test_online_without_a_network_is_kept_offline_with_one_warning(tmp_path, monkeypatch, home):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    logger = WandbLogger("auto")
    assert logger.mode == "online"
    begin = time.monotonic()
    with pytest.warns(RuntimeWarning) as caught:
        summary = make_trainer(tmp_path / "run", loggers=[logger]).fit()
    assert time.monotonic() - begin < 15
    assert summary.status == "completed"
    (message,) = [str(warning.message) for warning in caught]
    assert message.startswith("wandb cannot be reached (ConnectionRefusedError: ")
    run = OfflineRun(tmp_path / "run")
    assert f"the run is kept offline, and `wandb sync {run.directory}` uploads it" in message
    assert run.summary["final_valid_loss"] == summary.final_valid_loss
    assert children(tmp_path / "run") == []
    assert files_in(home) == []


@installed
@pytest.mark.usefixtures("no_pictures")
def test_a_service_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        logger = WandbLogger("online", close_seconds=1.5)
        begin = time.monotonic()
        with pytest.warns(RuntimeWarning) as caught:
            summary = make_trainer(tmp_path / "run", loggers=[logger]).fit()
        assert time.monotonic() - begin < 10
    assert summary.status == "completed"
    (message,) = [str(warning.message) for warning in caught]
    assert message.startswith("WandbLogger did not finish within 1.5 s; ")
    deadline = time.monotonic() + 10
    while children(tmp_path / "run") and time.monotonic() < deadline:
        time.sleep(0.05)  # wandb's own service ends when it sees that the process has
    assert children(tmp_path / "run") == []


@installed
@pytest.mark.usefixtures("no_pictures")
def test_a_process_that_dies_is_warned_about_once(tmp_path):
    def kill(model, step):
        if step == 20:
            for number in children(tmp_path / "run"):
                os.kill(number, signal.SIGKILL)
        return []

    with pytest.warns(RuntimeWarning) as caught:
        summary = make_trainer(tmp_path / "run", loggers=[WandbLogger("offline")], sample=kill).fit()
    assert summary.status == "completed"
    (message,) = [str(warning.message) for warning in caught]
    assert message.startswith("WandbLogger failed (ConnectionError: ")


@installed
def test_a_killed_run_ends_its_wandb_run_as_failed(tmp_path):
    program = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from bigram_run import make_trainer, slow_loss\n"
        "from trainer import WandbLogger\n"
        "make_trainer(sys.argv[2], loss=slow_loss(0.05), steps=1000, loggers=[WandbLogger('offline')]).fit()"
    )
    run_dir = tmp_path / "run"
    arguments = [sys.executable, "-c", program, str(Path(__file__).parent), str(run_dir)]
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(run_dir.glob("wandb/offline-run-*/*.wandb")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    while children(run_dir) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert OfflineRun(run_dir).exit_codes == [1]


def run_in_background(code, cwd):
    """Run Python code that trains in a process, with what was imported at the end on the last line."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from bigram_run import make_trainer\nfrom trainer import WandbLogger\n"
        "import trainer.records.reporter\ntrainer.reporting.draw_losses = lambda *_: True\n"
        f"{code}\n"
        "print(sorted(name for name in sys.modules if '.' not in name))"
    )
    arguments = [sys.executable, "-c", program, str(Path(__file__).parent)]
    return subprocess.run(arguments, capture_output=True, text=True, cwd=cwd, check=True, stdin=subprocess.DEVNULL)


def test_auto_without_a_key_does_nothing_and_says_so_once(tmp_path, home):
    result = run_in_background("make_trainer('run', steps=2, loggers=[WandbLogger()]).fit()", tmp_path)
    modules = set(eval(result.stdout.splitlines()[-1]))
    assert "trainer" in modules
    assert not modules & {"wandb", "tensorboard"}
    assert result.stderr.splitlines() == [
        f"{NOTICE_WITHOUT_KEY}: run `wandb login`, set WANDB_API_KEY, or choose the mode offline and run `wandb sync` "
        f"later; metrics are in {Path('run', 'metrics.jsonl')}"
    ]
    assert not (tmp_path / "run" / "wandb").exists()
    assert files_in(home) == []


@pytest.mark.usefixtures("no_pictures")
def test_disabled_does_nothing_and_says_nothing(tmp_path, capfd):
    make_trainer(tmp_path / "run", steps=2, loggers=[WandbLogger("disabled")], sample=lambda *_: ["a"]).fit()
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "run" / "wandb").exists()


def netrc(home, host):
    path = home / ".netrc"
    path.write_text(f"machine {host}\n  login user\n  password {KEY}\n", "utf-8")
    path.chmod(0o600)
    return path


def settings(home, text):
    path = home / ".config" / "wandb" / "settings"
    path.parent.mkdir(parents=True)
    path.write_text(f"[default]\n{text}\n", "utf-8")
    return path


def test_no_key(home, monkeypatch):
    assert find_wandb_key() is None
    netrc(home, "example.com")
    settings(home, "base_url = http://localhost")
    monkeypatch.setenv("WANDB_API_KEY", "")
    assert find_wandb_key() is None


def test_where_a_key_may_be(home, monkeypatch):
    path = netrc(home, "api.wandb.ai")
    assert find_wandb_key() == str(path)
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.com:8080")
    assert find_wandb_key() is None
    netrc(home, "wandb.example.com:8080")
    assert find_wandb_key() == str(path)
    monkeypatch.delenv("WANDB_BASE_URL")
    other = settings(home, f"api_key = {KEY}")
    assert find_wandb_key() == str(other)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert find_wandb_key() == "WANDB_API_KEY"


@pytest.mark.parametrize("content", ["machine", "\x00\xff", "machine api.wandb.ai login user"])
def test_a_broken_netrc_has_no_key(content, home):
    (home / ".netrc").write_text(content, "utf-8")
    assert find_wandb_key() is None


@pytest.mark.parametrize("content", ["api_key = x", "[default\n", "[default]\nmode"])
def test_broken_settings_have_no_key(content, home):
    path = settings(home, "")
    path.write_text(content, "utf-8")
    assert find_wandb_key() is None


@installed
@pytest.mark.parametrize(("variable", "mode"), [("offline", "offline"), ("disabled", "disabled"), ("online", "online")])
def test_auto_does_what_the_variable_or_the_settings_say(variable, mode, home, monkeypatch):
    settings(home, f"mode = {variable}")
    assert WandbLogger().mode == mode
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert WandbLogger().mode == "disabled"


@pytest.mark.usefixtures("no_pictures")
def test_missing_package(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for mode in ("online", "offline"):
        with pytest.raises(ModuleNotFoundError, match=r'pip install "scratchlm-trainer\[wandb\]"'):
            WandbLogger(mode)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    make_trainer(tmp_path / "run", steps=1, loggers=[WandbLogger()]).fit()
    error = capsys.readouterr().err
    assert 'not installed though WANDB_API_KEY has a key: pip install "scratchlm-trainer[wandb]"' in error


def test_wrong_arguments():
    with pytest.raises(ValueError, match="mode is 'on': expected one of 'auto', 'online', 'offline', 'disabled'"):
        WandbLogger("on")
    with pytest.raises(ValueError, match=r"close_seconds is 0\.0: expected a number above 0"):
        WandbLogger("disabled", close_seconds=0.0)
    with pytest.raises(ValueError, match="connect_seconds is -1"):
        WandbLogger("disabled", connect_seconds=-1)


@installed
def test_without_a_run_nothing_is_started(tmp_path):
    logger = WandbLogger("offline")
    logger.close()
    with pytest.raises(RuntimeError, match="expected a call of on_start first"):
        log_until_it_raises(logger)


def log_until_it_raises(logger):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        logger.log({"event": "train", "step": 0})
        time.sleep(0.001)
