"""What benchmarks/pebble teaches and tests: no leak, honest masks, a tokenizer that is read here.

Needs no torch; the training is tested in tests/system/test_pebble_training.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from cabochon.chat.render import render
from cabochon.chat.template import EDGE, native_template
from cabochon.tokenizer import GEMMA4_CONTROL, Tokenizer

PEBBLE = Path(__file__).parents[3] / "benchmarks" / "pebble"


@pytest.fixture(scope="module")
def pebble():
    """The modules corpus, tasks and tokenizer of benchmarks/pebble."""
    import importlib

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PEBBLE)
        yield {name: importlib.import_module(name) for name in ("corpus", "tasks", "tokenizer")}


@pytest.fixture(scope="module")
def corpus(pebble) -> ModuleType:
    return pebble["corpus"]


@pytest.fixture(scope="module")
def tokenizer(pebble) -> Tokenizer:
    document = pebble["tokenizer"].train(pebble["corpus"].texts("train", 0, 400), 1024)
    return Tokenizer(document)


def cases(pebble, part: str, count: int):
    return [
        pebble["corpus"].case(part, 0, index, task=task)
        for task in pebble["tasks"].TASKS
        for index in range(count)
    ]


def test_training_and_test_share_no_wording_no_value_and_no_prompt(pebble):
    train, test = cases(pebble, "train", 250), cases(pebble, "test", 120)
    assert pebble["corpus"].leaks(train, test) == set()
    for case in train + test:  # what is checked is there to be checked
        assert case.wordings and case.task in pebble["tasks"].TASKS


def test_a_case_of_the_other_part_is_found_as_a_leak(pebble):
    train = cases(pebble, "train", 3)
    found = pebble["corpus"].leaks(train, train[:1])
    assert any(str(train[0].prompt) in text for text in found)
    assert found > {f"{train[0].task}: {text}" for text in train[0].wordings}


def test_a_case_is_the_same_whenever_it_is_made_and_another_for_another_seed(corpus):
    assert corpus.case("train", 0, 7) == corpus.case("train", 0, 7)
    assert corpus.case("train", 0, 7) != corpus.case("train", 1, 7)


def test_every_tests_sum_is_unknown_to_training_in_both_orders_and_both_signs(corpus):
    def pairs(part: str) -> set[tuple[int, ...]]:
        found = set()
        for task in ("arithmetic", "arithmetic_direct"):
            for index in range(400):
                text = corpus.case(part, 0, index, task=task).messages[0]["content"]
                found.add(tuple(sorted(map(int, re.findall(r"\d+", text)))))
        return found

    assert not pairs("train") & pairs("test")


def test_worked_sums_end_in_what_python_computes(pebble):
    for a, b in [(10, 99), (999, 999), (100, 10), (10, 999), (305, 305), (500, 501), (204, 117)]:
        for operator, result in (("+", a + b), ("-", a - b)):
            last = pebble["tasks"].worked(a, operator, b).splitlines()[-1]
            assert int(last) == abs(result)
    for index in range(200):
        case = pebble["corpus"].case("train", 0, index, task="arithmetic")
        line = case.messages[1]["reasoning"].splitlines()[0]
        a, operator, b = line.split()
        assert int(case.expected) == (int(a) + int(b) if operator == "+" else int(a) - int(b))


def test_calls_fill_every_parameter_of_a_declared_tool_with_a_value_of_its_type(corpus):
    for task in ("call", "follow_up"):
        for index in range(200):
            case = corpus.case("train", 0, index, task=task)
            name, arguments = case.expected
            declared = {tool["function"]["name"]: tool["function"] for tool in case.tools}
            assert len(declared) == len(case.tools), "two tools of one name"
            properties = declared[name]["parameters"]["properties"]
            assert arguments.keys() == properties.keys()
            kinds = {"string": str, "integer": int}
            for key, value in arguments.items():
                assert type(value) is kinds[properties[key]["type"]]


def test_the_answer_to_learn_is_what_generation_adds_to_the_rendered_prompt(pebble, tokenizer):
    """The witness is `render`: a prompt of it, then the learnt ids, are the ids to train on."""
    for case in cases(pebble, "train", 6):
        ids, labels = pebble["corpus"].encoded(case, tokenizer)
        prompt = render(
            case.prompt, template=native_template(EDGE), tokenizer=tokenizer,
            tools=case.tools or None, thinking=case.thinking,
        ).token_ids  # fmt: skip
        if case.task != "result":
            assert ids[: len(prompt)] == prompt
        answer = ids[len(prompt) :]
        stop = tokenizer.control_ids["<|tool_response>" if isinstance(case.expected, tuple)
                                     else "<turn|>"]  # fmt: skip
        assert stop in answer
        learnt = labels[len(prompt) : len(prompt) + answer.index(stop) + 1]
        assert learnt == answer[: answer.index(stop) + 1]


def test_questions_results_and_declarations_are_not_learnt(pebble):
    for case in cases(pebble, "train", 8):
        runs = pebble["corpus"].learnt(case)
        unlearnt = "".join(text for text, _, is_learnt in runs if not is_learnt)
        learnt = "".join(text for text, _, is_learnt in runs if is_learnt)
        for message in case.messages:
            if message["role"] in ("user", "system"):
                assert message["content"] in unlearnt and message["content"] not in learnt
            elif message["role"] == "tool":
                assert f'{{value:<|"|>{message["content"]}<|"|>}}' in unlearnt
        assert "declaration:" not in learnt and "response:" not in learnt


def test_answers_whose_thoughts_the_template_dropped_are_not_learnt_with_thinking_on(corpus):
    messages = (
        {"role": "user", "content": "Q1"},
        {"role": "assistant", "content": "A1", "reasoning": "R1"},
        {"role": "user", "content": "Q2"},
        {"role": "assistant", "content": "A2", "reasoning": "R2"},
    )
    for thinking, expected in ((True, "thought\nR2\n A2"), (False, "A1 thought\nR2\n A2")):
        case = corpus.Case(task="", messages=messages, expected="A2", wordings=frozenset(),
                         values=frozenset(), thinking=thinking)  # fmt: skip
        runs = corpus.learnt(case)
        assert (
            " ".join(t for t, control, is_learnt in runs if is_learnt and not control) == expected
        )


def test_digits_stand_alone_and_every_text_comes_back(pebble, tokenizer):
    for piece in tokenizer.pieces():
        text = piece.decode(errors="replace")
        assert (
            len(text) == 1
            or not re.search(r"[0-9]", text)
            or piece in map(str.encode, [f"<0x{b:02X}>" for b in range(256)])
        )
    for text in ("12 + 345 = 357", "naïve 🚀\tx", "  two\n\n\nlines ", '{"a": [1, 2.5]}'):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("2026")) == 4


def test_all_control_tokens_of_gemma_4_are_there_by_name(tokenizer):
    assert tokenizer.control_ids.keys() == GEMMA4_CONTROL.keys()
    assert tokenizer.vocab_size == 1024


def test_the_same_text_gives_the_same_tokenizer(pebble):
    def made() -> str:
        return json.dumps(pebble["tokenizer"].train(pebble["corpus"].texts("train", 0, 60), 600))

    assert made() == made()


def test_a_tokenizer_with_too_few_pieces_is_refused(pebble):
    with pytest.raises(ValueError, match="found 100, expected at least"):
        pebble["tokenizer"].train([], 100)
