"""A published tokenizer is parsed when text first meets ids: ids never wait for it, and damage is
the same error whichever call meets it first."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cabochon
from cabochon import tokenizer as tokenizer_module
from cabochon.errors import CheckpointError
from cabochon.tokenizer import GEMMA3_CONTROL, GEMMA4_CONTROL, PUBLISHED_PIECES, Tokenizer

IDS = [3, 4, 5, 6]
_FLAGS = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized", "special"], False)


def published_head(control: Mapping[str, int] = GEMMA4_CONTROL) -> dict[str, Any]:
    """All of a published tokenizer.json that stands before its model."""
    added = [{"id": number, "content": name, **_FLAGS} for name, number in control.items()]
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": tokenizer_module._REPLACE,
        "pre_tokenizer": tokenizer_module._SPLIT,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": tokenizer_module._DECODERS},
    }


def published_model(control: Mapping[str, int] = GEMMA4_CONTROL) -> dict[str, Any]:
    """A model of the published size that knows bytes and control tokens."""
    by_id: dict[int, str] = {number: name for name, number in control.items()}
    by_id |= {1000 + byte: f"<0x{byte:02X}>" for byte in range(256)}
    vocab = {by_id.get(number, f"piece {number}"): number for number in range(PUBLISHED_PIECES)}
    return {"type": "BPE", "byte_fallback": True, "vocab": vocab, "merges": []}


def write(folder: Path, document: Mapping[str, Any]) -> Path:
    (folder / "tokenizer.json").write_text(json.dumps(document), "utf-8")
    return folder


@pytest.fixture
def damaged(demo_folder: Path, tmp_path: Path) -> Path:
    """The demo with a tokenizer that is as published up to its model, which is none, and stops."""
    folder = Path(shutil.copytree(demo_folder, tmp_path / "model"))
    generation = json.loads((folder / "generation_config.json").read_text())
    generation["eos_token_id"] = [1, 106, 50]
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return write(folder, published_head() | {"model": {"type": "Unigram"}})


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Its length is how often a whole tokenizer was built."""
    made: list[int] = []
    vocabulary = tokenizer_module._Vocabulary

    def counted(document: Mapping[str, Any]) -> Any:
        made.append(1)
        return vocabulary(document)

    monkeypatch.setattr(tokenizer_module, "_Vocabulary", counted)
    return made


# --- a model --------------------------------------------------------------------------------------


def test_ids_need_no_vocabulary(model: Any, damaged: Path) -> None:
    expected = model.generate(IDS, max_tokens=5, temperature=0, ignore_stops=True)

    # Parsing it would fail.
    with cabochon.load(damaged) as other:
        found = other.generate(IDS, max_tokens=5, temperature=0, ignore_stops=True)
        logits = other.logits(IDS)
        stops = other.stop_token_ids

    np.testing.assert_array_equal(found.token_ids, expected.token_ids)
    np.testing.assert_array_equal(logits, model.logits(IDS))
    assert (found.usage.output_tokens, found.finish_reason, found.cut_in) == (5, "length", "answer")
    assert {50, 106} <= set(stops)  # the control tokens are there


@pytest.mark.parametrize(
    "use",
    [
        lambda model: model.generate("hi", max_tokens=1),
        lambda model: model.generate(["hi", "you"], max_tokens=1, on_error="return")[1].error,
        lambda model: model.generate(IDS, max_tokens=1, stop="x"),
        lambda model: model.generate(IDS, max_tokens=1, ignore_stops=True).text,
        lambda model: model.generate(IDS, max_tokens=1, ignore_stops=True).thinking,
        lambda model: model.generate(IDS, max_tokens=1, ignore_stops=True).tool_calls,
        lambda model: model.parse(IDS),
        lambda model: str(model.generate(IDS, max_tokens=1, ignore_stops=True)),
        lambda model: model.generate(IDS, max_tokens=1, ignore_stops=True).to_dict(),
        lambda model: list(model.stream(IDS, max_tokens=1)),
        lambda model: model.encode("hi"),
        lambda model: model.decode(IDS),
        lambda model: model.render([{"role": "user", "content": "hi"}]),
        lambda model: model.logprobs("hi"),
    ],
    ids=[
        *(
            "text",
            "returned",
            "stop",
            "result",
            "thinking",
            "calls",
            "parse",
            "str",
            "to_dict",
            "stream",
            "encode",
            "decode",
        ),
        *("render", "logprobs"),
    ],
)
def test_whatever_meets_a_damaged_vocabulary_first_names_the_file(damaged: Path, use: Any) -> None:
    with cabochon.load(damaged) as model:
        texts = []
        for _ in range(2):  # and whatever meets it next
            try:
                raised = use(model)
            except CheckpointError as error:
                raised = error
            assert isinstance(raised, CheckpointError)
            assert (raised.file, raised.key) == ("tokenizer.json", "model.type")
            texts.append(str(raised))

        assert texts[0] == texts[1]
        assert "found 'Unigram', expected 'BPE'" in texts[0]
        assert model.generate(IDS, max_tokens=2, ignore_stops=True).token_ids.size == 2


