"""Real runs of wandb: offline, with a service on this machine, and with a service that is not there."""

import atexit
import json
import math
import os
import re
import shlex
import signal
import socket
import sys
import threading
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from bigram_run import loss_fn, make_model, make_trainer
from children import needs_fork
from forked import ForkedProcess
from wandb_files import OfflineRun
from wandb_service import serve

from trainer import WandbLogger, read_config, read_metrics

HELPERS = Path(__file__).parents[1] / "helpers"
KEY = "0123456789" * 4
AXES = {"tokens", "seconds_total", "seconds_training", "progress"}
installed = pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Hide the user's settings; nothing may be written outside of the run directory."""
    for name in list(os.environ):
        if name.startswith("WANDB_") or name == "NETRC" or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))
    monkeypatch.chdir(work)
    yield home
    if "wandb" in sys.modules:
        import wandb

        wandb.teardown()  # the next test has other settings
    assert list(work.iterdir()) == []


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def values_of(record):
    """The values of a record under wandb's names."""
    own = {name: value for name, value in record.items() if name not in {"event", "step", "group_lrs", *AXES}}
    own |= {f"group_lrs/{index}": rate for index, rate in enumerate(record.get("group_lrs", ()))}
    return {f"{record['event']}/{name}": value for name, value in own.items() if value is not None}


@pytest.fixture(scope="module")
def fonts():
    """Fonts are looked for once, before a test has a home of its own, where each search would begin anew."""
    pytest.importorskip("matplotlib.font_manager")


@installed
@pytest.mark.usefixtures("fonts")
def test_an_offline_run_says_what_the_run_directory_says(tmp_path, home, capfd):
    run_dir = tmp_path / "runs" / "bigram"
    logger = WandbLogger("offline", project="p", group="g", tags=("a", "b"), log_checkpoint=True)
    model = make_model()
    groups = [{"params": model[0].parameters(), "lr_scale": 0.5}, {"params": list(model[1:].parameters())}]
    hooks = sys.exit, sys.excepthook
    summary = make_trainer(
        run_dir,
        model=model,
        optimizer=torch.optim.AdamW(groups, lr=1.0),
        loggers=[logger],
        recorded={"note": "é"},
        sample=lambda model, step: [f"é {step}", "b\n"],
        steps=24,
    ).fit()
    assert (sys.exit, sys.excepthook) == hooks
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
    assert table["data"] == [[24, 0, "é 24"], [24, 1, "b\n"]]
    assert run.media(last["loss_curve.path"]).read_bytes() == (run_dir / "loss.png").read_bytes()
    (model,) = [artifact for artifact in run.artifacts if artifact.type == "model"]
    files = {entry.path: Path(entry.local_path) for entry in model.manifest.contents}
    assert set(files) == {"model.safetensors", "optimizer.pt", "state.pt", "meta.json"}
    assert "best" in model.aliases
    assert {path.parent.parent for path in files.values()} == {run_dir / "checkpoints"}
    assert run.exit_codes == [0]

    command = re.search(r"`wandb sync (.*)`", capfd.readouterr().err)[1]
    assert Path(shlex.split(command)[0]).samefile(run.directory)
    assert files_in(home) == []
    assert "WANDB_CACHE_DIR" not in os.environ


