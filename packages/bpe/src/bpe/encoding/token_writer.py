"""Token files in the formats of NumPy, llm.c and Megatron, their descriptions and their indexes of documents."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from bpe.files import whole_files
from bpe.text import StrPath
from bpe.vocabulary import TokenizerSpec

if TYPE_CHECKING:
    import numpy as np

FileFormat = Literal["npy", "llm.c", "megatron"]

_SUFFIXES: dict[FileFormat, tuple[str, ...]] = {"npy": (".npy",), "llm.c": (".bin",), "megatron": (".idx", ".bin")}
"""The suffixes that each format may have; the first one chooses it."""
_DESCRIPTION = "scratchlm-tokens"
_MOST_DESCRIPTION_BYTES = 1 << 16
_LLM_C = {"uint16": (20240520, 1), "uint32": (20240801, 7)}
"""Magic number and version of llm.c's files of GPT-2's and of Llama 3's ids (its dev/data/data_common.py)."""
_MEGATRON_MAGIC = b"MMIDIDX\x00\x00"
_MEGATRON_DTYPES = {"uint16": 8, "uint32": 4}
"""Megatron's codes of uint16 and int32 (its indexed_dataset.py), which has no uint32."""
_MOST_INT32 = 2**31 - 1
_FEW_SPECIAL_TOKENS = 8
"""So many are counted one by one; a table would take longer."""


@dataclass(frozen=True)
class TokenFile:
    """Names and format of a token file and of the files beside it, which have the same stem."""

    format: FileFormat
    tokens: Path
    documents: Path | None
    """The index of documents, if there is to be one."""

    @classmethod
    def named(cls, out: StrPath, file_format: str | None = None, documents: bool | None = None) -> TokenFile:
        """Return the token file that a user names; its suffix gives the format, unless that is given.

        Raises:
            ValueError: If the format is unknown, or the name does not end as the format requires.
        """
        path = Path(out)
        known = {suffixes[0]: name for name, suffixes in _SUFFIXES.items()}
        if file_format is None:
            if path.suffix not in known:
                raise ValueError(
                    f"out is {str(path)!r}, expected a name that ends in .npy, .bin (llm.c) or .idx (Megatron); add it"
                )
            file_format = known[path.suffix]
        elif file_format not in _SUFFIXES:
            raise ValueError(f"format is {file_format!r}, expected one of {', '.join(_SUFFIXES)}")
        if path.suffix not in _SUFFIXES[file_format]:
            suffixes = " or ".join(_SUFFIXES[file_format])
            raise ValueError(
                f"out is {str(path)!r}, expected a name that ends in {suffixes} for the format {file_format}; rename it"
            )
        tokens = path.with_suffix(".bin") if file_format == "megatron" else path
        has_documents = file_format != "npy" if documents is None else documents
        return cls(file_format, tokens, path.with_suffix(".documents.npy") if has_documents else None)

    @property
    def description(self) -> Path:
        """The JSON file that describes the token file."""
        return self.tokens.with_suffix(".json")

    @property
    def index(self) -> Path | None:
        """Megatron's index of sequences and documents."""
        return self.tokens.with_suffix(".idx") if self.format == "megatron" else None

    def paths(self) -> list[Path]:
        """Return all files in the order in which they take their names: the tokens never lack the others."""
        return [path for path in (self.documents, self.index, self.description, self.tokens) if path is not None]

    def check(self, source: Path | None) -> None:
        """Refuse to overwrite the source of the tokens, or a file beside the tokens that does not belong to them.

        Raises:
            IsADirectoryError: If one of the files to write is a folder.
            ValueError: If one of them is the source, a device, or belongs to something else.
        """
        for path in self.paths():
            if source is not None and source.exists() and path.exists() and path.samefile(source):
                raise ValueError(f"{str(path)!r} would overwrite the text itself; give the token file another name")
            if path.is_dir():
                raise IsADirectoryError(
                    f"{str(path)!r} is a folder, expected the name of a file to write; give another"
                )
            if path.exists() and not path.is_file():
                raise ValueError(f"{str(path)!r} is a device or a pipe, expected a regular file; give another name")
        described = _described(self.description)
        if described is None and self.description.exists():
            raise ValueError(
                f"{str(self.description)!r} exists and does not describe a token file, but the description of "
                f"{self.tokens.name!r} would replace it; move it away, or give the token file another name"
            )
        if self.documents is not None and self.documents.exists() and "documents" not in (described or {}):
            raise ValueError(
                f"{str(self.documents)!r} exists and is no index that {self.description.name!r} describes; move it "
                "away, or give the token file another name"
            )

    def companions(self, facts: dict[str, Any]) -> dict[str, FileFormat]:
        """Return names and formats of other files of the same tokens, which the same description describes.

        Raises:
            ValueError: If a file of other tokens has the same description: it differs from one of `facts`.
        """
        described = _described(self.description) or {}
        others = {name: kind for name, kind in _files(self.description, described).items() if name != self.tokens.name}
        others = {name: kind for name, kind in others.items() if self.tokens.with_name(name).exists()}
        for fact in facts if others else ():
            if described.get(fact) != facts[fact]:
                raise ValueError(
                    f"{str(self.description)!r} describes {' and '.join(map(repr, others))} with another value of "
                    f"{fact!r}: {described.get(fact)!r}, now {facts[fact]!r}; give the token file another name"
                )
        return others


