"""Text to token ids and back. The one importer of `tokenizers`; knows no messages.

tokenizer.json is untrusted. It is read here, and only the vocabulary, the merges and the names of
added tokens reach the library: no pattern, normaliser or processor of the file is ever run.

There is one encoder, built without the control tokens, so no text can yield one of their ids.
Where they are wanted they are given as ids between runs of text (`encode_rendered`).

Parsing a published file takes a second, of which `json` keeps the GIL for most: a thread beside
the first step would stall it. So a published file is parsed when text first meets ids, and what
ids alone need, the control tokens, is read from its head.
"""

from __future__ import annotations

import gc
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from reprlib import repr as shown
from threading import RLock
from types import MappingProxyType
from typing import Any, NoReturn

import tokenizers

from .checkpoint import read_small
from .errors import CheckpointError, InvalidArgument

FILE = "tokenizer.json"
SPACE = "\u2581"  # how the vocabulary writes a space

# Ids are those of the published vocabulary. A smaller one (demo, tests) has the names it has, at
# any id. Whether the file flags a token as special says nothing: some uploads forget some.
_SHARED_CONTROL = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3}
GEMMA4_CONTROL: Mapping[str, int] = MappingProxyType(
    _SHARED_CONTROL
    | {"<|tool>": 46, "<tool|>": 47, "<|tool_call>": 48, "<tool_call|>": 49}
    | {"<|tool_response>": 50, "<tool_response|>": 51, '<|"|>': 52, "<|think|>": 98}
    | {"<|channel>": 100, "<channel|>": 101, "<|turn>": 105, "<turn|>": 106}
    | {"<|image>": 255999, "<|image|>": 258880, "<image|>": 258882}
    | {"<|audio>": 256000, "<|audio|>": 258881, "<audio|>": 258883, "<|video|>": 258884}
)
GEMMA3_CONTROL: Mapping[str, int] = MappingProxyType(
    _SHARED_CONTROL
    | {"<start_of_turn>": 105, "<end_of_turn>": 106}
    | {"<start_of_image>": 255999, "<end_of_image>": 256000, "<image_soft_token>": 262144}
)
CONTROL_NAMES = tuple(sorted(GEMMA4_CONTROL.keys() | GEMMA3_CONTROL.keys()))
PUBLISHED_PIECES = 262_144
# Gemma 3's own table ends beyond the vocabulary that text-only files have.
_OPTIONAL_CONTROL = {"<image_soft_token>"}

MAX_FILE_BYTES = 128 << 20
MAX_PIECES = 1 << 20
MAX_MERGES = 1 << 21
# One bracket a merge and one an added token, twice over; more is no tokenizer, and costs memory.
MAX_BRACKETS = 2 * (MAX_MERGES + MAX_PIECES)

_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_SPLIT = {
    "type": "Split",
    "pattern": {"String": " "},
    "behavior": "MergedWithPrevious",
    "invert": False,
}
_DECODERS = [
    {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
]
# What each key may be; an absent one counts as null. After the normaliser no space is left, so the
# split does nothing and need not be built.
_KNOWN: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "version": ("1.0",),
        "normalizer": (_REPLACE,),
        "pre_tokenizer": (None, _SPLIT),
        "decoder": ({"type": "Sequence", "decoders": _DECODERS},),
    }
)
_KNOWN_MODEL: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "type": ("BPE",),
        "dropout": (None,),
        "continuing_subword_prefix": (None, ""),
        "end_of_word_suffix": (None, ""),
        "byte_fallback": (True,),
        "ignore_merges": (False, None),
    }
)
# Read here, or without meaning for us: nothing is cut or padded, BOS is ours to place, and with
# all 256 bytes in the vocabulary nothing is unknown.
_FREE = {"truncation", "padding", "post_processor", "added_tokens", "model"}
_FREE_MODEL = {"vocab", "merges", "unk_token", "fuse_unk"}
_ADDED_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


