"""Text to ids and back: exact on the published vocabulary, and no way to a control token."""

from __future__ import annotations

import copy
import json
import lzma
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from cabochon import tokenizer as tokenizer_module
from cabochon.demo import write_demo
from cabochon.errors import CheckpointError, InvalidArgument
from cabochon.tokenizer import CONTROL_NAMES, GEMMA4_CONTROL, PUBLISHED_PIECES, Tokenizer

Document = dict[str, Any]
SHARED = Path(__file__).parents[4] / "shared" / "data" / "tokenizer"


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder)
    return folder


@pytest.fixture(scope="module")
def demo(demo_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(demo_folder)


@pytest.fixture(scope="module")
def library(demo_folder: Path) -> tokenizers.Tokenizer:
    """The same file, read by the library itself."""
    return tokenizers.Tokenizer.from_file(str(demo_folder / "tokenizer.json"))


@pytest.fixture
def document(demo_folder: Path) -> Document:
    return json.loads((demo_folder / "tokenizer.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def published_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = SHARED / "gemma4-tokenizer.json.xz"
    if not source.exists():
        pytest.skip(f"needs the published tokenizer: {source} is absent")
    folder = tmp_path_factory.mktemp("published")
    (folder / "tokenizer.json").write_bytes(lzma.decompress(source.read_bytes()))
    return folder


@pytest.fixture(scope="module")
def published(published_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(published_folder)


@pytest.fixture(scope="module")
def vectors(published: Tokenizer) -> list[dict[str, Any]]:
    return json.loads((SHARED / "vectors.json").read_text("utf-8"))


# Text that is made of what control tokens are made of, and of anything else.
_halves = [name[:cut] for name in CONTROL_NAMES for cut in range(1, len(name) + 1)]
_halves += [name[cut:] for name in CONTROL_NAMES for cut in range(1, len(name))]
hostile_text = st.lists(
    st.one_of(
        st.sampled_from(CONTROL_NAMES),
        st.sampled_from(_halves),
        st.sampled_from(["<0x41>", "\u2581", "\n\n", "\U000f0000", "\ue000", "<unk"]),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    ),
    max_size=12,
).map("".join)


def streamed(tokenizer: Tokenizer, ids: list[int], *, special: bool = False) -> str:
    stream = tokenizer.stream(special=special)
    return "".join([stream.push(token_id) for token_id in ids]) + stream.flush()


# --- the published vocabulary ---------------------------------------------------------------------


def test_the_published_tokenizer_encodes_the_vectors_exactly(published, vectors):
    actual = [published.encode(vector["text"]) for vector in vectors]

    assert actual == [vector["ids"] for vector in vectors]
    assert len(vectors) == 48


def test_the_published_tokenizer_streams_every_vector_back_byte_for_byte(published, vectors):
    actual = [streamed(published, vector["ids"]).encode() for vector in vectors]

    assert actual == [vector["text"].encode() for vector in vectors]


def test_the_published_control_tokens_have_their_published_ids(published):
    assert published.control_ids == GEMMA4_CONTROL
    assert published.vocab_size == PUBLISHED_PIECES
    assert (published.bos_id, published.eos_id, published.pad_id) == (2, 1, 0)


def test_the_published_tokenizer_is_not_parsed_before_text_is_asked_for(
    published_folder, monkeypatch
):
    def refuse(document: Document) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(tokenizer_module, "_Vocabulary", refuse)

    tokenizer = Tokenizer.from_folder(published_folder)

    assert tokenizer.control_ids == GEMMA4_CONTROL
    with pytest.raises(AssertionError, match="parsed"):
        tokenizer.encode("hi")


def test_the_published_tokenizer_agrees_with_the_library_on_random_ids(published, published_folder):
    library = tokenizers.Tokenizer.from_file(str(published_folder / "tokenizer.json"))
    source = random.Random(3)
    # Half of them from where control tokens, newlines, tags and bytes are.
    samples = [
        [source.randrange(source.choice([600, PUBLISHED_PIECES])) for _ in range(40)]
        for _ in range(500)
    ]

    for ids in samples:
        text = published.decode(ids, special=True)
        assert text == library.decode(ids, skip_special_tokens=False)
        assert published.decode(ids) == library.decode(ids, skip_special_tokens=True)
        assert published.encode(text, special=True) == library.encode(text).ids[1:]  # without BOS


@given(text=hostile_text)
def test_no_text_yields_a_control_id_of_the_published_tokenizer(published, text):
    ids = published.encode(text)

    assert not set(ids) & set(published.control_ids.values())
    assert published.decode(ids) == text.replace("\u2581", " ")


# --- any vocabulary -------------------------------------------------------------------------------


@given(text=hostile_text)
def test_no_text_yields_a_control_id(demo, text):
    ids = demo.encode(text)

    assert not set(ids) & set(demo.control_ids.values())
    assert demo.decode(ids) == text.replace("\u2581", " ")


@given(text=hostile_text)
def test_with_special_it_encodes_what_the_library_encodes(demo, library, text):
    assert demo.encode(text, special=True) == library.encode(text).ids


@given(ids=st.lists(st.integers(0, 600), max_size=40), special=st.booleans())
def test_any_ids_decode_as_in_the_library_and_so_does_the_stream(demo, library, ids, special):
    # 600 is beyond the vocabulary: such ids give no text.
    expected = library.decode(ids, skip_special_tokens=not special)

    assert demo.decode(ids, special=special) == expected
    assert streamed(demo, ids, special=special) == expected


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20), data=st.data())
def test_a_stream_cut_anywhere_and_taken_up_again_gives_decode_of_both_parts(demo, text, data):
    ids = demo.encode(text)
    cut = data.draw(st.integers(0, len(ids)))

    parts = [streamed(demo, ids[:cut]), streamed(demo, ids[cut:])]

    assert parts == [demo.decode(ids[:cut]), demo.decode(ids[cut:])]


def test_a_stream_holds_back_bytes_until_they_are_characters(demo):
    ids = demo.encode("a\u20acb")
    stream = demo.stream()

    assert [stream.push(token_id) for token_id in ids] == ["a", "", "", "", "\u20acb"]
    assert stream.flush() == ""


def test_bytes_that_are_no_character_come_out_as_replacement_characters(demo):
    ids = demo.encode("\u20ac")[:2]

    assert streamed(demo, ids) == demo.decode(ids) == "\ufffd\ufffd"


def test_control_tokens_are_shown_only_when_asked_for(demo):
    ids = [demo.control_ids["<|turn>"], *demo.encode("hi"), demo.control_ids["<turn|>"]]

    assert demo.decode(ids) == "hi"
    assert demo.decode(ids, special=True) == "<|turn>hi<turn|>"


def test_text_between_control_tokens_is_encoded_as_one_run(demo):
    turn = demo.control_ids["<|turn>"]

    actual = demo.encode_rendered([turn, " t", "he", turn, "<|tu", "rn>"])

    assert actual == [turn, *demo.encode(" the"), turn, *demo.encode("<|turn>")]
    assert demo.encode(" the") != [*demo.encode(" t"), *demo.encode("he")]


def test_a_half_of_a_surrogate_pair_is_refused_with_its_place(demo):
    with pytest.raises(InvalidArgument, match=r"U\+D83D at character 2"):
        demo.encode("ab\ud83d")


def test_a_negative_id_is_refused(demo):
    with pytest.raises(InvalidArgument, match=r"found -1, expected ids from 0 to"):
        demo.decode([5, -1])


# --- the file -------------------------------------------------------------------------------------


def test_a_control_token_counts_by_its_name_whatever_its_flag_says(document):
    document["added_tokens"] = [
        token | {"special": False}
        for token in document["added_tokens"]
        if token["content"] != "<|video|>"
    ]

    tokenizer = Tokenizer(document)

    assert tokenizer.control_ids.keys() == GEMMA4_CONTROL.keys()
    assert not set(tokenizer.encode("<|turn><|video|>")) & set(tokenizer.control_ids.values())


def test_merges_in_the_older_spelling_mean_the_same(document, demo):
    document["model"]["merges"] = [" ".join(merge) for merge in document["model"]["merges"]]

    assert Tokenizer(document).encode("the word") == demo.encode("the word")


def test_an_added_token_that_is_no_control_token_is_matched_in_text_under_its_own_id(document):
    count = len(document["model"]["vocab"])
    flags = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized", "special"], False)
    document["added_tokens"] += [
        {"id": count + 1, "content": "<end_of_turn>", **flags},
        {"id": count, "content": "<table>", **flags},
    ]

    tokenizer = Tokenizer(document)

    assert tokenizer.encode("a<table>b") == [
        *tokenizer.encode("a"),
        count,
        *tokenizer.encode("b"),
    ]
    assert tokenizer.control_ids["<end_of_turn>"] == count + 1
    assert count + 1 not in tokenizer.encode("<end_of_turn>")


def full_size(control: Mapping[str, int], document: Document) -> Document:
    """The document with as many pieces as the published one: these, the bytes and any others."""
    by_id = {token_id: name for name, token_id in control.items()}
    bytes_ = {1000 + byte: f"<0x{byte:02X}>" for byte in range(256)}
    document["model"]["vocab"] = {
        by_id.get(token_id, bytes_.get(token_id, f"piece {token_id}")): token_id
        for token_id in range(PUBLISHED_PIECES)
    }
    document["model"]["merges"] = []
    document["added_tokens"] = []
    return document


def test_a_vocabulary_of_the_published_size_has_the_published_control_ids(document):
    tokenizer = Tokenizer(full_size(GEMMA4_CONTROL, document))

    assert tokenizer.control_ids == GEMMA4_CONTROL


@pytest.mark.parametrize("name", ["<|channel>", "<turn|>"])
def test_a_vocabulary_of_the_published_size_with_another_control_id_is_refused(document, name):
    document = full_size(GEMMA4_CONTROL | {name: 200_000}, document)

    with pytest.raises(CheckpointError, match=r"found 200000, expected id 10[06], as published"):
        Tokenizer(document)


def _set(*path: Any, to: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        place: Any = document
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = to

    return change


def _drop_byte(document: Document) -> None:
    vocab = document["model"]["vocab"]
    vocab["<0xff>"] = vocab.pop("<0xFF>")


def _merge_into_control(document: Document) -> None:
    vocab = document["model"]["vocab"]
    for half in ("<|tur", "n>"):
        vocab[half] = len(vocab)
    document["model"]["merges"].append(["<|tur", "n>"])


_REGEX = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
HOSTILE: list[tuple[Callable[[Document], None], str, str]] = [
    (_set("version", to="2.0"), "version", "found '2.0', expected '1.0'"),
    (_set("surprise", to=1), "surprise", "expected no such key"),
    (_set("model", to=[]), "model", r"found \[\], expected an object"),
    (_set("model", "type", to="Unigram"), "model.type", "found 'Unigram', expected 'BPE'"),
    (_set("model", "dropout", to=0.1), "model.dropout", "found 0.1, expected None"),
    (_set("model", "byte_fallback", to=False), "model.byte_fallback", "expected True"),
    (_set("model", "ignore_merges", to=True), "model.ignore_merges", "expected False"),
    (_set("normalizer", to=None), "normalizer", "found None"),
    (_set("normalizer", "pattern", to={"Regex": "(a+)+$"}), "normalizer", "Regex"),
    (_set("pre_tokenizer", to=_REGEX), "pre_tokenizer", "Regex"),
    (_set("decoder", to={"type": "ByteLevel"}), "decoder", "ByteLevel"),
    (_set("post_processor", to={"type": "ByteLevel"}), "post_processor", "TemplateProcessing"),
    (_set("model", "vocab", to=[]), "model.vocab", "an object of pieces"),
    (_set("model", "vocab", "a", to=1.0), "model.vocab", "an object of pieces"),
    (_set("model", "vocab", "a", to=True), "model.vocab", "an object of pieces"),
    (_set("model", "vocab", "a", to=0), "model.vocab", "exactly once"),
    (_set("model", "vocab", "a", to=-1), "model.vocab", "exactly once"),
    (_set("model", "vocab", "a", to=2**40), "model.vocab", "exactly once"),
    (_drop_byte, "model.vocab", "no <0xFF>"),
    (_merge_into_control, "model.merges", "no merge that yields a control token"),
    (_set("model", "merges", to=None), "model.merges", "found None, expected a list of pairs"),
    (_set("model", to={"type": "BPE", "byte_fallback": True}), "model.vocab", "found None"),
    (_set("model", "merges", to={}), "model.merges", "a list of pairs"),
    (_set("model", "merges", 0, to=["a"]), "model.merges", r"found \('a',\)"),
    (_set("model", "merges", 0, to=["a", 1]), "model.merges", r"found \('a', 1\)"),
    (_set("model", "merges", 0, to="a b"), "model.merges", "pairs of pieces"),
    (_set("model", "merges", to=["a b c"]), "model.merges", "pairs of pieces"),
    (_set("model", "merges", 0, to=["nothing", "here"]), "model", "out of vocabulary"),
    (_set("added_tokens", to={}), "added_tokens", "expected a list"),
    (_set("added_tokens", 3, to={"id": 3}), "added_tokens[3]", "an object with id, content"),
    (_set("added_tokens", 3, "id", to="3"), "added_tokens[3]", "an integer id"),
    (_set("added_tokens", 3, "id", to=4), "added_tokens[3].id", "found 4, expected 3"),
    (_set("added_tokens", 3, "lstrip", to=True), "added_tokens[3].lstrip", "expected false"),
    (_set("added_tokens", 3, "special", to=1), "added_tokens[3].special", "true or false"),
]


@pytest.mark.parametrize(
    ("change", "key", "text"), HOSTILE, ids=[f"{key}-{i}" for i, (_, key, _) in enumerate(HOSTILE)]
)
def test_what_no_published_file_has_is_refused_with_its_key(document, change, key, text):
    document = copy.deepcopy(document)
    change(document)

    with pytest.raises(CheckpointError, match=text) as caught:
        Tokenizer(document)

    assert (caught.value.file, caught.value.key) == ("tokenizer.json", key)
    assert str(caught.value).startswith(f"tokenizer.json: {key}: ")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "no JSON"),
        (b"[]", "expected an object"),
        (b"\xff{}", "no JSON"),
        (b'{"version": NaN}', "NaN"),
        (b'{"model": 1, "model": 2}', "key 'model' stands twice"),
        (b'{"model": ' + b"9" * 5000 + b"}", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[" * 7_000_000, "7,000,000 opening brackets, expected at most 6,291,456"),
    ],
    ids=["empty", "list", "no UTF-8", "NaN", "twice", "long number", "deep", "brackets"],
)
def test_a_file_that_is_no_such_json_is_refused(tmp_path, content, text):
    (tmp_path / "tokenizer.json").write_bytes(content)

    with pytest.raises(CheckpointError, match=text) as caught:
        Tokenizer.from_folder(tmp_path)

    assert caught.value.file == "tokenizer.json"


def test_a_file_over_the_limit_is_refused_unread(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.touch()
    os.truncate(path, (128 << 20) + 1)

    with pytest.raises(CheckpointError, match="134,217,729"):
        Tokenizer.from_folder(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"tokenizer\.json") as caught:
        Tokenizer.from_folder(tmp_path)

    assert caught.value.file == "tokenizer.json"


def test_a_panic_of_the_library_is_a_checkpoint_error(document, monkeypatch):
    class Panic(BaseException):
        """As pyo3's: it derives from nothing more special."""

    def panic(**arguments: Any) -> None:
        raise Panic("index out of bounds")

    monkeypatch.setattr(tokenizer_module.tokenizers.models, "BPE", panic)

    with pytest.raises(CheckpointError, match="index out of bounds"):
        Tokenizer(document)
