"""Grader `language`: content, and the language that it is in."""

# Letters that look like others are what this is about.
# ruff: noqa: RUF001

from __future__ import annotations

from collections import Counter

import pytest

from cabochon.evaluation.graders.language import _WORDS
from cabochon.evaluation.suites import shipped
from graded import case, graded

ENGLISH = "There are 12 boxes and they will arrive at the gate on Monday with the others."
RIGHT = {
    "de": "Es kommen am Montag 12 Kartons mit den anderen an das Tor.",
    "fr": "Les 12 cartons arrivent lundi avec les autres dans la cour.",
    "es": "Las 12 cajas llegan el lunes con las otras a la puerta.",
    "it": "Le 12 scatole arrivano lunedì con le altre e sono nella sala.",
    "pt": "As 12 caixas chegam na segunda com as outras e não estão no portão.",
    "pl": "W poniedziałek przyjedzie 12 kartonów i nie ma ich na liście.",
    "tr": "Pazartesi günü 12 kutu diğerleri ile birlikte geliyor ve kapıda kalacak.",
    "ar": "سيصل 12 صندوقًا يوم الاثنين مع الصناديق الأخرى إلى المستودع.",
    "hi": "सोमवार को 12 डिब्बे दूसरे डिब्बों के साथ आएँगे।",
    "ja": "月曜日に12箱の荷物がほかの荷物と一緒に届きます。",
    "ko": "월요일에 상자 12개가 다른 상자와 함께 도착합니다.",
    "zh": "星期一有12箱货物和其他货物一起到达。",
}


def twelve(language):
    return case("language", {"has": [["12"]]}, language=language)


@pytest.mark.parametrize("language", RIGHT)
def test_right_content_passes_in_its_language_alone(language):
    for other, text in RIGHT.items():
        verdict = graded(twelve(language), text)

        assert (verdict.verdict == "pass") == (other == language), (other, verdict)
        assert other == language or verdict.score <= 0.3


@pytest.mark.parametrize("language", RIGHT)
def test_right_content_in_english_and_half_and_half_are_at_most_point_three(language):
    english = graded(twelve(language), ENGLISH)
    half = graded(twelve(language), f"{RIGHT[language]} {ENGLISH}")

    assert (english.reason, english.score) == ("wrong_language", 0.3)
    assert half.reason in ("mixed_language", "wrong_language")
    assert half.score == 0.3


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("hi", "Somvar ko 12 dibbe aayenge."),
        ("ja", "Getsuyobi ni 12 hako todokimasu."),
        ("ar", "Sayasil 12 sunduqan yawm al-ithnayn."),
    ],
)
def test_a_transliteration_is_in_the_wrong_script(language, text):
    assert graded(twelve(language), text).reason == "wrong_script"


@pytest.mark.parametrize("digits", ["12", "१२", "１２", "١٢"])
def test_digits_of_every_script_are_digits(digits):
    assert graded(twelve("hi"), f"सोमवार को {digits} डिब्बे आएँगे।").verdict == "pass"


@pytest.mark.parametrize(
    ("text", "reason", "score"),
    [
        ("Eins ist rot.\nDie zweite ist blau.", "", 1.0),
        ("Eins ist rot. Die zweite ist blau.", "wrong_count", 0.3 + 0.7 / 2),
        ("1 ist rot.\nDie zweite ist blau.", "digits", 0.3 + 0.7 / 2),
    ],
)
def test_a_constraint_that_is_not_kept_costs_its_share(text, reason, score):
    lines = case("language", {"lines": 2, "no_digits": True}, language="de")

    verdict = graded(lines, text)

    assert (verdict.reason, verdict.score) == (reason, pytest.approx(score))


def test_a_rival_fails_and_a_decimal_comma_counts_only_where_it_is_asked_for():
    labels = case("language", {"has": [["Frage"]], "lacks": ["Bestellung"]}, language="de")
    written = case("language", {"has": [["1.234,50"]], "as_written": True}, language="de")
    read = case("language", {"has": [["18,5"]]}, language="de")

    assert graded(labels, "Frage oder Bestellung").reason == "rival"
    assert graded(written, "1,234.50").reason == "missing"
    assert graded(read, "18.5").verdict == "pass"


def test_every_language_has_sixty_frequent_words_and_six_cases():
    cases = shipped.shipped("multilingual")

    assert all(len(words) >= 60 for words in _WORDS.values())
    counts = Counter(case.language for case in cases)
    assert counts == dict.fromkeys(RIGHT, 6)
    assert len({(case.language, case.family) for case in cases}) == 72
