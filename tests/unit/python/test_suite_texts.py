"""What single suites promise of their texts: sizes, spans, what is empty, examples to show."""

from __future__ import annotations

import importlib
import re

import pytest

from cabochon.evaluation.cases import canonical
from cabochon.evaluation.suites import shipped

NAMES = shipped.suite_names()


def module(name):
    return importlib.import_module(f"cabochon.evaluation.suites.{name}")


@pytest.mark.parametrize("name", [name for name in NAMES if hasattr(module(name), "EXAMPLES")])
def test_examples_are_three_and_no_cases(name):
    shown = module(name).EXAMPLES
    asked = {canonical(c.messages) for seed in (0, 7) for c in shipped.generated(name, seed, 200)}

    assert len(shown) == 3
    assert all(set(item) == {"messages", "answer"} and item["answer"] for item in shown)
    assert not {canonical(item["messages"]) for item in shown} & asked


def test_documents_hold_every_value_and_some_lack_a_type():
    kinds = module("extraction").TYPES
    lacking = 0
    for case in shipped.shipped("extraction"):
        text = case.messages[0]["content"]
        document = re.search(r"<document>\n(.*)\n</document>|Document:\n(.*)", text, re.DOTALL)
        words = (document[1] or document[2]).casefold()
        entities, relations = case.expected["entities"], case.expected["relations"]

        assert 80 <= len(words.split()) <= 400, case.case_id
        for value in [*(value for _, value in entities), *case.expected["decoys"]]:
            assert value.casefold() in words, (case.case_id, value)
        known = {value for _, value in entities}
        assert all({head, tail} <= known for head, _, tail in relations), case.case_id
        lacking += len({kind for kind, _ in entities}) < len(kinds[case.family])

    assert lacking >= 12


def test_passages_have_their_length_and_facts_that_the_first_words_lack():
    for case in shipped.shipped("summarisation"):
        assert 150 <= len(case.expected["passage"].split()) <= 500, case.case_id
        assert 3 <= len(case.expected["facts"]) <= 5, case.case_id
        assert any("flips" in fact for fact in case.expected["facts"]), case.case_id


def test_questions_stand_over_three_to_eight_passages_and_choices_over_four_to_eight_tools():
    for case in shipped.shipped("rag"):
        count = len(re.findall(r"^\[\d\] ", case.messages[0]["content"], re.MULTILINE))
        assert 3 <= count <= 8, case.case_id
        assert all(1 <= number <= count for number in case.expected["needs"]), case.case_id
    for case in shipped.shipped("tools"):
        if case.family == "choice":
            assert 4 <= len(case.tools) <= 8, case.case_id