class TokenWriter:
    """Writes ids to a token file, block by block, and finally everything that depends on all of them."""

    def __init__(self, place: TokenFile, spec: TokenizerSpec, files: dict[Path, BinaryIO]) -> None:
        import numpy as np

        self.tokens = 0
        self.special_bytes = 0
        """Bytes of the text that are special tokens."""
        self._special_sizes = [(id_, len(token.encode("utf-8"))) for token, id_ in spec.special_ids.items()]
        self._place = place
        self._earlier = _described(place.description) or {}
        self._spec = spec
        self._dtype = np.dtype(spec.id_dtype).newbyteorder("<")
        self._files = files
        self._documents: list[np.ndarray] = []
        self._files[place.tokens].write(self._header())

    @property
    def needs_documents(self) -> bool:
        """True if `write` must be given the documents."""
        return self._place.documents is not None or self._place.index is not None

    def write(self, ids: np.ndarray, documents: np.ndarray) -> None:
        """Append ids.

        Args:
            ids: The ids, shape (tokens,).
            documents: The documents that begin among them or after them: int64, shape (documents, 2), with the number
                of the first id in the whole file, and the place in the source.
        """
        import numpy as np

        self.tokens += len(ids)
        self.special_bytes += self._bytes_of_special_tokens(ids)
        if self._place.format == "llm.c" and self.tokens > _MOST_INT32:
            raise ValueError(
                f"the text has more than {_MOST_INT32:,} tokens, the most that a file of llm.c can have; split the "
                "text, or choose another format"
            )
        self._files[self._place.tokens].write(np.ascontiguousarray(ids, dtype=self._dtype).data)
        self._documents.append(documents)

    def finish(self, source: str, size: int, invalid_utf8: int, unit: Literal["byte", "row"]) -> None:
        """Write the headers, the index of documents and the description.

        Args:
            source: The name of the source.
            size: The number of bytes encoded.
            invalid_utf8: The number of malformed sequences replaced.
            unit: The unit of places in the source.
        """
        import numpy as np

        tokens = self._files[self._place.tokens]
        tokens.seek(0)
        tokens.write(self._header())
        documents = np.concatenate([np.empty((0, 2), dtype=np.int64), *self._documents])
        documents = documents[documents[:, 0] < self.tokens]  # nothing follows the last end of a document
        facts: dict[str, Any] = {
            "format": _DESCRIPTION,
            "version": 1,
            "tokens": self.tokens,
            "bytes": size,
            "special_bytes": self.special_bytes,
            "dtype": self._spec.id_dtype,
            "vocab_size": self._spec.vocab_size,
            "invalid_utf8": invalid_utf8,
            "source": source,
            "tokenizer_sha256": self._spec.sha256,
        }
        companions = self._place.companions(facts)
        if companions or self._place.format != "npy":
            facts["files"] = companions | {self._place.tokens.name: self._place.format}
        if companions and "documents" in self._earlier:
            facts["documents"] = self._earlier["documents"]
        if self._place.index is not None:
            self._files[self._place.index].write(self._megatron_index(documents[:, 0]))
        if self._place.documents is not None:
            index = np.empty(len(documents), dtype=[("token", "<i8"), (unit, "<i8")])
            index["token"], index[unit] = documents[:, 0], documents[:, 1]
            np.lib.format.write_array(self._files[self._place.documents], index, allow_pickle=False)
            facts["documents"] = {"file": self._place.documents.name, "number": len(index), "fields": ["token", unit]}
        self._files[self._place.description].write((json.dumps(facts, indent=2) + "\n").encode())

    def _bytes_of_special_tokens(self, ids: np.ndarray) -> int:
        """Return the number of bytes of all special tokens among ids."""
        import numpy as np

        if len(self._special_sizes) <= _FEW_SPECIAL_TOKENS:
            return sum(size * int(np.count_nonzero(ids == id_)) for id_, size in self._special_sizes)
        sizes = np.zeros(self._spec.vocab_size, dtype=np.int64)
        sizes[[id_ for id_, _ in self._special_sizes]] = [size for _, size in self._special_sizes]
        return int(sizes[ids].sum())

    def _header(self) -> bytes:
        """Return the header of the file of ids; its size does not depend on the number of tokens."""
        import numpy as np

        if self._place.format == "npy":
            header = io.BytesIO()
            facts = {"descr": self._dtype.str, "fortran_order": False, "shape": (self.tokens,)}
            np.lib.format.write_array_header_1_0(header, facts)
            return header.getvalue()
        if self._place.format == "llm.c":
            return struct.pack("<256i", *_LLM_C[self._spec.id_dtype], self.tokens, *[0] * 253)
        return b""

    def _megatron_index(self, starts: np.ndarray) -> bytes:
        """Return Megatron's .idx of documents that begin at these ids, each of them one sequence."""
        import numpy as np

        lengths = np.diff(starts, append=self.tokens)
        if len(lengths) and lengths.max() > _MOST_INT32:
            raise ValueError(
                f"a document has {lengths.max():,} tokens, expected at most {_MOST_INT32:,} for Megatron; split the "
                "text into documents, or choose another format"
            )
        return b"".join(
            (
                _MEGATRON_MAGIC,
                struct.pack("<QBQQ", 1, _MEGATRON_DTYPES[self._spec.id_dtype], len(lengths), len(lengths) + 1),
                lengths.astype("<i4").tobytes(),
                (starts * self._dtype.itemsize).astype("<i8").tobytes(),
                np.arange(len(lengths) + 1, dtype="<i8").tobytes(),
            )
        )