def test_the_token_that_stops_an_answer_is_no_text_whether_it_is_streamed_or_not(
    model: Any,
) -> None:
    free = model.generate(IDS, max_tokens=8, temperature=0, ignore_stops=True).token_ids.tolist()
    stop = free[4]
    count = free.index(stop)
    assert model.decode([stop]) != ""  # it would show
    options = {"max_tokens": 8, "temperature": 0, "stop_token_ids": [stop]}

    found = model.generate(IDS, **options)
    streamed = list(model.stream(IDS, **options))[-1].result

    assert found.token_ids.tolist() == free[: count + 1]
    assert (found.finish_reason, found.stop_reason) == ("stop", stop)
    assert found.text == streamed.text == model.decode(free[:count])
    assert found.raw_text == streamed.raw_text == model.decode(free[: count + 1], special=True)


def test_a_damaged_vocabulary_is_parsed_once(damaged: Path, parses: list[int]) -> None:
    with cabochon.load(damaged) as model:
        for _ in range(3):
            with pytest.raises(CheckpointError):
                model.encode("hi")

    assert len(parses) == 1


def test_a_file_that_is_cut_off_is_refused_by_load(damaged: Path) -> None:
    path = damaged / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:-2])

    with pytest.raises(CheckpointError, match="no JSON") as caught:
        cabochon.load(damaged)

    assert caught.value.file == "tokenizer.json"


def test_texts_can_be_read_when_the_model_is_closed_and_its_file_is_gone(
    demo_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(demo_folder, tmp_path / "model"))
    write(folder, published_head() | {"model": published_model()})
    with cabochon.load(folder) as model:
        result = model.generate(IDS, max_tokens=3, temperature=0, ignore_stops=True)
    shutil.rmtree(folder)

    # Published ids below 470, the rows of the demo, are pieces of this name or control tokens.
    names = {number: name for name, number in GEMMA4_CONTROL.items()}
    pieces = [names.get(number, f"piece {number}") for number in result.token_ids.tolist()]
    assert result.raw_text == "".join(pieces)
    assert result.text == "".join(piece for piece in pieces if piece.startswith("piece"))


# --- a file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("control", [GEMMA4_CONTROL, GEMMA3_CONTROL], ids=["gemma4", "gemma3"])
def test_a_published_head_has_the_control_tokens_and_the_rest_comes_when_it_is_needed(
    tmp_path: Path, control: Mapping[str, int], parses: list[int]
) -> None:
    stored = {name: number for name, number in control.items() if number < PUBLISHED_PIECES}
    write(tmp_path, published_head(stored) | {"model": published_model(stored)})

    found = Tokenizer.from_folder(tmp_path)

    assert (found.control_ids, found.bos_id, found.eos_id, found.pad_id) == (stored, 2, 1, 0)
    assert parses == []
    assert found.encode("A") == [1065]
    assert found.decode([1065, 106]) == "A"
    assert found.vocab_size == PUBLISHED_PIECES
    assert len(parses) == 1


def odd(**changes: Any) -> dict[str, Any]:
    small = {"type": "BPE", "byte_fallback": True, "vocab": {"<bos>": 2}, "merges": []}
    return {**published_head(), **changes, "model": small}


