"""Sums of a run, and two runs over what both have."""

from __future__ import annotations

import json
import math
import random

import pytest

from cabochon.errors import InvalidArgument
from cabochon.evaluation import exports
from cabochon.evaluation.compare import compare
from cabochon.evaluation.page import page
from cabochon.evaluation.report import Report
from cabochon.evaluation.summary import summarise, summarise_run
from records import SUITES, clean_run, manifest, record


def scores(suite, values, **more):
    return [record(suite, index, score=value, **more) for index, value in enumerate(values)]


def test_a_mean_over_seven_suites_is_another_over_eight_with_the_one_that_failed():
    # Published: 83.6 over seven suites; with the eighth at 0 % it is 73.2.
    cases = [case for suite in "abcdefg" for case in scores(suite, [0.7364, 0.9364] * 10)]
    cases += scores("multi_turn", [0.0] * 10)

    found = summarise(cases)

    assert round(100 * found.score.mean, 1) == 73.2
    assert round(100 * found.score_without_failed.mean, 1) == 83.6
    assert found.failed == ("multi_turn",)
    assert "83.6 without multi_turn" in found.headline
    assert found.headline.startswith("8 suites: 73.2 % (")


def test_a_suite_that_could_not_run_makes_the_headline_say_so():
    cases = clean_run(12)
    for case in cases:
        if case["suite"] == "rag":
            case |= {"score": None, "verdict": "not_executed"}

    found = summarise(cases, suites=[*SUITES, "code"])

    assert found.headline.startswith("4 of 6 suites: 83.3 %")
    assert "without a score: code, rag" in found.headline
    assert found.missing == ("code", "rag")
    assert next(row for row in found.suites if row.suite == "rag").unscored == 12


def test_truncated_answers_widen_the_score_by_their_share_and_unparsed_ones_are_counted():
    cases = scores("a", [1.0] * 6 + [0.0] * 4)
    cases[8] |= {"verdict": "truncated"}
    cases[9] |= {"verdict": "unparsed"}

    found = summarise(cases + scores("b", [1.0] * 10))
    row = found.suites[0]

    assert (row.truncated, row.unparsed, row.n) == (1, 1, 10)
    assert (row.score.mean, row.upper) == (0.6, 0.7)
    assert found.score.mean == 0.8
    assert math.isclose(found.upper, 0.85)  # half of the mean is suite b
    assert "at most 85.0 had no answer been cut" in found.headline


def test_repeats_are_one_case_and_their_variance_is_told():
    cases = [
        record("a", index, score=float((index + repeat) % 2), repeat=repeat)
        for index in range(20)
        for repeat in range(4)
    ]

    found = summarise(cases)
    (row,) = found.suites

    assert (row.n, row.repeats) == (20, 4)
    assert row.variance_between == 0
    assert math.isclose(row.variance_within, 1 / 3)  # of 0, 1, 0, 1 over three
    assert (row.score.low, row.score.high) == (found.score.low, found.score.high)
    assert row.score.high - row.score.low > 0.35  # of 20 cases, not of 80
    assert found.notes() == ["a: 4 answers a case; variance 0.3333 within cases, 0.0000 between"]


def test_a_suite_without_a_failure_says_what_that_leaves_possible():
    found = summarise(scores("a", [1.0] * 60) + scores("b", [1.0, 0.0]))

    note = "a: no failure in 60 independent cases, which still allows a failure rate of 4.9 %"
    assert found.notes() == [note]
    assert note in found.table()
    assert note in found._repr_html_()


def test_what_stands_beside_the_score_is_a_row_and_in_no_mean():
    cases = scores("a", [1.0, 0.0]) + scores("a", [0.0, 0.0], prompting="schema")

    found = summarise(cases)

    assert [(row.prompting, row.score.mean) for row in found.suites] == [
        ("schema", 0.0),
        ("zero-shot", 0.5),
    ]
    assert found.score.mean == 0.5
    assert "a, schema" in found.table()


def test_the_order_of_records_changes_nothing():
    cases = clean_run(30)
    scores = random.Random(1)
    for case in cases:
        case["score"] = scores.random()
        case["cluster_id"] = case["case_id"][:-1]
    mixed = random.Random(0).sample(cases, len(cases))

    assert summarise(mixed).to_dict() == summarise(cases).to_dict()
    json.dumps(summarise(cases).to_dict(), allow_nan=False)


