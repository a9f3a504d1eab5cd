"""A conversation as one safetensors file: pages as tensors, all else as JSON in its metadata."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from ..errors import CheckpointError, DeviceError, InvalidArgument
from ..scheduler.past import KeptBytes
from ..whole_file import write_whole

VERSION = 1
_KEY = "cabochon_chat"
_FIELDS: Mapping[str, type] = {"identity": dict, "messages": list, "settings": dict, "usage": dict}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Saved:
    """What a file holds."""

    identity: Mapping[str, Any]  # of the model
    messages: list[dict[str, Any]]
    settings: Mapping[str, Any]
    usage: Mapping[str, int]
    kept: KeptBytes | None


def write_saved(path: str | os.PathLike[str], saved: Saved) -> None:
    """Whole or not at all, in the place of a file that is there.

    Raises:
        InvalidArgument: something that JSON cannot say.
        DeviceError: a system call failed.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    kept = saved.kept
    about = {"version": VERSION, **{name: getattr(saved, name) for name in _FIELDS}}
    about["first"] = kept.first if kept else None
    text = _json(about)
    tensors: dict[str, npt.NDArray[Any]] = {"ids": np.empty(0, np.int32)}
    if kept is not None:
        tensors = {
            "ids": kept.ids,
            "global_pages": kept.global_pages,
            "sliding_pages": kept.sliding_pages,
        }
    target = Path(path)
    try:
        write_whole(target, lambda path: save_file(tensors, path, metadata={_KEY: text}))
    except (OSError, ValueError, SafetensorError) as error:
        raise DeviceError(f"{target}: the conversation cannot be written: {error}") from error


def _json(about: dict[str, Any]) -> str:
    for name, value in [*about.items(), *about["settings"].items()]:
        try:
            json.dumps(value, default=_plain)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidArgument(
                f"{name}: found what JSON cannot say ({error}), expected text, numbers, lists and "
                "dicts in what is saved",
                argument=name,
            ) from None
    return json.dumps(about, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__}")


def read_saved(path: str | os.PathLike[str]) -> Saved:
    """Reads a file of `write_saved`, or of anybody: what is wrong with it is named.

    Raises:
        CheckpointError: it is not there, is no such file, or is damaged.
    """
    from safetensors import SafetensorError, safe_open

    file = os.fspath(path)
    try:
        if not Path(file).is_file():
            _damaged(file, "nothing there, or no file", "a file of Chat.save")
        with safe_open(file, framework="numpy") as opened:
            text = (opened.metadata() or {}).get(_KEY)
            if text is None:
                _damaged(file, "a safetensors file of something else", "one of Chat.save")
            about = json.loads(text)
            _check_about(about, file)
            names = set(opened.keys())
            kept = None
            if about["first"] is not None:
                expected = {"ids", "global_pages", "sliding_pages"}
                if names != expected:
                    _damaged(file, f"tensors {sorted(names)}"[:200], str(sorted(expected)))
                kept = KeptBytes(
                    ids=opened.get_tensor("ids"),
                    global_pages=opened.get_tensor("global_pages"),
                    first=about["first"],
                    sliding_pages=opened.get_tensor("sliding_pages"),
                )
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{file}: found what is no safetensors file of a conversation ({error}), expected one "
            "of Chat.save: is it damaged, or cut?",
            file=file,
        ) from error
    settings = dict(about["settings"])
    bias = settings.get("logit_bias")
    if isinstance(bias, dict):  # JSON's keys are text
        settings["logit_bias"] = {
            int(key) if re.fullmatch("-?[0-9]{1,18}", key) else key: value
            for key, value in bias.items()
        }
    return Saved(
        identity=about["identity"],
        messages=about["messages"],
        settings=settings,
        usage=about["usage"],
        kept=kept,
    )


def _check_about(about: Any, file: str) -> None:
    if not isinstance(about, dict) or about.get("version") != VERSION:
        found = about.get("version") if isinstance(about, dict) else type(about).__name__
        _damaged(file, f"version {found!r}"[:80], f"version {VERSION}; was it saved by another?")
    for name, kind in _FIELDS.items():
        if not isinstance(about.get(name), kind):
            _damaged(file, f"{name} of {type(about.get(name)).__name__}", f"a {kind.__name__}")
    counts = about["usage"].values()
    if not all(isinstance(count, int) and not isinstance(count, bool) for count in counts):
        _damaged(file, "usage of other than counts", "integers")
    first = about.get("first", False)
    is_page = isinstance(first, int) and not isinstance(first, bool) and 0 <= first < 2**31
    if first is not None and not is_page:
        _damaged(file, f"first {first!r}"[:80], "a page or null")


def _damaged(file: str, found: str, expected: str) -> NoReturn:
    raise CheckpointError(f"{file}: found {found}, expected {expected}", file=file)


def check_kept(
    kept: KeptBytes,
    *,
    page_bytes: tuple[int, int],
    ends: tuple[int, int],
    vocab_size: int,
    file: str,
) -> None:
    """Whether pages are those of their ids.

    Args:
        page_bytes: of a global and of a sliding page.
        ends: pages that these ids take: global ones, and where sliding ones end.

    Raises:
        CheckpointError: they are not; the text says which.
    """
    ids = kept.ids
    is_known = ids.dtype == np.int32 and ids.ndim == 1 and ids.size > 0
    if not is_known or ids.min() < 0 or ids.max() >= vocab_size:
        _damaged(file, f"ids {ids.dtype} {list(ids.shape)}", f"int32 ids below {vocab_size}")
    if kept.first >= max(1, ends[1]):
        _damaged(file, f"first {kept.first}", f"a page below {max(1, ends[1])}")
    shapes = {
        "global_pages": (kept.global_pages, (ends[0], page_bytes[0])),
        "sliding_pages": (kept.sliding_pages, (max(0, ends[1] - kept.first), page_bytes[1])),
    }
    for name, (found, expected) in shapes.items():
        if found.dtype != np.uint8 or found.shape != expected:
            _damaged(
                file,
                f"{name} {found.dtype} {list(found.shape)}",
                f"uint8 {list(expected)} for {ids.size} ids",
            )
