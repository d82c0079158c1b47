"""The definition of a tokenizer as a plain value, which file formats read and write, and its checks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from bpe.arguments import whole_number
from bpe.errors import UnknownTokenError
from bpe.text import (
    GPT2_PATTERN,
    AddedToken,
    Pattern,
    check_added_tokens,
    check_pattern,
    check_special_tokens,
    utf8,
)

if TYPE_CHECKING:
    import numpy as np

    from bpe.kernels.tables.pretokens import PretokenTable

Merge = tuple[bytes, bytes]


@dataclass(frozen=True, eq=False)
class PackedVocabulary:
    """Tokens of distinct bytes with distinct ids, and distinct merges of them; added tokens are kept apart."""

    data: np.ndarray
    """The tokens, joined: uint8."""
    offsets: np.ndarray
    """Their bounds in `data`: int64, shape (tokens + 1,)."""
    ids: np.ndarray
    """Their ids: int64."""
    table: PretokenTable
    """Their ids as counts."""
    added: Mapping[bytes, int]
    """The ids of added tokens."""
    merge_ids: tuple[np.ndarray, np.ndarray, np.ndarray]
    """The ids of the left parts, the right parts and the results of the merges: int64."""
    ranks: np.ndarray
    """The table of `bpe.kernels.merging.applying.rank_table`."""

    @property
    def vocab_size(self) -> int:
        """The largest id plus one."""
        return max(int(self.ids.max()), *self.added.values(), 0) + 1

    def vocab(self) -> dict[int, bytes]:
        """Return the bytes of each id."""
        return dict(zip(self.ids.tolist(), self._tokens(), strict=True)) | {i: token for token, i in self.added.items()}

    def merges(self) -> list[tuple[bytes, bytes]]:
        """Return the merges in order of priority."""
        by_id = dict(zip(self.ids.tolist(), self._tokens(), strict=True))
        return [(by_id[left], by_id[right]) for left, right in zip(*map(_as_list, self.merge_ids[:2]), strict=True)]

    def _tokens(self) -> list[bytes]:
        """Return the bytes of the tokens that are not added, in order."""
        data, offsets = self.data.tobytes(), self.offsets.tolist()
        return [data[start:end] for start, end in pairwise(offsets)]

    def digested(self) -> list[bytes]:
        """Return what `TokenizerSpec.sha256` digests: ids, sizes of tokens and of parts of merges, tokens and parts."""
        import numpy as np

        added = sorted((id_, token) for token, id_ in self.added.items())
        data = np.concatenate((self.data, np.frombuffer(b"".join(token for _, token in added), dtype=np.uint8)))
        ids = np.concatenate((self.ids, np.array([id_ for id_, _ in added], dtype=np.int64)))
        sizes = np.concatenate((np.diff(self.offsets), np.array([len(token) for _, token in added], dtype=np.int64)))
        starts, order = np.cumsum(sizes) - sizes, np.argsort(ids)
        place = np.empty(self.vocab_size, dtype=np.int64)
        place[ids] = np.arange(len(ids))
        parts = place[np.column_stack(self.merge_ids[:2]).ravel()]
        numbers = [_decimals(array) for array in (ids[order], sizes[order], sizes[parts])]
        return [*numbers, _gathered(data, starts[order], sizes[order]), _gathered(data, starts[parts], sizes[parts])]

    def symbols(self, vocab_size: int) -> np.ndarray:
        """Return the id of each single byte, or `vocab_size` plus the byte if it has none: int64, shape (256,)."""
        import numpy as np

        ids = self.table.find(np.arange(256, dtype=np.uint8), np.arange(256), np.arange(1, 257))
        return np.where(ids >= 0, ids, vocab_size + np.arange(256))


def _decimals(numbers: np.ndarray) -> bytes:
    """Return whole numbers, none of them negative, in decimal with spaces between them."""
    import numpy as np

    every = np.arange(numbers.max(initial=0) + 1, dtype=np.uint32)[:, None]
    powers = 10 ** np.arange(len(str(len(every) - 1)) - 1, -1, -1, dtype=np.uint32)
    characters = np.full((len(every), len(powers) + 1), ord(" "), dtype=np.uint8)
    characters[:, :-1] = every // powers % 10 + ord("0")
    is_written = np.ones(characters.shape, dtype=bool)
    is_written[:, :-2] = every >= powers[:-1]
    return characters[numbers][is_written[numbers]][:-1].tobytes()


def _gathered(data: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> bytes:
    """Return ranges of `data` (uint8), joined."""
    import numpy as np

    offsets = np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)
    return data[offsets + np.arange(len(offsets))].tobytes()


def _as_list(array: np.ndarray) -> list[int]:
    """Return an array as a list."""
    numbers: list[int] = array.tolist()
    return numbers


@dataclass(frozen=True)
class TokenizerSpec:
    """Everything that decides how a tokenizer encodes and decodes. Do not change its dictionary and lists.

    `checked` validates arguments; the constructor trusts them.
    """

    vocab: dict[int, bytes]
    """The bytes of each id, special tokens included."""
    merges: list[Merge]
    """Pairs of tokens in order of priority."""
    special_tokens: list[str]
    pattern: Pattern = GPT2_PATTERN
    """The regular expression of a pre-token, or several, each of which splits further what the one before has left."""
    ignore_merges: bool = False
    """True if a pre-token that is in the vocabulary becomes that token without merging."""
    normalization: str | None = None
    """"NFC" if text between special tokens is first converted to that normal form."""
    added_tokens: list[AddedToken] = field(default_factory=list)
    """Tokens that are found before the text is split and are no plain special tokens: either not special, or found in a
    way of their own. Those that are special are among `special_tokens`, too."""
    add_prefix_space: bool = False
    """True if each text between added tokens gets a space before it unless it begins with one."""
    byte_pattern: tuple[str, ...] = ()
    """Regular expressions that split pre-tokens further, in the written form of their bytes (`bpe.text.byte_level`)."""
    extras: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """By file name, what a file has beyond this definition, such as a chat template; saving writes it back. It decides
    no id, and counts neither for equality nor for `sha256`."""

    @classmethod
    def from_packed(cls, packed: PackedVocabulary, found_ids: dict[str, int], **others: Any) -> TokenizerSpec:
        """Return a definition whose vocabulary and merges are checked arrays, which become objects when needed.

        `found_ids` is the property of that name; `others` are all others than `vocab` and `merges`.
        """
        spec = cls.__new__(cls)
        spec.__dict__.update(others, packed=packed, found_ids=found_ids, vocab_size=packed.vocab_size)
        return spec

    def __getattr__(self, name: str) -> Any:
        """Unpack the vocabulary or the merges at their first use."""
        packed: PackedVocabulary | None = self.__dict__.get("packed")
        if packed is None or name not in ("vocab", "merges"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = self.__dict__[name] = getattr(packed, name)()
        return value

    def __getstate__(self) -> dict[str, Any]:
        """Leave out arrays and what can be computed again when pickled."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def checked(
        cls,
        vocab: Mapping[int, bytes],
        merges: Iterable[Merge],
        special_tokens: Iterable[str] | Mapping[str, int] | None = None,
        *,
        pattern: Pattern = GPT2_PATTERN,
        ignore_merges: bool = False,
        normalization: str | None = None,
        added_tokens: Iterable[AddedToken] = (),
        add_prefix_space: bool = False,
        byte_pattern: str | Iterable[str] = (),
        extras: Mapping[str, str] | None = None,
    ) -> TokenizerSpec:
        """Validate a definition. Special tokens may come with their ids; without, those that are new get the next ids.

        Raises:
            TypeError: If `vocab` is not a mapping, `special_tokens` is a single string or a set, or one of
                `added_tokens` is not an `AddedToken`.
            ValueError: If an id, token, merge, special or added token is malformed, a merge needs a token that the
                vocabulary lacks, a special token has the id of another token, or a pattern or the normalization is
                wrong.
        """
        tokens = _checked_vocab(vocab)
        checked_merges = [_checked_merge(merge) for merge in merges]
        given = dict(special_tokens) if isinstance(special_tokens, Mapping) else {}
        special = check_special_tokens([*given] if isinstance(special_tokens, Mapping) else special_tokens)
        for token, id_ in given.items():
            encoded = token.encode("utf-8")
            for number in _checked_vocab({id_: encoded}):
                tokens.setdefault(number, encoded)
            if tokens[id_] != encoded:
                raise ValueError(f"special token {token!r} has id {id_}, which {tokens[id_]!r} has; give it another id")
        pattern = check_pattern(pattern)
        byte_patterns = (byte_pattern,) if isinstance(byte_pattern, str) else tuple(byte_pattern)
        for one in byte_patterns:
            check_pattern(one)
        if normalization not in (None, "NFC"):
            raise ValueError(
                f"normalization is {normalization!r}, expected None or 'NFC'; normalize the text beforehand"
            )
        special, added = check_added_tokens(added_tokens, special, normalizes=normalization is not None)
        known = set(tokens.values())
        next_id = max(tokens, default=-1) + 1
        for token in map(str.encode, dict.fromkeys([*special, *(other.content for other in added)])):
            if token not in known:
                tokens[next_id] = token
                next_id += 1
        spec = cls(
            tokens,
            checked_merges,
            special,
            pattern,
            bool(ignore_merges),
            normalization,
            added_tokens=added,
            add_prefix_space=bool(add_prefix_space),
            byte_pattern=byte_patterns,
            extras=dict(extras or {}),
        )
        _ = spec.merge_ids  # raises ValueError where a token is missing
        for token, id_ in given.items():
            if spec.special_ids[token] != id_:
                raise ValueError(
                    f"special token {token!r} has id {id_}, expected one above {spec.special_ids[token]}, the id of "
                    "the ordinary token of the same bytes; give it a higher id"
                )
        return spec

    def with_special_tokens(self, special_tokens: Iterable[str] | Mapping[str, int]) -> TokenizerSpec:
        """Return this definition with more special tokens, which may come with their ids; others keep theirs.

        Raises:
            TypeError: If `special_tokens` is a single string or a set.
            ValueError: If a special token is malformed, or its id is that of another token or not the one it has.
        """
        added: Iterable[str] | Mapping[str, int]
        if isinstance(special_tokens, Mapping):
            for token, id_ in self.special_ids.items():
                if special_tokens.get(token, id_) != id_:
                    raise ValueError(
                        f"special token {token!r} has id {id_}, and id {special_tokens[token]!r} is given; leave it out"
                    )
            added = {**self.special_ids, **special_tokens}
        else:
            new = check_special_tokens(special_tokens)
            added = [*self.special_tokens, *(token for token in new if token not in self.special_ids)]
        made = TokenizerSpec.checked(self.vocab, (), added)
        special = set(made.special_tokens)
        tokens = [token._replace(special=True) if token.content in special else token for token in self.added_tokens]
        return replace(self, vocab=made.vocab, special_tokens=made.special_tokens, added_tokens=tokens)

    @property
    def packed(self) -> PackedVocabulary | None:
        """The arrays of a definition that was made from them."""
        arrays: PackedVocabulary | None = self.__dict__.get("packed")
        return arrays

    @cached_property
    def vocab_size(self) -> int:
        """The number of ids that a model must provide for: the largest id plus one."""
        return max(self.vocab, default=-1) + 1

    @property
    def id_dtype(self) -> str:
        """The dtype of ids in arrays and token files: "uint16" if every id fits, else "uint32"."""
        return "uint16" if self.vocab_size <= 1 << 16 else "uint32"

    @cached_property
    def ids(self) -> dict[bytes, int]:
        """The id of each token; of several ids with the same bytes the first, which ordinary text gets."""
        return {token: id_ for id_, token in sorted(self.vocab.items(), reverse=True)}

    @cached_property
    def found_tokens(self) -> list[AddedToken]:
        """All tokens that are found before the text is split: the special tokens, then the other added tokens."""
        ways = {token.content: token for token in self.added_tokens}
        special = [ways.get(content) or AddedToken(content, special=True) for content in self.special_tokens]
        return [*special, *(token for token in self.added_tokens if not token.special)]

    @cached_property
    def found_ids(self) -> dict[str, int]:
        """The id of each of `found_tokens`; of several ids with the same bytes the last."""
        last = {token.content.encode("utf-8"): -1 for token in self.found_tokens}
        for id_, token in self.vocab.items():
            if token in last:
                last[token] = max(last[token], id_)
        return dict(zip((token.content for token in self.found_tokens), last.values(), strict=True))

    @cached_property
    def special_ids(self) -> dict[str, int]:
        """The id of each special token; of several ids with the same bytes the last."""
        return {token: self.found_ids[token] for token in self.special_tokens}

    @cached_property
    def special_id_set(self) -> frozenset[int]:
        """The ids of the special tokens."""
        return frozenset(self.special_ids.values())

    @cached_property
    def ordinary_tokens(self) -> dict[int, bytes]:
        """The vocabulary without the special and the other added tokens."""
        found = set(self.found_ids.values())
        return {id_: token for id_, token in self.vocab.items() if id_ not in found}

    @cached_property
    def whole_ids(self) -> dict[bytes, int]:
        """The id of each pre-token that becomes a token without merging.

        A special or other added token is among them only if it is a byte or the result of a merge, so that ordinary
        text never becomes a token that is nothing but added.
        """
        if not self.ignore_merges:
            return {}
        alone = {id_ for token, id_ in self.found_ids.items() if self.ids[token.encode("utf-8")] == id_}
        alone -= set(self.merge_ids[2])
        return {token: id_ for token, id_ in self.ids.items() if id_ not in alone or len(token) == 1}

    @cached_property
    def merge_ids(self) -> tuple[list[int], list[int], list[int]]:
        """The ids of the left parts, the right parts and the results of all merges.

        Raises:
            ValueError: If one of them is not in the vocabulary.
        """
        ids = self.ids
        try:
            lefts, rights = [ids[left] for left, _ in self.merges], [ids[right] for _, right in self.merges]
            return lefts, rights, [ids[left + right] for left, right in self.merges]
        except KeyError as error:
            missing = error.args[0]
            merge = next(merge for merge in self.merges if missing in (*merge, merge[0] + merge[1]))
            raise ValueError(
                f"merge {merge!r} needs token {missing!r}, which is not in the vocabulary; add it"
            ) from None

    @cached_property
    def sha256(self) -> str:
        """The SHA-256, in hexadecimal, of the whole definition."""
        if self.packed is not None:
            lengths = [len(self.packed.ids) + len(self.packed.added), 2 * len(self.packed.merge_ids[0])]
            content = self.packed.digested()
        else:
            ids = sorted(self.vocab)
            tokens = [self.vocab[id_] for id_ in ids]
            parts = [part for merge in self.merges for part in merge]
            lengths = [len(tokens), len(parts)]
            numbers = (" ".join(map(str, several)) for several in (ids, map(len, tokens), map(len, parts)))
            content = [*(text.encode("ascii") for text in numbers), b"".join(tokens), b"".join(parts)]
        special = [self.special_tokens, list(self.special_ids.values())]
        facts: list[object] = [*special, self.pattern, self.ignore_merges, self.normalization]
        if self.added_tokens or self.add_prefix_space or self.byte_pattern:
            others = [(*token, self.found_ids[token.content]) for token in self.added_tokens]
            facts += [others, self.add_prefix_space, self.byte_pattern]
        digest = sha256(json.dumps([*lengths, *facts]).encode("utf-8"))
        for part in content:
            digest.update(part)
        return digest.hexdigest()

    def id_of(self, token: bytes | str) -> int:
        """Return the id of a token, given as bytes or as a string; added tokens take precedence over ordinary ones.

        Raises:
            UnknownTokenError: If the vocabulary has no such token (a ValueError and a KeyError).
        """
        if isinstance(token, str) and token in self.found_ids:
            return self.found_ids[token]
        data = utf8(token) if isinstance(token, str) else bytes(token)
        if data not in self.ids:
            raise UnknownTokenError(f"token {token!r} is not in the vocabulary of {len(self.vocab)} tokens; encode it")
        return self.ids[data]