@installed
@pytest.mark.usefixtures("no_pictures")
def test_a_run_that_fails_and_resumes_online_is_one_run_with_each_step_once(tmp_path, monkeypatch, home, capfd):
    def fail(model, step):
        if step == 40:
            raise OSError("no space left")  # the last checkpoint is of step 36, so step 40 is made and logged again
        return []

    run_dir = tmp_path / "run"
    (home / ".netrc").write_text(f"machine 127.0.0.1\n  login user\n  password {KEY}\n", "utf-8")
    (home / ".netrc").chmod(0o600)
    with serve() as service:
        monkeypatch.setenv("WANDB_BASE_URL", service.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        with pytest.raises(OSError, match="no space left"):
            make_trainer(run_dir, loggers=[WandbLogger("auto")], sample=fail, log_interval=5).fit()
        assert [row["_step"] for row in service.rows] == [0, *range(5, 41, 5)]
        logger = WandbLogger("auto")
        make_trainer(run_dir, loggers=[logger], log_interval=5).fit()
        assert logger.mode == "online"
        (run_id,) = set(service.run_ids)
        assert f"wandb: run {service.url}/someone/p/runs/{run_id}" in capfd.readouterr().err
    assert service.exit_codes == [1, 0]
    steps = [row["_step"] for row in service.rows]
    assert steps == [0, *range(5, 61, 5)]
    sent = [(row["_step"], row["train/loss"]) for row in service.rows if "train/loss" in row]
    assert sent == [(record["step"], record["loss"]) for record in read_metrics(run_dir) if record["event"] == "train"]


@installed
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("key", "is_there", "expected"),
    [
        (KEY, False, r"wandb cannot be reached \("),
        (KEY, True, r"wandb cannot be reached \("),
        ("", True, "no API key for wandb is configured: run `wandb login` or set WANDB_API_KEY; "),
    ],
)
def test_a_run_that_the_service_does_not_take_is_kept_offline_with_one_warning(
    key, is_there, expected, tmp_path, monkeypatch, home
):
    """The same run also shows how a loss that is not finite is logged."""

    def lose(model, inputs, targets):
        lose.calls += 1
        return loss_fn(model, inputs, targets) * (float("nan") if model.training and lose.calls > 60 else 1)

    lose.calls = 0
    monkeypatch.setenv("WANDB_API_KEY", key)
    logger = WandbLogger("online", close_seconds=100.0)
    with serve(status=403) as service:
        monkeypatch.setenv("WANDB_BASE_URL", service.url if is_there else "http://127.0.0.1:9")
        with pytest.warns(RuntimeWarning) as caught:
            summary = make_trainer(tmp_path / "run", loggers=[logger], loss=lose).fit()
    assert summary.status == "diverged"
    (message,) = [str(warning.message) for warning in caught if warning.category is RuntimeWarning]
    assert re.match(expected, message)
    run = OfflineRun(tmp_path / "run")
    assert f"the run is kept offline, and `wandb sync {run.directory}` uploads it" in message
    assert run.run.run_id == json.loads((tmp_path / "run" / "environment.json").read_text("utf-8"))["run_id"]
    assert [row["_step"] for row in run.rows if math.isnan(row.get("train/loss", 0.0))] == [summary.diverged_at_step]
    assert run.summary["status"] == "diverged"
    assert files_in(home) == []


@installed
@needs_fork
@pytest.mark.usefixtures("no_pictures")
def test_neither_the_run_nor_the_process_waits_for_a_service_that_does_not_answer(tmp_path):
    """The process would wait for `connect_seconds` if it did, until an alarm ends it."""

    def train():
        signal.alarm(300)
        atexit._clear()  # of the tests
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
        logger = WandbLogger("online", connect_seconds=3000.0, close_seconds=0.5)
        assert make_trainer(tmp_path / "run", steps=20, loggers=[logger]).fit().status == "completed"
        # As an interpreter ends, which a forked process does not.
        threading._shutdown()
        atexit._run_exitfuncs()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = {"WANDB_BASE_URL": f"http://127.0.0.1:{silent.getsockname()[1]}", "WANDB_API_KEY": KEY}
        code, _, errors = ForkedProcess(train, tmp_path / "process", **settings).end()
    assert code == 0, errors
    assert errors.count("warning: WandbLogger did not finish within 0.5 s; training does not wait") == 1


