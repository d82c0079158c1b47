"""The definition of a tokenizer as a plain value, which file formats read and write, and its checks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

from bpe.arguments import whole_number
from bpe.errors import UnknownTokenError
from bpe.text import GPT2_PATTERN, check_special_tokens, compile_pattern, is_gpt2_pattern, utf8

Merge = tuple[bytes, bytes]


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
    pattern: str = GPT2_PATTERN
    """The regular expression of a pre-token."""
    ignore_merges: bool = False
    """True if a pre-token that is in the vocabulary becomes that token without merging."""
    normalization: str | None = None
    """"NFC" if text between special tokens is first converted to that normal form."""

    @classmethod
    def checked(
        cls,
        vocab: Mapping[int, bytes],
        merges: Iterable[Merge],
        special_tokens: Iterable[str] | Mapping[str, int] | None = None,
        *,
        pattern: str = GPT2_PATTERN,
        ignore_merges: bool = False,
        normalization: str | None = None,
    ) -> TokenizerSpec:
        """Validate a definition. Special tokens may come with their ids; without, those that are new get the next ids.

        Raises:
            TypeError: If `vocab` is not a mapping, or `special_tokens` is a single string or a set.
            ValueError: If an id, token, merge or special token is malformed, a merge needs a token that the vocabulary
                lacks, a special token has the id of another token, or the pattern or the normalization is wrong.
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
        if not is_gpt2_pattern(pattern):
            compile_pattern(pattern)
        known = set(tokens.values())
        next_id = max(tokens, default=-1) + 1
        for token in map(str.encode, special):
            if token not in known:
                tokens[next_id] = token
                next_id += 1
        if normalization not in (None, "NFC"):
            raise ValueError(
                f"normalization is {normalization!r}, expected None or 'NFC'; normalize the text beforehand"
            )
        spec = cls(tokens, checked_merges, special, pattern, bool(ignore_merges), normalization)
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
        return replace(self, vocab=made.vocab, special_tokens=made.special_tokens)

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
    def special_ids(self) -> dict[str, int]:
        """The id of each special token; of several ids with the same bytes the last."""
        last = {special.encode("utf-8"): -1 for special in self.special_tokens}
        for id_, token in self.vocab.items():
            if token in last:
                last[token] = max(last[token], id_)
        return dict(zip(self.special_tokens, last.values(), strict=True))

    @cached_property
    def special_id_set(self) -> frozenset[int]:
        """The ids of the special tokens."""
        return frozenset(self.special_ids.values())

    @cached_property
    def ordinary_tokens(self) -> dict[int, bytes]:
        """The vocabulary without the special tokens."""
        return {id_: token for id_, token in self.vocab.items() if id_ not in self.special_id_set}

    @cached_property
    def whole_ids(self) -> dict[bytes, int]:
        """The id of each pre-token that becomes a token without merging.

        A special token is among them only if it is a byte or the result of a merge, so that ordinary text never
        becomes a token that is nothing but special.
        """
        if not self.ignore_merges:
            return {}
        alone = {id_ for token, id_ in self.special_ids.items() if self.ids[token.encode("utf-8")] == id_}
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
        ids = sorted(self.vocab)
        tokens = [self.vocab[id_] for id_ in ids]
        parts = [part for merge in self.merges for part in merge]
        special = [self.special_tokens, list(self.special_ids.values())]
        facts = [*special, self.pattern, self.ignore_merges, self.normalization]
        digest = sha256(json.dumps([len(tokens), len(parts), *facts]).encode("utf-8"))
        for numbers in (ids, map(len, tokens), map(len, parts)):
            digest.update(" ".join(map(str, numbers)).encode("ascii"))
        digest.update(b"".join(tokens))
        digest.update(b"".join(parts))
        return digest.hexdigest()

    def id_of(self, token: bytes | str) -> int:
        """Return the id of a token, given as bytes or as a string; special tokens take precedence over ordinary ones.

        Raises:
            UnknownTokenError: If the vocabulary has no such token (a ValueError and a KeyError).
        """
        if isinstance(token, str) and token in self.special_ids:
            return self.special_ids[token]
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