def test_a_suite_without_a_weight_is_refused_and_named():
    with pytest.raises(InvalidArgument, match=r"suite 'rag' has 0\.0, expected a positive number"):
        summarise(clean_run(6), weights=dict.fromkeys(SUITES[:4], 1.0))


def test_every_total_of_a_run_has_the_weights_of_its_recipe(tmp_path):
    cases = scores("a", [1.0] * 20) + scores("b", [1.0, 0.0] * 10)
    recipe = {"weights": {"a": 0.1, "b": 0.9}}
    facts = manifest(recipe=recipe)
    flipped = [{**case, "score": 1.0 - case["score"]} for case in cases]

    files = exports.to_lm_eval(tmp_path, cases, facts)

    assert math.isclose(summarise_run(cases, facts).score.mean, 0.55)
    results = json.loads(files[0].read_text("ascii"))["results"]
    assert math.isclose(results["cabochon"]["score,none"], 0.55)
    assert "**55.0**" in exports.to_markdown(cases, facts)
    assert "2 suites: 55.0 %" in page(cases, facts)
    overall = compare(cases, facts, flipped, facts).overall
    assert math.isclose(overall.this, 0.55)
    assert math.isclose(overall.difference.mean, 0.1)  # 1 in suite a, 0 in suite b
    assert math.isclose(Report(facts, cases, complete=True).score, 0.55)


def test_the_preset_that_measures_nothing_has_no_mean_anywhere(tmp_path):
    cases = scores("a", [1.0, 0.0, 0.0, 1.0]) + scores("b", [1.0] * 4)
    facts = manifest(recipe={"preset": "smoke"}, requests=8)

    report = Report(facts, cases, complete=True)
    files = exports.to_lm_eval(tmp_path, cases, facts)

    assert (report.score, report.ci95) == (None, None)
    for shown in (str(report), repr(report), page(cases, facts), exports.to_markdown(cases, facts)):
        assert "2 suites: a few cases to see that it runs, not a measurement" in shown
        assert "75.0" not in shown
    assert "cabochon" not in json.loads(files[0].read_text("ascii"))["results"]


def test_useful_tokens_a_second_leave_wasted_ones_out():
    cases = [record("a", 0, answer_tokens=10, thinking_tokens=5, wasted_tokens=99, decode_s=3.0)]

    assert summarise(cases).suites[0].tokens_per_s == 5.0


# --- two runs ------------------------------------------------------------------------------------


def paired(suite, wins, losses, ties):
    """Two runs of one suite."""
    same = [float(index % 2) for index in range(ties)]
    ours = scores(suite, [1.0] * wins + [0.0] * losses + same)
    return ours, scores(suite, [0.0] * wins + [1.0] * losses + same)


def test_pairs_decide_where_overlapping_intervals_do_not():
    ours, theirs = paired("a", 21, 6, 173)

    found = compare(ours, manifest(), theirs, manifest())
    (row,) = found.rows

    assert (row.wins, row.losses, row.ties, row.n) == (21, 6, 173, 200)
    assert math.isclose(row.difference.mean, 0.075)
    assert row.test == "McNemar mid-p"
    assert row.p < 0.005
    assert 0 < row.difference.low < 0.075 < row.difference.high
    # Each run alone: intervals that overlap.
    ends = [summarise(cases).score for cases in (ours, theirs)]
    assert ends[0].low < ends[1].high


def test_a_p_that_would_be_printed_as_0_is_told_as_under_a_thousandth():
    ours, theirs = paired("a", 40, 0, 20)

    found = compare(ours, manifest(), theirs, manifest())

    assert "p < 0.001, over 60 shared cases" in found.headline
    assert found.rows[0].cells()[9:11] == ["< 0.001", "< 0.001"]
    assert found.rows[0].p == 2.0**-40