@needs_fork
@pytest.mark.usefixtures("no_pictures")
def test_auto_without_a_key_does_nothing_and_says_so_once(tmp_path, home):
    packages = {"wandb", "tensorboard"}

    def imported():
        return [name for name in sys.modules if name.partition(".")[0] in packages]

    def train():
        os.chdir(tmp_path)
        for name in imported():  # by other tests
            del sys.modules[name]
        make_trainer("run", steps=2, loggers=[WandbLogger()]).fit()
        print(imported())

    code, printed, errors = ForkedProcess(train, tmp_path / "process").end()
    assert code == 0, errors
    assert printed == "[]\n"
    assert errors.splitlines() == [
        "wandb: nothing is sent, because no API key is configured: run `wandb login`, set WANDB_API_KEY, or choose the "
        f"mode offline and run `wandb sync` later; metrics are in {Path('run', 'metrics.jsonl')}"
    ]
    assert not (tmp_path / "run" / "wandb").exists()
    assert files_in(home) == []


@installed
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("password", "host", "base_url", "configured", "mode"),
    [
        (KEY, "api.wandb.ai", None, None, "online"),
        (KEY, "example.org:8080", "https://example.org:8080", None, "online"),
        (KEY, "api.wandb.ai", "https://example.org:8080", None, "disabled"),
        (KEY, "github.com", None, None, "disabled"),
        (KEY, "api.wandb.ai", None, "mode = disabled", "disabled"),
        (KEY, "api.wandb.ai", None, "mode = offline", "offline"),
        (KEY, "github.com", None, f"api_key = {KEY}", "online"),
        ("", "api.wandb.ai", None, None, "disabled"),
        (None, "machine", None, None, "disabled"),
    ],
)
def test_auto_is_online_if_there_is_a_key_for_the_service(
    password, host, base_url, configured, mode, home, monkeypatch
):
    """The settings are wandb's own; a broken file has no key."""
    import wandb

    from trainer.loggers.weights_and_biases import _mode_of

    line = "machine" if password is None else f"machine {host}\n  login user\n  password {password}\n"
    (home / ".netrc").write_text(line, "utf-8")
    (home / ".netrc").chmod(0o600)
    if base_url is not None:
        monkeypatch.setenv("WANDB_BASE_URL", base_url)
    if configured is not None:
        (home / ".config" / "wandb").mkdir(parents=True)
        (home / ".config" / "wandb" / "settings").write_text(f"[default]\n{configured}\n", "utf-8")
    assert WandbLogger().mode == "auto"  # until the run starts
    assert _mode_of(wandb.setup(wandb.Settings(silent=True)).settings) == mode


def test_what_the_environment_says_is_decided_at_once(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert WandbLogger().mode == "disabled"


@pytest.mark.usefixtures("no_pictures")
def test_disabled_does_nothing_and_says_nothing(tmp_path, capfd):
    make_trainer(tmp_path / "run", steps=2, loggers=[WandbLogger("disabled")], sample=lambda *_: ["a"]).fit()
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "run" / "wandb").exists()


@pytest.mark.usefixtures("no_pictures")
def test_missing_package(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for mode in ("online", "offline"):
        with pytest.raises(ModuleNotFoundError, match=r'pip install "scratchlm-trainer\[wandb\]"'):
            WandbLogger(mode)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    make_trainer(tmp_path / "run", steps=1, loggers=[WandbLogger()]).fit()
    error = capsys.readouterr().err
    assert 'not installed though WANDB_API_KEY is set up: pip install "scratchlm-trainer[wandb]"' in error


def test_wrong_arguments():
    with pytest.raises(ValueError, match="mode is 'on': expected one of 'auto', 'online', 'offline', 'disabled'"):
        WandbLogger("on")
    with pytest.raises(ValueError, match=r"close_seconds is 0\.0: expected a number above 0"):
        WandbLogger("disabled", close_seconds=0.0)
    with pytest.raises(ValueError, match="connect_seconds is -1"):
        WandbLogger("disabled", connect_seconds=-1)


@installed
def test_records_before_a_run_are_refused():
    logger = WandbLogger("offline")
    logger.close()
    logger.log({"event": "train", "step": 0})
    with pytest.raises(RuntimeError, match="expected a call of on_start first"):
        logger.close()