def hidden_model() -> dict[str, Any]:
    """What looks like the key of the model stands in an inner object; there is no other."""
    head = published_head()
    return {**head, "post_processor": {"type": "TemplateProcessing", "model": 1}}


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: odd(version="2.0"), "version: found '2.0'"),
        (lambda: odd(surprise=1), "surprise"),
        (lambda: odd(decoder=None), "decoder: found None"),
        (lambda: odd(post_processor={"type": "ByteLevel"}), "post_processor"),
        (lambda: odd(added_tokens=[{"id": 0}]), r"added_tokens\[0\]"),
        (lambda: odd(added_tokens={}), "added_tokens: found {}, expected a list"),
        (lambda: odd(added_tokens=7), "added_tokens: found 7, expected a list"),
        (
            lambda: odd(**published_head(dict(GEMMA4_CONTROL) | {"<bos>": 7})),
            r"added_tokens\[2\].id: found 7, expected 2",
        ),
        (hidden_model, "model: found None, expected an object"),
    ],
)
def test_what_is_odd_before_the_model_is_found_at_once(
    tmp_path: Path, make: Callable[[], dict[str, Any]], text: str
) -> None:
    write(tmp_path, make())

    with pytest.raises(CheckpointError, match=text):
        Tokenizer.from_folder(tmp_path)


def test_parts_in_another_order_are_parsed_at_once(tmp_path: Path, parses: list[int]) -> None:
    write(tmp_path, {"model": published_model(), **published_head()})

    assert Tokenizer.from_folder(tmp_path).encode("A") == [1065]
    assert len(parses) == 1


def test_a_string_that_ends_in_model_is_not_taken_for_the_key(tmp_path: Path) -> None:
    # In the file it is "x\"model": found as a key, it would end the head within a string.
    write(tmp_path, odd(**{'x"model': 1}))

    with pytest.raises(CheckpointError, match="no such key"):
        Tokenizer.from_folder(tmp_path)


def test_a_second_list_of_added_tokens_behind_the_model_is_refused(tmp_path: Path) -> None:
    text = json.dumps(published_head() | {"model": published_model()})
    (tmp_path / "tokenizer.json").write_text(text[:-1] + ', "added_tokens": []}')

    with pytest.raises(CheckpointError, match="key 'added_tokens' stands twice"):
        Tokenizer.from_folder(tmp_path).encode("A")


def test_a_control_token_that_the_vocabulary_alone_has_is_refused(tmp_path: Path) -> None:
    control = dict(GEMMA4_CONTROL) | {"<start_of_turn>": 200_000}
    write(tmp_path, published_head() | {"model": published_model(control)})

    with pytest.raises(CheckpointError, match="control token <start_of_turn>: found it in model"):
        Tokenizer.from_folder(tmp_path).encode("A")


# --- threads and processes ------------------------------------------------------------------------


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Tokenizer, Any, list[int]]:
    """A tokenizer whose parse waits: (it, waiting and allowed events, parses begun)."""
    write(tmp_path, published_head() | {"model": published_model()})
    found = Tokenizer.from_folder(tmp_path)
    begun: list[int] = []
    waiting, allowed = threading.Event(), threading.Event()
    parse = tokenizer_module._parse
    process = os.getpid()

    def waits(raw: bytes) -> Any:
        begun.append(1)
        if os.getpid() == process:
            waiting.set()
            assert allowed.wait(60)
        return parse(raw)

    monkeypatch.setattr(tokenizer_module, "_parse", waits)
    return found, (waiting, allowed), begun


def test_threads_that_need_it_together_parse_it_once(slow: Any) -> None:
    found, (waiting, allowed), begun = slow
    answers: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(found.encode("AB"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    assert waiting.wait(60)
    assert found.control_ids["<bos>"] == 2  # waits for nobody

    allowed.set()
    for thread in threads:
        thread.join(60)

    assert answers == [[1065, 1066]] * 4
    assert len(begun) == 1


def test_a_child_forked_while_it_is_parsed_parses_it_itself(slow: Any) -> None:
    found, (waiting, allowed), _ = slow
    thread = threading.Thread(target=found.encode, args=("A",))
    thread.start()
    assert waiting.wait(60)

    child = os.fork()
    if child == 0:
        import signal

        signal.alarm(30)  # where it waits for a thread that is not there, it dies
        os._exit(0 if found.encode("A") == [1065] else 1)
    status = os.waitpid(child, 0)[1]
    allowed.set()
    thread.join(60)

    assert status == 0