@contextmanager
def token_writer(place: TokenFile, spec: TokenizerSpec) -> Iterator[TokenWriter]:
    """Open a token file, which appears complete, with all files beside it, or not at all."""
    earlier = _described(place.description) or {}
    paths = place.paths()
    with whole_files(paths) as files:
        yield TokenWriter(place, spec, dict(zip(paths, files, strict=True)))
    # Nothing may stay that belongs to the earlier tokens.
    if "documents" in earlier and "documents" not in (_described(place.description) or {}):
        place.tokens.with_suffix(".documents.npy").unlink(missing_ok=True)
    if place.index is None and _files(place.description, earlier).get(place.tokens.name) == "megatron":
        place.tokens.with_suffix(".idx").unlink(missing_ok=True)


def described_tokenizer(tokens: Path) -> str | None:
    """Return the SHA-256 of the tokenizer that wrote a token file, or None if no description beside it says so."""
    description = tokens.with_suffix(".json")
    described = _described(description) or {}
    return described.get("tokenizer_sha256") if tokens.name in _files(description, described) else None


def _described(description: Path) -> dict[str, Any] | None:
    """Return the content of a description of a token file, or None if the file is missing or something else."""
    try:
        with description.open("rb") as file:
            described = json.loads(file.read(_MOST_DESCRIPTION_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return described if isinstance(described, dict) and described.get("format") == _DESCRIPTION else None


def _files(description: Path, described: dict[str, Any]) -> dict[str, FileFormat]:
    """Return names and formats of the files that a description describes; alone, a .npy file is not named."""
    if not described:
        return {}
    files = described.get("files")
    return files if isinstance(files, dict) else {description.with_suffix(".npy").name: "npy"}
