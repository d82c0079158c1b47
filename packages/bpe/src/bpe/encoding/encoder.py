"""Encoding of texts of any size: in plain Python or by the kernels, in blocks that threads share."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Literal, NamedTuple

from bpe import kernels
from bpe.encoding.in_python import PretokenEncoder
from bpe.encoding.merges import Merges
from bpe.text import (
    BLOCK_BYTES,
    AddedToken,
    AddedTokenSplitter,
    Block,
    BlockCutter,
    Span,
    SpecialTokenFinder,
    check_special_tokens,
    replace_malformed,
    scanner_of,
    utf8,
    utf8_view,
    warn_of_replacements,
)
from bpe.threads import check_threads, map_in_order, works_alone
from bpe.vocabulary import TokenizerSpec

if TYPE_CHECKING:
    import numpy as np

    from bpe.encoding.with_kernels import BlockEncoder, EncodedBlock

_MAX_RULES = 16


class EncodedText(NamedTuple):
    """The encoding of a block of a longer text."""

    ids: list[int] | np.ndarray
    bytes: int
    """Number of bytes that were encoded."""
    replaced: int
    """Number of malformed sequences that were replaced by U+FFFD."""


def _needs_splitter(token: AddedToken) -> bool:
    """Return whether a token is found in another way than special tokens are."""
    return token.looks_around or token.normalized


class _Engine:
    """Both ways to encode text between special tokens, in Python and by kernels, with their caches of pre-tokens."""

    def __init__(self, spec: TokenizerSpec) -> None:
        self.spec = spec
        self.finder = SpecialTokenFinder(list(spec.found_ids))
        self.special_ids = list(spec.found_ids.values())
        self.scanner = None if spec.byte_pattern else scanner_of(spec.pattern)
        self.bytes_in_python = 0
        self._short_texts = 0
        self._merges = Merges(spec)
        self.pretokens = PretokenEncoder(self._merges, spec.pattern, spec.byte_pattern)
        self._kernels: BlockEncoder | None = None

    def load_kernels(self) -> BlockEncoder:
        """Return the encoder that uses kernels, which are compiled or read from the disk cache at their first use."""
        if self._kernels is None:
            from bpe.encoding.with_kernels import BlockEncoder

            if self.scanner is None:
                raise ValueError("the kernels do not know the pattern of this tokenizer")
            self._kernels = BlockEncoder(
                self._merges, self.finder, self.special_ids, scanner=self.scanner, id_dtype=self.spec.id_dtype
            )
        return self._kernels

    def worth_kernels(self, size: int) -> bool:
        """Return whether to encode about `size` bytes with the kernels."""
        if self.scanner is None or size == 0:
            return False
        if self._kernels is not None:
            if size > kernels.CALL_BYTES:
                return True
            self._short_texts += 1
            return self._short_texts <= kernels.CALLS and not self._merges.has_ranks
        worth = (
            kernels.pay_off(size, kernels.ENCODING_BYTES)
            or kernels.pay_off(self.bytes_in_python + size, kernels.ENCODING_BYTES_IN_TOTAL)
            or (size >= kernels.SMALL_TEXT_BYTES and kernels.encoding_loaded())
        )
        return worth and self._merges.fit_kernels

    @property
    def fits_kernels(self) -> bool:
        """True if the kernels can encode with this tokenizer."""
        return self.scanner is not None and self._merges.fit_kernels

    @cached_property
    def shared_ids(self) -> np.ndarray:
        """All ids as Python integers; lists that share them take less time and much less memory."""
        import numpy as np

        return np.arange(self.spec.vocab_size).astype(object)

    @cached_property
    def token_sizes(self) -> np.ndarray:
        """The number of bytes of each token: int64, shape (vocab_size,)."""
        import numpy as np

        sizes = np.zeros(self.spec.vocab_size, dtype=np.int64)
        sizes[list(self.spec.vocab)] = list(map(len, self.spec.vocab.values()))
        return sizes


class TextEncoder:
    """Encodes text with a cache of pre-tokens; several threads may use it at once."""

    def __init__(
        self,
        spec: TokenizerSpec,
        allowed: frozenset[str] | None = None,
        disallowed: frozenset[str] | None = frozenset(),
        *,
        engine: _Engine | None = None,
    ) -> None:
        """Create an encoder, or one that shares the engine of another and follows other rules for special tokens.

        Args:
            spec: The definition of the tokenizer.
            allowed: The special tokens that are encoded as such; None for all of them.
            disallowed: The strings that no text may contain; None for the special tokens that are not allowed.
            engine: The engine to share.

        Raises:
            ValueError: If `allowed` names a token that is not special, or `disallowed` something that no text can
                contain.
        """
        self.spec = spec
        self._engine = engine or _Engine(spec)
        self._finder = self._engine.finder
        self._found = spec.found_tokens
        if allowed is not None:
            for token in check_special_tokens([*allowed]):
                if token not in spec.special_ids:
                    raise ValueError(
                        f"allowed_special has {token!r}, which is not a special token of this tokenizer; check its "
                        "name, or add it with add_tokens"
                    )
            found = spec.found_ids.keys() - spec.special_ids.keys() | allowed
            self._finder = SpecialTokenFinder(list(spec.found_ids), found)
            self._found = [token for token in spec.found_tokens if token.content in found]
        if disallowed is None:
            disallowed = frozenset(spec.special_tokens) - allowed if allowed is not None else frozenset()
        self._disallowed = SpecialTokenFinder(check_special_tokens([*disallowed])) if disallowed else None
        self.cutter = BlockCutter(self._finder, spec.pattern)
        self._splitter: AddedTokenSplitter | None = None
        if spec.normalization or spec.add_prefix_space or any(map(_needs_splitter, self._found)):
            self._splitter = AddedTokenSplitter(
                spec.found_tokens,
                only={token.content for token in self._found},
                normalization=spec.normalization,
                prefix_space=spec.add_prefix_space,
            )
            self.cutter = self._cutter_for_splitter()

    def _cutter_for_splitter(self) -> BlockCutter:
        """Return a cutter for tokens that are not all found in the same way."""
        spec, tokens = self.spec, self._found
        if spec.normalization is None and scanner_of(spec.pattern) is not None:
            # A text begins with a space where the tokenizer demands it, but not what follows a cut within it.
            apart = [token.content for token in tokens if token.looks_around or spec.add_prefix_space]
            return BlockCutter(self._finder, spec.pattern, apart=apart)
        # Normalization can combine the characters on both sides of a cut. No scanner knows the empty pattern, so the
        # cutter then cuts only after tokens, which must be among those that are searched for first.
        first = [token for token in tokens if not token.normalized]
        finder = SpecialTokenFinder([token.content for token in first])
        return BlockCutter(finder, "", apart=[token.content for token in first if token.looks_around])

    @cached_property
    def _with_rules(self) -> Callable[[frozenset[str] | None, frozenset[str] | None], TextEncoder]:
        """A function that returns an encoder with rules for special tokens, and remembers the last ones."""
        return lru_cache(maxsize=_MAX_RULES)(partial(TextEncoder, self.spec, engine=self._engine))

    def with_rules(
        self, allowed_special: Literal["all"] | Collection[str], disallowed_special: Literal["all"] | Collection[str]
    ) -> TextEncoder:
        """Return an encoder that follows rules for special tokens, with the same caches.

        Raises:
            TypeError: If an argument is neither "all" nor a collection of strings.
            ValueError: If `allowed_special` names a token that is not special, or `disallowed_special` something that
                no text can contain.
        """
        allowed = _all_or_some("allowed_special", allowed_special)
        disallowed = _all_or_some("disallowed_special", disallowed_special)
        return self if allowed is None and not disallowed else self._with_rules(allowed, disallowed)

    def load_kernels(self) -> BlockEncoder:
        """Return the encoder that uses kernels, which are compiled or read from the disk cache at their first use."""
        return self._engine.load_kernels()

    def load_kernels_if_ready(self) -> None:
        """Load the kernels if that takes no more than milliseconds and they know the pattern."""
        if kernels.are_ready() and self._engine.fits_kernels:
            self._engine.load_kernels()

    def prepare_for(self, size: int) -> None:
        """Load the kernels if they pay off for `size` bytes that will come in blocks."""
        if self._engine.worth_kernels(size):
            self.load_kernels()

    def to_list(self, text: str, threads: int | None) -> list[int]:
        """Return the ids of a text as a list."""
        self._check(text, threads)
        if not self._engine.worth_kernels(len(text)):
            return self._text_in_python(text)
        ids: list[int] = []
        # While one part is converted to a list, threads encode the others.
        for part in self._parts(text, threads):
            ids += self._engine.shared_ids[part.ids].tolist()
        return ids

    def to_numpy(self, text: str | bytes, threads: int | None) -> np.ndarray:
        """Return the ids of a text, or of UTF-8, as an array; malformed UTF-8 is replaced with a warning."""
        import numpy as np

        replaced = 0
        in_python = not self._engine.worth_kernels(len(text))
        finds_all = self._finder is self._engine.finder and self._disallowed is None
        if isinstance(text, bytes) and (in_python or not finds_all):
            data, replaced = replace_malformed(text)
            text = data.decode("utf-8")
        self._check(text, threads)
        if isinstance(text, str) and in_python:
            warn_of_replacements(replaced, "text", stacklevel=3)
            return np.array(self._text_in_python(text), dtype=self.spec.id_dtype)
        # The array grows by `resize`: for a large new array, NumPy asks for huge pages (see `arrays.zeros`).
        ids = np.empty(0, dtype=self.spec.id_dtype)
        size, done, whole = 0, 0, len(utf8_view(text))
        for part in self._parts(text, threads, lambda: ids[size:]):  # noqa: B023 - called before the next part
            end, done = size + len(part.ids), done + part.bytes
            if end > len(ids):
                rest = end * max(0, whole - done) // done  # if it is like the text before
                ids.resize(end + rest * 17 // 16, refcheck=False)
            if part.ids.base is not ids:
                ids[size:end] = part.ids
            size, replaced = end, replaced + part.replaced
        if size < len(ids) // 8 * 7:
            ids.resize(size, refcheck=False)
        warn_of_replacements(replaced, "text", stacklevel=3)
        # A few elements too many remain: malloc reuses memory of the size that was asked for, not of a smaller one, and
        # new memory would take a tenth of the time.
        return ids[:size]

    def with_offsets(self, text: str, threads: int | None) -> tuple[list[int], np.ndarray]:
        """Return the ids of a text as a list, and the characters of each token: int64, shape (tokens, 2)."""
        from bpe.encoding.offsets import character_offsets, normalize

        if self.spec.add_prefix_space or any(map(_needs_splitter, self._found)):
            raise ValueError(
                "there are no offsets where tokens are not the bytes of the text: this tokenizer adds a space before a "
                "text, or has added tokens that take in white space; use encode"
            )
        ids = self.to_numpy(text, threads)
        sizes = self._engine.token_sizes[ids]
        normalized = None
        if self.spec.normalization:
            whole = utf8(text).decode("utf-8")
            if not unicodedata.is_normalized("NFC", whole):
                special = [*self.spec.found_ids, ""]  # the last one for index -1: none
                normalized = normalize([(part, special[index]) for part, index in self._finder.split(whole)])
        as_list = ids.tolist() if len(ids) < self.spec.vocab_size else self._engine.shared_ids[ids].tolist()
        return as_list, character_offsets(text, sizes, normalized)

    def _parts(
        self, text: str | bytes, threads: int | None, space: Callable[[], np.ndarray] | None = None
    ) -> Iterator[EncodedBlock]:
        """Yield the ids of a text, or of UTF-8, in parts, by the kernels.

        If this thread does all the work, ids are written into the array that `space` returns, if they fit.
        """
        data, is_valid = utf8_view(text), isinstance(text, str)
        if len(text) <= kernels.SMALL_TEXT_BYTES:
            yield self._with_kernels(Block(data, is_valid=is_valid))
            return
        threads = check_threads(threads)
        # Enough blocks for the threads, but large enough for the cost of a kernel call not to matter.
        size = min(BLOCK_BYTES, max(len(data) // (4 * threads), kernels.SMALL_TEXT_BYTES))
        blocks = self.cutter.blocks_of(data, size, is_valid=is_valid)
        alone = works_alone(threads)

        def encode(block: Block) -> EncodedBlock:
            return self._with_kernels(block, space() if alone and space is not None else None)

        encoder = self.load_kernels()
        entries: int | None = encoder.entries()
        for encoded in map_in_order(encode, blocks, threads):
            if entries is not None:
                encoder.make_space(entries, encoded.bytes, len(data))
                entries = None
            yield encoded

    def batch(self, texts: list[str], threads: int | None) -> list[np.ndarray]:
        """Return the ids of each text as an array."""
        import numpy as np

        threads = check_threads(threads)
        for text in texts:
            self._check(text, threads)
        if not self._engine.worth_kernels(sum(map(len, texts))):
            return [np.array(self._text_in_python(text), dtype=self.spec.id_dtype) for text in texts]
        blocks = (Block(utf8(text)) for text in texts)
        if self._splitter is not None:
            blocks = (self._split(block)[0] for block in blocks)

        def encode(job: tuple[Block, list[int]]) -> tuple[EncodedBlock, list[int]]:
            return self._with_kernels(job[0]), job[1]

        jobs = self.cutter.blocks_of_texts(blocks, BLOCK_BYTES // 4)
        ids: list[np.ndarray] = []
        waiting: list[np.ndarray] = []  # parts of an unfinished text
        for encoded, last_spans in map_in_order(encode, jobs, threads):
            if not last_spans:
                waiting.append(encoded.ids)
                continue
            start = 0
            for span in last_spans:
                end = int(encoded.ends[span])
                waiting.append(encoded.ids[start:end])
                ids.append(np.concatenate(waiting))
                waiting.clear()
                start = end
        return ids

    def block(self, block: Block) -> EncodedText:
        """Return the ids of a block that the cutter cut from a longer text."""
        if self._engine.worth_kernels(len(block.data)):
            encoded = self._with_kernels(block)
            return EncodedText(encoded.ids, encoded.bytes, encoded.replaced)
        parts, size, replaced = self._texts(block)
        self._engine.bytes_in_python += size
        return EncodedText(self._parts_in_python(parts), size, replaced)

    def checked(self, texts: Iterable[str]) -> Iterable[str]:
        """Return the texts, which raise ValueError when the text that they make together has a disallowed string."""
        return texts if self._disallowed is None else self._checked(texts, self._disallowed.longest - 1)

    def _checked(self, texts: Iterable[str], overlap: int) -> Iterator[str]:
        """Yield the texts, and check each with the last `overlap` characters before it."""
        seen = ""
        for text in texts:
            if isinstance(text, str):  # anything else is refused later
                seen = seen[max(0, len(seen) - overlap) :] + text
                self._check(seen, 1)
            yield text

    def _check(self, text: str | bytes, threads: int | None) -> None:
        """Raise ValueError if a text has a disallowed string, or `threads` is wrong."""
        if threads is not None:
            check_threads(threads)
        finder = self._disallowed
        if finder is None:
            return
        data = utf8_view(text)
        spans: list[Span] | np.ndarray
        if self._engine.worth_kernels(len(data)):
            from bpe.kernels.machine.arrays import read_only

            # Each window has all tokens that begin in its first BLOCK_BYTES.
            starts = range(0, len(data), BLOCK_BYTES)
            windows = (read_only(data[start : start + BLOCK_BYTES + finder.longest - 1]) for start in starts)
            found: Iterator[np.ndarray] = map(finder.find, windows)
            if len(starts) > 1:
                found = map_in_order(finder.find, windows, check_threads(threads))
            spans = next(filter(len, list(found)), [])
        else:
            spans = finder.spans(bytes(data))
        if len(spans):
            token = finder.tokens[spans[0][2]].decode("utf-8")
            raise ValueError(
                f"text has the disallowed special token {token!r}; to encode it as a special token, pass "
                f"allowed_special={{{token!r}, ...}}; to encode it as ordinary text, take it out of disallowed_special "
                "(disallowed_special=() disables the check)"
            )

    def _with_kernels(self, block: Block, space: np.ndarray | None = None) -> EncodedBlock:
        """Encode a block with the kernels, if possible into an array."""
        encoder = self.load_kernels()
        if self._splitter is not None and block.spans is None:
            block, size, replaced = self._split(block)
            return encoder.encode(block, space)._replace(bytes=size, replaced=replaced)
        if block.spans is None and self._finder is not self._engine.finder:
            block = block.searched(self._finder)  # which is a string, and so valid UTF-8
        return encoder.encode(block, space)

    def _text_in_python(self, text: str) -> list[int]:
        """Encode a string without kernels."""
        if self._splitter is not None:
            ids = self._parts_in_python(self._splitter.split(utf8(text)))
            self._engine.bytes_in_python += len(text)
            return ids
        try:
            ids = self._parts_in_python(self._finder.split(text))
        except UnicodeEncodeError:  # a lone surrogate, or a pair of them
            ids = self._parts_in_python(self._finder.split(utf8(text).decode("utf-8")))
        self._engine.bytes_in_python += len(text)
        return ids

    def _parts_in_python(self, parts: Iterable[tuple[str, int]]) -> list[int]:
        """Encode texts, each with the index of the special token that follows it (-1: none)."""
        ids: list[int] = []
        for text, special in parts:
            ids += self._engine.pretokens.encode(text)
            if special >= 0:
                ids.append(self._engine.special_ids[special])
        return ids

    def _texts(self, block: Block) -> tuple[list[tuple[str, int]], int, int]:
        """Return the texts between tokens as `Block.texts` does, ready to be split into pre-tokens."""
        if self._splitter is None:
            return block.texts(self._finder)
        data, replaced = block.valid()
        return self._splitter.split(data, continues=block.continues), len(data), replaced

    def _split(self, block: Block) -> tuple[Block, int, int]:
        """Find the tokens in a block.

        Returns:
            A block with known spans and the text between them as the kernels split it, the number of bytes before, and
            the number of malformed sequences replaced by U+FFFD.
        """
        texts, size, replaced = self._texts(block)
        parts: list[bytes] = []
        spans: list[Span] = []
        done = 0
        for text, special in texts:
            parts.append(text.encode("utf-8"))
            done += len(parts[-1])
            if special >= 0:
                parts.append(self._finder.tokens[special])
                spans.append((done, done + len(parts[-1]), special))
                done += len(parts[-1])
        return Block(b"".join(parts), spans), size, replaced


def _all_or_some(name: str, tokens: Literal["all"] | Collection[str]) -> frozenset[str] | None:
    """Return an argument that is a collection of strings or "all", for which None is returned.

    Raises:
        TypeError: If it is anything else.
    """
    if isinstance(tokens, str):
        if tokens == "all":
            return None
        raise TypeError(f'{name} is {tokens!r}, expected "all" or a collection of strings; write {{{tokens!r}}}')
    try:
        return frozenset(tokens)
    except TypeError:
        raise TypeError(f'{name} is a {type(tokens).__name__}, expected "all" or a collection of strings') from None