def _checked_vocab(vocab: Mapping[int, bytes]) -> dict[int, bytes]:
    """Return a copy of the vocabulary.

    Raises:
        TypeError: If it is not a mapping.
        ValueError: If an id is not an integer from 0 to 2**31 - 1, or a token is not non-empty bytes.
    """
    if not isinstance(vocab, Mapping):
        raise TypeError(f"vocab is a {type(vocab).__name__}, expected a mapping of id (int) to token (bytes)")
    checked = {}
    for id_, token in vocab.items():
        number = id_ if type(id_) is int else whole_number(id_)
        if number is None or not 0 <= number < 2**31:
            raise ValueError(
                f"vocab has the id {id_!r}, expected whole numbers from 0 to 2**31 - 1; did you pass {{token: id}} "
                "instead of {id: token}?"
            )
        if not isinstance(token, bytes) or not token:
            raise ValueError(f"vocab has {token!r} for id {id_}, expected non-empty bytes; encode strings as UTF-8")
        checked[number] = token
    return checked


def _checked_merge(merge: Sequence[bytes]) -> Merge:
    """Return a merge as a pair of bytes.

    Raises:
        ValueError: If it is anything else.
    """
    # The first test is a fast path for nearly all of tens of thousands of merges.
    if type(merge) is tuple and len(merge) == 2 and type(merge[0]) is type(merge[1]) is bytes and all(merge):
        return merge
    if isinstance(merge, Sequence) and len(merge) == 2 and all(isinstance(part, bytes) and part for part in merge):
        return (merge[0], merge[1])
    raise ValueError(f"merge {merge!r} is not a pair of non-empty bytes; write (left, right)")
