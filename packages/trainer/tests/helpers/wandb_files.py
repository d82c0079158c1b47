"""Reader of wandb's file of a run: a log in LevelDB's format, in which each entry is a protobuf."""

import json
import warnings
from pathlib import Path

BLOCK, HEADER = 1 << 15, 7  # bytes; an entry is cut at the end of a block, and its parts have a header each
FULL, LAST = 1, 4


def read_records(path):
    """The entries of a `.wandb` file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of its dependencies
        from wandb.proto.wandb_internal_pb2 import Record

    content, position, entry, records = Path(path).read_bytes(), HEADER, b"", []
    assert content.startswith(b":W&B")
    while position < len(content):
        left = BLOCK - position % BLOCK
        if left < HEADER:
            position += left
            continue
        length, kind = int.from_bytes(content[position + 4 : position + 6], "little"), content[position + 6]
        entry += content[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (FULL, LAST):
            records.append(Record.FromString(entry))
            entry = b""
    return records


def nested(items):
    """{name: value} of what wandb calls items or updates."""
    values = {}
    for item in items:
        name = item.key or ".".join(item.nested_key)
        values[name] = json.loads(item.value_json)
    return values


class OfflineRun:
    """One offline run, read back."""

    def __init__(self, run_dir):
        (self.directory,) = Path(run_dir, "wandb").glob("offline-run-*")
        (path,) = self.directory.glob("*.wandb")
        records = read_records(path)
        (self.run,) = (record.run for record in records if record.HasField("run"))
        self.config = nested(self.run.config.update)
        self.rows = [nested(record.history.item) for record in records if record.HasField("history")]
        self.axes = {record.metric.name for record in records if record.HasField("metric")}
        self.artifacts = [record.artifact for record in records if record.HasField("artifact")]
        self.exit_codes = [record.exit.exit_code for record in records if record.HasField("exit")]
        self.summary = {}
        for record in records:
            if record.HasField("summary"):
                self.summary |= nested(record.summary.update)

    def media(self, name):
        """The file of a picture or table."""
        return self.directory / "files" / name
