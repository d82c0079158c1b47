"""The two steps of a pipeline: counting the pre-tokens of shards, and encoding shards to token files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from datatrove.io import DataFolderLike
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger

from bpe.cluster.shards import column_of, is_empty, list_shards, local_copy, open_folder, stem, written_to
from bpe.encoding import TextEncoder, TokenFile, encode_file
from bpe.formats import directory, huggingface
from bpe.text import END_OF_TEXT, GPT2_PATTERN, Pattern, check_pattern, check_special_tokens
from bpe.threads import call_aside, check_threads
from bpe.training import PretokenCounts, count_pretokens

_MOST = 2**63 - 1


def add_up(parts: Iterable[PretokenCounts]) -> PretokenCounts:
    """Return the sum of counts, of which only one at a time is held beside the sum.

    Raises:
        ValueError: If there is nothing to add, or the counts do not belong together.
    """
    from bpe.kernels.tables.pretokens import PretokenTable

    facts: PretokenCounts | None = None
    number = 0
    table = PretokenTable()
    for part in parts:
        empty = PretokenCounts(pattern=part.pattern, special_tokens=part.special_tokens)
        facts = empty if facts is None else facts + empty  # refuses counts that do not belong together
        number += part.total
        if number > _MOST:
            raise ValueError(f"there are more than {_MOST:,} pre-tokens, too many for counts of 64 bits; use less text")
        call_aside(partial(table.add, *part.arrays()))
    if facts is None:
        raise ValueError("there are no counts to add up; count some text first")
    sums = call_aside(table.arrays)
    return PretokenCounts.from_arrays(*sums, pattern=facts.pattern, special_tokens=facts.special_tokens)


class _ShardStep(PipelineStep):
    """A step that reads shards of a folder and gives every task its share of them."""

    type = "bpe"

    def __init__(
        self,
        input: DataFolderLike,
        output: DataFolderLike,
        *,
        shards: Sequence[str] | None,
        column: str,
        threads: int,
    ) -> None:
        super().__init__()
        self.input = open_folder(input)
        self.output = open_folder(output)
        self.shards = list_shards(self.input) if shards is None else list(shards)
        self.column = column
        self.threads = check_threads(threads)

    def _shards_of(self, data: object, rank: int, world_size: int) -> list[str]:
        """Return the shards of a task."""
        if data is not None:
            raise ValueError(f"the step {self.name!r} follows another, but reads its shards itself; put it first")
        return self.shards[rank::world_size]

    def _skip_empty(self, name: str) -> None:
        """Report a shard without text."""
        logger.warning(f"shard {name!r} has no text, and was skipped")
        self.stat_update("empty shards")


class CountPretokens(_ShardStep):
    """Counts the pre-tokens of the shards of each task and writes them to one file, `<task>.counts`.

    The counts of all tasks, added up by `add_up`, are those of `count_pretokens` for all shards together.
    """

    name = "count pre-tokens"

    def __init__(
        self,
        input: DataFolderLike,
        output: DataFolderLike,
        *,
        shards: Sequence[str] | None = None,
        special_tokens: Iterable[str] | None = (END_OF_TEXT,),
        pattern: Pattern = GPT2_PATTERN,
        column: str = "text",
        threads: int = 1,
    ) -> None:
        """Create the step.

        Args:
            input: The folder of the shards: a path, or a URL such as `s3://…`.
            output: The folder for the counts.
            shards: Names of the shards in `input`; None lists them now. A shard is a text (.txt, .gz, .zst) or a
                table (.jsonl, .jsonl.gz, .json.gz, .parquet, …), of which each row is a document.
            special_tokens: Strings that are taken out before the text is split.
            pattern: The regular expression of a pre-token, or several in a tuple.
            column: The column of the texts of shards that are tables.
            threads: The number of threads in each task.

        Raises:
            ValueError: If there is no shard, or an argument is wrong.
        """
        super().__init__(input, output, shards=shards, column=column, threads=threads)
        self.special_tokens = check_special_tokens(special_tokens)
        self.pattern = check_pattern(pattern)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Count every shard of a task; a task without shards writes nothing."""
        shards = self._shards_of(data, rank, world_size)
        if not shards:
            return
        with self.track_time("task"):
            counts = self._count(shards[0]) if len(shards) == 1 else add_up(map(self._count, shards))
            with written_to(self.output, f"{rank:05d}.counts") as path:
                counts.save(path)
        self.stat_update("bytes", value=counts.total_bytes, unit="task")

    def _count(self, name: str) -> PretokenCounts:
        """Return the counts of a shard."""
        column = column_of(name, self.column)
        with local_copy(self.input, name) as path:
            if is_empty(path, column):
                self._skip_empty(name)
                return PretokenCounts(pattern=self.pattern, special_tokens=self.special_tokens)
            return count_pretokens(path, self.special_tokens, pattern=self.pattern, column=column, threads=self.threads)


class EncodeShards(_ShardStep):
    """Encodes each shard to a token file of the same name, with the description and index that `encode_file` writes.

    Every row of a table is a document, which gets `<|endoftext|>` at its end.
    """

    name = "encode shards"

    def __init__(
        self,
        input: DataFolderLike,
        output: DataFolderLike,
        tokenizer: DataFolderLike,
        *,
        shards: Sequence[str] | None = None,
        format: str = "npy",
        documents: bool | None = None,
        column: str = "text",
        threads: int = 1,
    ) -> None:
        """Create the step; `CountPretokens` describes the arguments that are not listed here.

        Args:
            input: The folder of the shards.
            output: The folder for the token files.
            tokenizer: The folder of the tokenizer, which is read now.
            shards: Names of the shards.
            format: "npy", "llm.c" or "megatron".
            documents: Whether to write an index of documents; None: for llm.c and Megatron.
            column: The column of the texts of shards that are tables.
            threads: The number of threads in each task.

        Raises:
            OSError: If the tokenizer cannot be read.
            ValueError: If there is no shard, two shards have the same name without suffixes, or an argument is wrong.
        """
        super().__init__(input, output, shards=shards, column=column, threads=threads)
        with local_copy(open_folder(tokenizer), huggingface.TOKENIZER_JSON) as path:
            self.spec = directory.load(path.parent)
        self.format = format
        self.documents = documents
        (stem_, number), *_ = Counter(map(stem, self.shards)).most_common(1)
        if number > 1:
            same = [name for name in self.shards if stem(name) == stem_]
            raise ValueError(
                f"shards {' and '.join(map(repr, same))} would get the same token file; rename one of them"
            )
        TokenFile.named(self._target(self.shards[0]), format, documents)  # raises ValueError for an unknown format

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Encode every shard of a task."""
        encoder = TextEncoder(self.spec)
        for name in self._shards_of(data, rank, world_size):
            with self.track_time("shard"):
                self._encode(encoder, name)

    def _target(self, name: str) -> str:
        """Return the name of the token file of a shard."""
        return stem(name) + (".npy" if self.format == "npy" else ".bin")

    def _encode(self, encoder: TextEncoder, name: str) -> None:
        """Encode a shard."""
        column = column_of(name, self.column)
        with local_copy(self.input, name) as path:
            if is_empty(path, column):
                self._skip_empty(name)
                return
            with written_to(self.output, self._target(name)) as target:
                report = encode_file(
                    encoder,
                    path,
                    target,
                    self.threads,
                    file_format=self.format,
                    documents=self.documents,
                    column=column,
                    source=name,
                )
        self.stat_update("tokens", value=report.tokens, unit="shard")
        self.stat_update("bytes", value=report.bytes, unit="shard")