class Tokenizer:
    """The vocabulary of one checkpoint. Safe to use from many threads.

    `control_ids` maps the name of every control token that the file has to its id; `bos_id`,
    `eos_id` and `pad_id` are None where the file has no such token. They are there at once; all
    else may have to parse the file first, and then raises CheckpointError where it is damaged.
    """

    __slots__ = (
        "_control",
        "_failure",
        "_hidden",
        "_lock",
        "_process",
        "_raw",
        "_vocabulary",
        "bos_id",
        "control_ids",
        "eos_id",
        "pad_id",
    )

    def __init__(self, document: Mapping[str, Any]) -> None:
        """`document` is a parsed tokenizer.json; `from_folder` is the usual way here."""
        vocabulary = _Vocabulary(document)
        self._keep(vocabulary.control_ids, vocabulary, b"")

    @classmethod
    def from_folder(cls, folder: Path) -> Tokenizer:
        """Reads `tokenizer.json` of a checkpoint. One with the published control tokens is looked
        through up to its vocabulary; any other, and one with anything odd up to there, is parsed.

        Raises:
            CheckpointError: there is none, it is damaged, or it has a part that Gemma's does not.
        """
        raw = read_small(folder / FILE, MAX_FILE_BYTES)
        control_ids = _published_control(raw)
        if control_ids is None:
            with _collector_paused():
                return cls(_parse(raw))
        tokenizer = cls.__new__(cls)
        tokenizer._keep(control_ids, None, raw)
        return tokenizer

    def _keep(
        self, control_ids: Mapping[str, int], vocabulary: _Vocabulary | None, raw: bytes
    ) -> None:
        self.control_ids: Mapping[str, int] = MappingProxyType(dict(control_ids))
        self.bos_id = control_ids.get("<bos>")
        self.eos_id = control_ids.get("<eos>")
        self.pad_id = control_ids.get("<pad>")
        self._control = alternatives(control_ids)
        self._hidden = frozenset(control_ids.values())
        self._vocabulary, self._raw = vocabulary, raw
        self._failure: CheckpointError | None = None
        self._process = os.getpid()
        self._lock = RLock()

    def _need(self) -> _Vocabulary:
        """The vocabulary; parsed once, from the bytes that were there at load.

        Raises:
            CheckpointError: they are damaged; the same for every call.
        """
        if self._vocabulary is not None:
            return self._vocabulary
        # In a forked child another thread's lock would never be given back.
        with self._lock if os.getpid() == self._process else nullcontext():
            if self._vocabulary is None:
                self._vocabulary = self._parse_all()
                self._raw = b""
            return self._vocabulary

    def _parse_all(self) -> _Vocabulary:
        if self._failure is not None:
            found = self._failure
            raise CheckpointError(str(found), file=found.file, key=found.key) from found.__cause__
        try:
            with _collector_paused():
                vocabulary = _Vocabulary(_parse(self._raw))
            for name in sorted(vocabulary.control_ids.keys() ^ self.control_ids.keys()):
                _refuse(
                    f"control token {name}",
                    "it in model.vocab alone",
                    "it among added_tokens, as the others",
                )
        except CheckpointError as error:
            self._failure = error
            raise
        return vocabulary

    @property
    def vocab_size(self) -> int:
        """Pieces of the file; the model may have more rows."""
        return len(self._need().texts)

    def pieces(self) -> list[bytes]:
        """What each id stands for in UTF-8, by id; of a control token its name."""
        vocabulary = self._need()
        pieces = [text.encode() for text in vocabulary.texts]
        for token_id, byte in vocabulary.bytes.items():
            pieces[token_id] = bytes([byte])
        return pieces

    @property
    def byte_ids(self) -> Mapping[int, int]:
        """The byte that an id stands for, of the 256 ids that are bytes."""
        return self._need().bytes

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of `text`, without BOS. Control strings in it are text unless `special`.

        Raises:
            InvalidArgument: `text` holds half of a surrogate pair.
        """
        if special:
            return self.encode_rendered(self.split_control(text))
        _check_text(text)
        return self._need().encoder.encode(text, add_special_tokens=False).ids

    def encode_split(self, text: str, at: int) -> tuple[list[int], int]:
        """Ids of `text`, control strings as text, and how many of the first of them stand for
        characters before `at` alone.

        Raises:
            InvalidArgument: as `encode`.
        """
        _check_text(text)
        found = self._need().encoder.encode(text, add_special_tokens=False)
        return found.ids, sum(end <= at for _, end in found.offsets)

    def count_bytes(self, ids: Iterable[int]) -> int:
        """UTF-8 bytes that `ids` stand for, control tokens by their names."""
        vocabulary = self._need()
        texts, size = vocabulary.texts, len(vocabulary.texts)
        return sum(
            1 if token_id in vocabulary.bytes else len(texts[token_id].encode())
            for token_id in ids
            if token_id < size
        )

    def split_control(self, text: str) -> list[str | int]:
        """`text` as runs of plain text and ids of the control tokens whose names stand in it."""
        pieces: list[str | int] = []
        for index, run in enumerate(self._control.split(text)):
            if index % 2:
                pieces.append(self.control_ids[run])
            elif run:
                pieces.append(run)
        return pieces

    def encode_rendered(self, pieces: Iterable[str | int]) -> list[int]:
        """Ids of a rendered prompt: ids of control tokens stay, text between two is one run."""
        token_ids: list[int] = []
        run: list[str] = []
        for piece in pieces:
            if isinstance(piece, str):
                run.append(piece)
                continue
            token_ids += self.encode("".join(run))
            token_ids.append(piece)
            run.clear()
        return token_ids + self.encode("".join(run))

    def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
        """Text of `ids`; control tokens are left out unless `special`.

        An id at or above `vocab_size` (models may have more rows than the file has pieces) gives
        no text. Byte tokens in a row are UTF-8 together; where they are not valid, each of the
        row gives U+FFFD, as in the `tokenizers` library.

        Raises:
            InvalidArgument: an id is negative.
        """
        stream = self.stream(special=special)
        return "".join([stream.push(token_id) for token_id in ids]) + stream.flush()

    def stream(self, *, special: bool = False) -> TextStream:
        """A decoder that takes one id after the other."""
        vocabulary = self._need()
        return TextStream(
            texts=vocabulary.texts,
            bytes_=vocabulary.bytes,
            hidden=frozenset() if special else self._hidden,
        )


class _Vocabulary:
    """What a parsed tokenizer.json comes to. Immutable."""

    __slots__ = ("bytes", "control_ids", "encoder", "texts")

    def __init__(self, document: Mapping[str, Any]) -> None:
        _check_structure(document)
        pieces, added = _vocabulary(document)
        merges = _merges(document["model"].get("merges"))
        self.control_ids = {name: pieces[name] for name in CONTROL_NAMES if name in pieces}
        _check_control(self.control_ids, pieces, merges)
        self.bytes = _byte_pieces(pieces)
        self.texts = [""] * len(pieces)  # of each id
        for piece, token_id in pieces.items():
            self.texts[token_id] = piece.replace(SPACE, " ")
        self.encoder = _build(
            pieces, merges, [token for token in added if token.content not in self.control_ids]
        )


class TextStream:
    """Decodes ids as they come: what it gives, joined, is `decode` of all of them.

    Byte tokens are held back until one that is none, or `flush`, ends their row: only then is it
    known whether they are text.
    """

    __slots__ = ("_bytes", "_hidden", "_row", "_texts")

    def __init__(
        self, *, texts: list[str], bytes_: Mapping[int, int], hidden: frozenset[int]
    ) -> None:
        self._texts = texts
        self._bytes = bytes_
        self._hidden = hidden
        self._row = bytearray()

    def push(self, token_id: int) -> str:
        """The text that is certain now and was not before: whole characters, or ""."""
        if token_id < 0:
            raise InvalidArgument(
                f"ids: found {token_id}, expected ids from 0 to {len(self._texts) - 1}",
                argument="ids",
            )
        byte = self._bytes.get(token_id)
        if byte is not None:
            self._row.append(byte)
            return ""
        if token_id in self._hidden or token_id >= len(self._texts):
            return ""  # not there at all: the row of bytes goes on
        return self.flush() + self._texts[token_id]

    def flush(self) -> str:
        """What is held back, as text; after the last id, or to see a row of bytes so far."""
        if not self._row:
            return ""
        try:
            text = self._row.decode()
        except UnicodeDecodeError:
            text = "\ufffd" * len(self._row)
        self._row.clear()
        return text


def alternatives(names: Iterable[str]) -> re.Pattern[str]:
    """Matches any of `names`, the longest where one begins another, as its only group."""
    ordered = sorted(names, key=lambda name: (-len(name), name))
    return re.compile(f"({'|'.join(map(re.escape, ordered)) if ordered else '(?!)'})")


def _refuse(key: str, found: str, expected: str) -> NoReturn:
    raise CheckpointError(
        f"{FILE}: {key}: found {found}, expected {expected}; "
        "only the structure of Gemma's published tokenizers is read",
        file=FILE,
        key=key,
    )


def _published_control(raw: bytes) -> dict[str, int] | None:
    """The control tokens of a file whose parts before the vocabulary are as published; None where
    only parsing all of it tells.

    What stands before "model" is JSON with anything else in the place of the model exactly where
    that "model" ends a key of the whole, and stands neither in a text nor further in; a longer key
    is unknown. A second `added_tokens` behind it is refused when all is parsed.
    """
    begin = raw.find(b'"model"')
    if begin < 0 or not raw[-80:].rstrip().endswith(b"}"):
        return None
    try:
        head = _parse(raw[:begin] + b'"model": null}')
        _check_head(head)
        listed = head["added_tokens"]
        ids = dict(_added_token(token, key="added_tokens")[:2] for token in listed)
    except (CheckpointError, KeyError, TypeError):
        return None
    control = {name: ids[name] for name in CONTROL_NAMES if name in ids}
    for published in (GEMMA4_CONTROL, GEMMA3_CONTROL):
        if published.items() >= control.items() and (
            published.keys() - control.keys() <= _OPTIONAL_CONTROL
        ):
            return control
    return None


def _parse(raw: bytes) -> dict[str, Any]:
    """The parsed file. `read_json` would take 0.7 s instead of 0.35 s for the published one."""
    brackets = raw.count(b"[") + raw.count(b"{")
    if brackets > MAX_BRACKETS:
        _refuse("(all)", f"{brackets:,} opening brackets", f"at most {MAX_BRACKETS:,}")
    try:
        document = json.loads(
            raw.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{FILE}: is no JSON that is read here: {error}", file=FILE) from None
    if not isinstance(document, dict):
        _refuse("(all)", shown(document), "an object")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"key {twice!r} stands twice in one object")
    return table


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"found {name}, which is no JSON number")


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Half a million small lists are made at once: the collector would walk them again and again
    (0.3 s of 0.6 s)."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _check_structure(document: Mapping[str, Any]) -> None:
    model = document.get("model")
    if not isinstance(model, dict):
        _refuse("model", shown(model), "an object")
    _check_head(document)
    _check_keys(model, _KNOWN_MODEL, _FREE_MODEL, "model.")


def _check_head(document: Mapping[str, Any]) -> None:
    """All but the model."""
    _check_keys(document, _KNOWN, _FREE, "")
    processor = document.get("post_processor")
    if processor is not None and (
        not isinstance(processor, dict) or processor.get("type") != "TemplateProcessing"
    ):
        _refuse("post_processor", shown(processor), "null or a TemplateProcessing")


def _check_keys(
    table: Mapping[str, Any], known: Mapping[str, tuple[Any, ...]], free: set[str], prefix: str
) -> None:
    for key in table:
        if key not in known and key not in free:
            _refuse(prefix + key, shown(table[key]), "no such key")
    for key, values in known.items():
        found = table.get(key)
        if found not in values:
            _refuse(prefix + key, shown(found), " or ".join(map(repr, values)))


def _vocabulary(
    document: Mapping[str, Any],
) -> tuple[dict[str, int], list[tokenizers.AddedToken]]:
    """Every piece with its id, and the added tokens: those matched before any merge."""
    vocab = document["model"].get("vocab")
    if not isinstance(vocab, dict) or not set(map(type, vocab.values())) <= {int}:
        _refuse("model.vocab", shown(vocab), "an object of pieces and their ids")
    listed = document.get("added_tokens", [])
    if not isinstance(listed, list):
        _refuse("added_tokens", shown(listed), "a list")
    pieces = dict(vocab)
    added: list[tokenizers.AddedToken] = []
    for index, token in enumerate(listed):
        content, token_id, normalized = _added_token(token, key=f"added_tokens[{index}]")
        if pieces.setdefault(content, token_id) != token_id:
            _refuse(
                f"added_tokens[{index}].id",
                shown(token_id),
                f"{pieces[content]}, as in model.vocab",
            )
        added.append(tokenizers.AddedToken(content, normalized=normalized))
    if len(pieces) > MAX_PIECES:
        _refuse("model.vocab", f"{len(pieces):,} pieces", f"at most {MAX_PIECES:,}")
    if sorted(pieces.values()) != list(range(len(pieces))):
        _refuse("model.vocab", "other ids", f"each id from 0 to {len(pieces) - 1:,} exactly once")
    if "" in pieces:
        _refuse("model.vocab", "an empty piece", "pieces of at least one character")
    try:
        "".join(pieces).encode()
    except UnicodeEncodeError as error:
        _refuse(
            "model.vocab", shown(error.object[error.start : error.end]), "characters of Unicode"
        )
    return pieces, added


def _added_token(token: Any, *, key: str) -> tuple[str, int, bool]:
    if not isinstance(token, dict) or token.keys() != {"id", "content", *_ADDED_FLAGS}:
        _refuse(key, shown(token), f"an object with id, content, {', '.join(_ADDED_FLAGS)}")
    content, token_id = token["content"], token["id"]
    if type(token_id) is not int or not isinstance(content, str):
        _refuse(key, shown(token), "an integer id and a text content")
    for flag in _ADDED_FLAGS:
        if type(token[flag]) is not bool:
            _refuse(f"{key}.{flag}", shown(token[flag]), "true or false")
    for flag in ("single_word", "lstrip", "rstrip"):
        if token[flag]:
            _refuse(f"{key}.{flag}", shown(True), "false")
    return content, token_id, token["normalized"]


def _merges(listed: Any) -> list[tuple[str, str]]:
    """Pairs, also from the older spelling "left right" (a piece has no space in it)."""
    key = "model.merges"
    if not isinstance(listed, list):
        _refuse(key, shown(listed), "a list of pairs")
    if len(listed) > MAX_MERGES:
        _refuse(key, f"{len(listed):,} merges", f"at most {MAX_MERGES:,}")
    kinds = set(map(type, listed))
    if kinds == {str}:
        merges = [tuple(merge.split(" ")) for merge in listed]
    elif kinds <= {list}:
        merges = list(map(tuple, listed))
    else:
        _refuse(key, shown(sorted(kind.__name__ for kind in kinds)), "pairs of pieces")
    if set(map(len, merges)) - {2} or set(map(type, chain.from_iterable(merges))) - {str}:
        _refuse(key, shown(next(m for m in merges if not _is_pair(m))), "pairs of pieces")
    return merges


def _is_pair(merge: tuple[Any, ...]) -> bool:
    return len(merge) == 2 and all(isinstance(part, str) for part in merge)


def _byte_pieces(pieces: Mapping[str, int]) -> dict[int, int]:
    names = [f"<0x{byte:02X}>" for byte in range(256)]
    missing = next((name for name in names if name not in pieces), None)
    if missing is not None:
        _refuse("model.vocab", f"no {missing}", "the 256 byte pieces <0x00> to <0xFF>")
    return {pieces[name]: byte for byte, name in enumerate(names)}


def _check_control(
    control: Mapping[str, int], pieces: Mapping[str, int], merges: list[tuple[str, str]]
) -> None:
    if len(pieces) >= PUBLISHED_PIECES:
        published = GEMMA4_CONTROL if "<|turn>" in pieces else GEMMA3_CONTROL
        for name, token_id in published.items():
            found = control.get(name)
            if found != token_id and not (found is None and name in _OPTIONAL_CONTROL):
                _refuse(f"control token {name}", shown(found), f"id {token_id}, as published")
    # Text must not merge into a control token. Few of their halves are pieces at all.
    halves = {
        (name[:cut], name[cut:])
        for name in control
        for cut in range(1, len(name))
        if name[:cut] in pieces and name[cut:] in pieces
    }
    if halves and (found_pair := next((merge for merge in merges if merge in halves), None)):
        _refuse("model.merges", shown(found_pair), "no merge that yields a control token")


def _build(
    pieces: dict[str, int],
    merges: list[tuple[str, str]],
    added: Iterable[tokenizers.AddedToken],
) -> tokenizers.Tokenizer:
    try:
        encoder = tokenizers.Tokenizer(
            tokenizers.models.BPE(vocab=pieces, merges=merges, byte_fallback=True)
        )
        encoder.normalizer = tokenizers.normalizers.Replace(" ", SPACE)
        encoder.add_tokens(list(added))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the library derives from nothing more special
        raise CheckpointError(
            f"{FILE}: model: the tokenizers library refuses its vocabulary or merges: {error}",
            file=FILE,
            key="model",
        ) from error
    return encoder


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(
            f"text: found U+{ord(text[error.start]):04X} at character {error.start}, half of a "
            "surrogate pair, expected characters of Unicode; was the text decoded wrongly?",
            argument="text",
        ) from None
