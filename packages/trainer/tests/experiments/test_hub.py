"""Downloads from a server on this machine that behaves like the hub, faults included."""

import hashlib
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
from hub_server import COMMIT, LATER, Hub

from trainer.experiments import hub
from trainer.experiments.hub import HubDataset

DATA = HubDataset(
    name="balls",
    repository="somebody/Balls",
    train="train.txt",
    valid="valid.txt",
    advice="Give --dataset PATH",
)

STORIES = [f"Number {i} had {i * i} red balls and {i % 7} blue ones.\n<|endoftext|>\n" for i in range(4000)]
FILES = {DATA.train: "".join(STORIES[400:]).encode(), DATA.valid: "".join(STORIES[:400]).encode()}


def set_endpoint(url, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The hub, with the library set to it and to a cache of its own, as its environment variables do at its import."""
    server = Hub(DATA.repository, FILES)
    set_endpoint(server.url, monkeypatch)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the library waits between attempts
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def fetch(tmp_path):
    """Downloads both files; what was said is in `fetch.said`."""

    def fetch(dataset=DATA):
        fetch.said = []
        return hub.download(dataset, tmp_path / "data", fetch.said.append)

    return fetch


def left_over(tmp_path):
    """Files in the cache that have no business there: parts of downloads."""
    blobs = {hashlib.sha256(contents).hexdigest() for contents in FILES.values()}
    return [path for path in tmp_path.glob("cache/*/blobs/*") if path.name not in blobs]


def check(downloads, tmp_path):
    for name, found in zip((DATA.train, DATA.valid), downloads, strict=True):
        assert found.path.name == name
        assert found.path.read_bytes() == FILES[name]
        assert found.sha256 == hashlib.sha256(FILES[name]).hexdigest()
    assert not left_over(tmp_path)


def test_a_second_call_asks_nobody_and_reads_nothing(server, fetch, tmp_path, monkeypatch):
    check(fetch(), tmp_path)
    assert [line.split()[0] for line in fetch.said] == [
        "downloading",
        f"{DATA.valid}:",
        "downloading",
        f"{DATA.train}:",
    ]
    record = json.loads((tmp_path / "data" / f"{DATA.name}-hub.json").read_text("utf-8"))
    assert record["revision"] == COMMIT
    assert record["files"][DATA.train]["bytes"] == len(FILES[DATA.train])
    server.requests.clear()
    monkeypatch.setattr("hashlib.file_digest", None)
    check(fetch(), tmp_path)
    assert fetch.said == []
    assert server.requests == []


def test_the_commit_of_the_first_download_is_kept(server, fetch, tmp_path):
    server.faults = [None, "wrong bytes"]
    with pytest.raises(hub.DownloadError, match="damaged"):
        fetch()
    server.commit = LATER
    with pytest.raises(hub.DownloadError, match="404") as caught:
        fetch()
    assert f"revision {COMMIT} is pinned by {tmp_path / 'data' / f'{DATA.name}-hub.json'}" in str(caught.value)
    (tmp_path / "data" / f"{DATA.name}-hub.json").unlink()
    check(fetch(), tmp_path)


def test_a_lost_connection_goes_on_where_it_broke(server, fetch, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    server.faults = [None, "closed", "closed"]
    check(fetch(), tmp_path)
    ranges = [asked for name, asked in server.contents() if name == DATA.train]
    assert ranges[0] is None
    begins = [int(asked.removeprefix("bytes=").removesuffix("-")) for asked in ranges[1:]]
    assert len(begins) == 2
    assert len(FILES[DATA.train]) // 2 - 1000 < begins[0] < begins[1] < len(FILES[DATA.train])


def test_a_connection_that_is_reset_is_tried_again(server, fetch, tmp_path):
    server.faults = ["reset", None, "reset"]
    check(fetch(), tmp_path)


def test_a_file_that_ends_too_early_is_not_kept(server, fetch, tmp_path):
    server.faults = ["too short"]
    with pytest.raises(hub.DownloadError, match=f"{DATA.valid}.*size {len(FILES[DATA.valid])}") as caught:
        fetch()
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("cache/*/snapshots/*/*"))
    check(fetch(), tmp_path)


def test_wrong_bytes_are_removed_and_right_at_the_next_call(server, fetch, tmp_path):
    server.faults = [None, "wrong bytes"]
    with pytest.raises(hub.DownloadError, match=f"{DATA.train} of {DATA.repository} is damaged") as caught:
        fetch()
    expected = hashlib.sha256(FILES[DATA.train]).hexdigest()
    assert f"expected sha256 {expected}, got " in str(caught.value)
    assert [path.name for path in tmp_path.glob("cache/*/snapshots/*/*")] == [DATA.valid]
    assert [path.stat().st_size for path in tmp_path.glob("cache/*/blobs/*")] == [len(FILES[DATA.valid])]
    check(fetch(), tmp_path)


def test_a_file_that_was_changed_in_the_cache(server, fetch, tmp_path):
    path = fetch()[0].path
    with path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(hub.DownloadError, match=r"is damaged: .* \(1,000 bytes\)"):
        fetch()
    check(fetch(), tmp_path)


def test_a_checksum_known_beforehand_outweighs_what_the_hub_says(server, fetch, tmp_path):
    server.files[DATA.valid] = b"something else"
    dataset = replace(DATA, sha256={DATA.valid: hashlib.sha256(FILES[DATA.valid]).hexdigest()})
    with pytest.raises(hub.DownloadError, match=r"\(14 bytes\)"):
        fetch(dataset)
    server.files[DATA.valid] = FILES[DATA.valid]
    check(fetch(dataset), tmp_path)


@pytest.mark.parametrize("status", [404, 500])
def test_errors_of_the_server(status, server, fetch, tmp_path):
    server.status = status
    with pytest.raises(hub.DownloadError, match=str(status)) as caught:
        fetch()
    message = str(caught.value)
    for part in (
        DATA.valid,
        server.url,
        "HF_ENDPOINT",
        f"fetch {DATA.train} and {DATA.valid} elsewhere. Give --dataset PATH",
    ):
        assert part in message
    assert "\n" not in message
    assert not (tmp_path / "data").exists()
    server.status = 200
    check(fetch(), tmp_path)


def test_files_that_the_repository_does_not_have(server, fetch):
    with pytest.raises(hub.DownloadError, match=r"absent.txt of .*404"):
        fetch(replace(DATA, valid="absent.txt"))


def test_no_server(server, fetch, tmp_path, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        set_endpoint(f"http://127.0.0.1:{unused.getsockname()[1]}", monkeypatch)
        with pytest.raises(hub.DownloadError, match=r"Connect.*Run it again later.*--dataset PATH$"):
            fetch()
    assert not (tmp_path / "data").exists()


def test_offline(server, fetch, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(hub.DownloadError, match=r"(?i)offline"):
        fetch()
    assert fetch.said == []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    check(fetch(), tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    server.requests.clear()
    check(fetch(), tmp_path)
    (tmp_path / "data" / f"{DATA.name}-hub.json").unlink()  # the cache alone is enough, and verified
    check(fetch(), tmp_path)
    assert json.loads((tmp_path / "data" / f"{DATA.name}-hub.json").read_text("utf-8"))["revision"] == COMMIT
    assert server.requests == []


def test_a_cache_without_links(server, fetch, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.are_symlinks_supported", lambda *_: False)
    monkeypatch.setenv("HF_HUB_DISABLE_SYMLINKS_WARNING", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_SYMLINKS_WARNING", True)
    server.faults = ["wrong bytes"]
    with pytest.raises(hub.DownloadError, match="damaged"):
        fetch()
    assert not list(tmp_path.glob("cache/*/snapshots/*/*"))
    check(fetch(), tmp_path)
    assert fetch.said[-1].endswith("sha256 as expected")


@pytest.mark.parametrize("links", [True, False])
def test_files_in_folders(server, fetch, tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr("huggingface_hub.file_download.are_symlinks_supported", lambda *_: False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_SYMLINKS_WARNING", True)
    nested = replace(DATA, train="data/en/train.txt", valid="data/valid.txt")
    server.files = {nested.train: FILES[DATA.train], nested.valid: FILES[DATA.valid]}
    for _ in range(2):
        check(fetch(nested), tmp_path)
        record = json.loads((tmp_path / "data" / f"{DATA.name}-hub.json").read_text("utf-8"))
        assert record["revision"] == COMMIT
    assert fetch.said == []


def test_a_hub_that_announces_no_checksum(server, fetch, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "_announced_sha256", lambda *_: None)
    check(fetch(), tmp_path)
    assert "the hub announces no sha256" in fetch.said[-1]
    fetch()[0].path.write_bytes(b"other")
    with pytest.raises(hub.DownloadError, match="damaged"):
        fetch()


def test_a_damaged_record(server, fetch, tmp_path):
    fetch()
    record = tmp_path / "data" / f"{DATA.name}-hub.json"
    record.write_text("{", "utf-8")
    with pytest.raises(ValueError, match=f"{record}, the record of a download, cannot be read .*; delete it"):
        fetch()


def test_the_variables_of_the_environment(server, tmp_path):
    environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        environment.pop(name, None)
    program = (
        "from pathlib import Path\n"
        "from trainer.experiments.hub import HubDataset, download\n"
        f"data = {DATA!r}\n"
        f"print(download(data, Path({str(tmp_path / 'data')!r}), lambda line: None)[0].path)"
    )

    def run(**variables):
        return subprocess.run(
            [sys.executable, "-c", program], env={**environment, **variables}, capture_output=True, text=True
        )

    assert "DownloadError: valid.txt of somebody/Balls cannot be downloaded" in run(HF_HUB_OFFLINE="1").stderr
    assert run().stdout.startswith(str(tmp_path / "hub"))
    assert run(HF_HUB_OFFLINE="1").stdout.startswith(str(tmp_path / "hub"))


def test_without_the_library(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"huggingface-hub is not installed: .*scratchlm-trainer\[hub\]"):
        hub.download(DATA, tmp_path / "data", lambda line: None)
    assert not (tmp_path / "data").exists()


def test_the_library_is_imported_only_for_downloads():
    program = "import sys; import trainer.experiments.hub; assert 'huggingface_hub' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