def test_p_is_exact_under_25_discordant_pairs_and_adjusted_over_the_suites():
    runs = [paired("a", 9, 1, 50), paired("b", 5, 5, 50), paired("c", 6, 0, 54)]
    ours = [case for run in runs for case in run[0]]
    theirs = [case for run in runs for case in run[1]]

    found = compare(ours, manifest(), theirs, manifest())

    assert [row.test for row in found.rows] == ["McNemar exact"] * 3
    assert [row.p for row in found.rows] == [2 * 11 / 1024, 1.0, 2 / 64]
    # Sorted 0.0215, 0.03125, 1: times 3, 2, 1, never falling.
    assert [row.adjusted for row in found.rows] == [3 * 22 / 1024, 1.0, 3 * 22 / 1024]
    assert found.overall.n == 180
    assert (found.overall.wins, found.overall.losses) == (20, 6)
    assert math.isclose(found.overall.difference.mean, 14 / 180)


def test_graded_scores_and_repeated_clusters_are_tested_by_sign_flips():
    ours, theirs = paired("a", 9, 1, 50)
    graded = [{**case, "score": case["score"] * 0.9} for case in ours]
    groups = [{**case, "cluster_id": f"c{index // 5}"} for index, case in enumerate(ours)]

    assert compare(graded, manifest(), theirs, manifest()).rows[0].test == "sign flips"
    found = compare(groups, manifest(), theirs, manifest()).rows[0]
    assert found.test == "sign flips of clusters"
    assert found.difference.method == "cluster bootstrap"
    # Nine wins in two clusters say far less than nine wins alone.
    assert found.p > 0.2


def test_what_is_not_shared_is_counted_and_named_and_never_averaged():
    ours, theirs = paired("a", 5, 0, 15)
    ours.append(record("a", 90, score=0.0))
    theirs.append(record("a", 91, score=0.0))
    ours.append(record("a", 92, score=0.0))
    theirs.append(record("a", 92, score=1.0, version=2))
    ours.append(record("a", 93, score=0.0))
    theirs.append(record("a", 93, score=None))
    ours.append(record("a", 94, score=0.0, prompting="few-shot"))
    theirs.append(record("a", 94, score=1.0))

    found = compare(ours, manifest(), theirs, manifest())

    assert found.rows[0].n == 20
    assert found.not_shared == {
        "only in the other run": ("a-091", "a-094"),
        "only in this run": ("a-090", "a-094, few-shot"),
        "with other contents": ("a-092",),
        "without a score in the other run": ("a-093",),
    }
    assert "not compared: 1 with other contents: a-092" in found.table()


def test_prompts_limits_and_thinking_that_differ_stand_above_the_table():
    ours, theirs = paired("a", 5, 0, 15)
    theirs = [
        {**case, "max_tokens": 256, "thinking_tokens": 9, "prompt_sha256": "x"} for case in theirs
    ]
    other = manifest(fingerprint="0" * 64)
    other["recipe"] = {**other["recipe"], "thinking": True}

    found = compare(ours, manifest(), theirs, other)

    above = found.table().split("suite")[0]
    assert "recipe.thinking False here, True there" in above
    assert "20 of 20 shared cases have another limit of output tokens" in above
    assert "20 of 20 shared cases have other prompt tokens" in above
    assert "this run thought in 0 shared cases, the other in 20" in above
    assert "fingerprint ffffffffffff... here, 000000000000... there" in above
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_run_compared_with_itself_has_no_difference():
    cases = clean_run(12)

    found = compare(cases, manifest(), cases, manifest())

    assert found.notes() == []
    # 60 cases without a difference: at 95 % fewer than 4.9 % of all cases have one.
    assert found.headline == "+0.0 points (-4.9 to +4.9), p = 1.000, over 60 shared cases"
    assert [row.difference.method for row in found.rows] == ["no spread"] * 5
    assert {row.adjusted for row in found.rows} == {1.0}


def test_nothing_shared_is_said_and_not_an_error():
    found = compare(scores("a", [1.0]), manifest(), scores("b", [1.0]), manifest())

    assert found.overall is None
    assert "nothing is shared" in found.table()


def test_tables_of_html_escape_what_a_name_spells():
    name = "<script>alert(1)</script>"
    ours, theirs = (scores(name, [1.0, 0.0, 1.0]) for _ in range(2))

    for shown in (compare(ours, manifest(), theirs, manifest()), summarise(ours)):
        assert "<script" not in shown._repr_html_()
