"""What is exported reads back, in the forms of others, whatever a model wrote."""

from __future__ import annotations

import csv
import json
import re
import sys

import pytest

from cabochon.errors import EvaluationError, MissingExtra
from cabochon.evaluation import exports
from cabochon.evaluation.cases import read_case
from cabochon.evaluation.page import write_page
from cabochon.evaluation.summary import summarise
from records import clean_run, manifest, record

HOSTILE = "<script>alert('a')</script> \"=1+1\",\n| \0 \ud800 \x1b[31m </pre>"
ESCAPED = HOSTILE.replace("\0", r"\x00").replace("\ud800", r"\ud800").replace("\x1b", r"\x1b")


def run():
    """A run with every awkward kind of value."""
    cases = clean_run(12)
    cases[0] |= {"output_text": HOSTILE, "extracted": {"a": [1, None, HOSTILE]}, "reason": HOSTILE}
    cases[1] |= {"score": None, "verdict": "error", "output_text": None, "decode_s": None}
    cases[2] |= {"turns": [{"output_text": "first", "controls": [], "finish_reason": "stop"}]}
    cases.append(record("rag", 0, prompting="few-shot", score=0.5))
    return cases


def test_csv_reads_back_with_every_key_and_no_character_that_readers_refuse(tmp_path):
    cases = run()

    exports.to_csv(tmp_path / "a.csv", cases)

    text = (tmp_path / "a.csv").read_bytes().decode("utf-8")
    assert "\0" not in text
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(cases)
    assert list(rows[0]) == list(cases[0])
    assert rows[0]["output_text"] == ESCAPED
    assert json.loads(rows[0]["extracted"]) == {"a": [1, None, HOSTILE]}
    assert rows[1]["score"] == rows[1]["output_text"] == ""
    assert [float(row["total_s"]) for row in rows] == [case["total_s"] for case in cases]


def test_a_frame_goes_through_parquet_and_keeps_kinds_and_missing_values(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: cabochon[test]")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: cabochon[test]")
    cases = run()

    frame = exports.frame(cases)
    frame.to_parquet(tmp_path / "a.parquet")
    again = pandas.read_parquet(tmp_path / "a.parquet")

    pandas.testing.assert_frame_equal(frame, again)
    kinds = {"score": "float64", "prompt_tokens": "Int64", "near_miss": "boolean"}
    assert {name: str(again[name].dtype) for name in kinds} == kinds
    assert again["score"].isna().sum() == 1
    assert again["score"].mean() == pytest.approx(exports_mean(cases))
    assert again["output_text"][0] == ESCAPED
    assert json.loads(again["expected"][3]) == cases[3]["expected"]


def exports_mean(cases):
    scores = [case["score"] for case in cases if case["score"] is not None]
    return sum(scores) / len(scores)


def test_a_frame_without_pandas_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(MissingExtra, match=r"pip install 'cabochon\[eval\]'") as caught:
        exports.frame(clean_run(1))
    assert caught.value.extra == "eval"


def test_markdown_is_a_table_whose_cells_no_name_can_end():
    cases = [record("a|b<script>", index, score=float(index % 2)) for index in range(10)]

    found = exports.to_markdown(cases, manifest())

    lines = [line for line in found.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert r"| a\|b&lt;script> | zero-shot | 10 | 50.0 | 23.7 to 76.3 | 0 | 0 | 0 |" in lines
    assert "thinking false" in found
    assert found.startswith("gemma-4-E2B-it: 1 suite: 50.0 % (23.7 to 76.3)")


# --- lm-eval -------------------------------------------------------------------------------------

# Of results_*.json and samples_*.jsonl as lm-eval 0.4.13 wrote them for a task of its own.
RESULTS = {
    *("results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better"),
    *("n-samples", "config", "date", "task_hashes", "model_source", "model_name"),
}
SAMPLE = {
    *("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"),
    *("doc_hash", "prompt_hash", "target_hash"),
}


def written(tmp_path, **more):
    files = exports.to_lm_eval(tmp_path, run(), manifest(**more))
    samples = {}
    for path in files[1:]:
        name = path.name.removeprefix("samples_").rpartition("_")[0]
        samples[name] = [json.loads(line) for line in path.read_text("ascii").splitlines()]
    return files, json.loads(files[0].read_text("ascii")), samples


def test_lm_eval_files_have_the_names_and_keys_of_lm_eval(tmp_path):
    given = {"created": "2026-03-01T10:20:30+00:00"}

    files, results, samples = written(tmp_path, **given)

    assert files[0] == tmp_path / "gemma-4-E2B-it" / "results_2026-03-01T10-20-30.json"
    assert files[1].name == "samples_cabochon_classification_2026-03-01T10-20-30.jsonl"
    assert results.keys() >= RESULTS
    assert results["date"] == 1772360430
    for name, lines in samples.items():
        assert name in results["results"]
        assert all(line.keys() >= SAMPLE for line in lines)
        assert [line["doc_id"] for line in lines] == list(range(len(lines)))
        assert all(line["score"] >= 0 for line in lines if line["metrics"] == ["score"])


def test_lm_eval_files_hold_the_scores_of_the_summary_and_every_answer(tmp_path):
    cases = run()

    _, results, samples = written(tmp_path)

    summary = summarise(cases)
    assert results["results"]["cabochon"]["score,none"] == summary.score.mean
    assert results["groups"]["cabochon"] == results["results"]["cabochon"]
    assert sum(map(len, samples.values())) == len(cases)
    tools = results["results"]["cabochon_tools"]
    assert tools["sample_len"] == 11
    assert tools["unscored,none"] == pytest.approx(1 / 12)
    assert tools["score_low,none"] < tools["score,none"] < tools["score_high,none"]
    assert results["n-shot"]["cabochon_rag_few_shot"] == 3
    first, error, talk = samples["cabochon_tools"][:3]
    assert first["resps"] == [[HOSTILE]]
    assert (error["metrics"], error["verdict"], "score" in error) == ([], "error", False)
    assert talk["resps"][0] == ["first"]
    assert len(talk["resps"]) == len(talk["arguments"]) == len(talk["filtered_resps"]) == 2


def test_suites_whose_names_differ_in_signs_alone_keep_files_of_their_own(tmp_path):
    records = [record("a b", 0), record("a-b", 0), record("a_b", 0)]

    files = exports.to_lm_eval(tmp_path, records, manifest())

    names = ["cabochon_a_b", "cabochon_a_b_2", "cabochon_a_b_3"]
    assert [path.name.removeprefix("samples_").rpartition("_")[0] for path in files[1:]] == names
    assert all(len(path.read_text("ascii").splitlines()) == 1 for path in files[1:])


@pytest.mark.parametrize("name", ["..", "../../up", "a" * 400, "\0", ""])
def test_a_model_of_any_name_has_a_folder_inside_the_one_that_was_given(tmp_path, name):
    given = manifest(machine={"name": name})

    files = exports.to_lm_eval(tmp_path / "out", [record("rag", 0)], given)

    assert {path.parent.parent for path in files} == {tmp_path / "out"}
    assert all(path.resolve().parent.parent == (tmp_path / "out").resolve() for path in files)


def test_a_file_that_cannot_be_written_is_an_error_of_ours_with_its_path(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "a"

    for write in (
        lambda: exports.to_csv(path, []),
        lambda: exports.to_lm_eval(path, [record("rag", 0)], manifest()),
        lambda: write_page(path, [record("rag", 0)], manifest()),
    ):
        with pytest.raises(EvaluationError, match=r"file/a.*cannot be written: .*expected a path"):
            write()


def test_prompts_stand_in_samples_where_the_cases_are_at_hand(tmp_path):
    case = read_case(
        {
            "case_id": "rag-000", "version": 1, "suite": "rag", "family": "a", "tier": "easy",
            "language": "en", "cluster_id": "a", "seed": 0, "max_tokens": 512, "grader": "label",
            "messages": [{"role": "user", "content": "Which?"}], "expected": {}, "ideal": [],
            "wrong": [],
        },
        where="here",
    )  # fmt: skip
    records = [record("rag", 0), record("rag", 1)]

    files = exports.to_lm_eval(tmp_path, records, manifest(), cases={"rag-000": case})

    lines = [json.loads(line) for line in files[1].read_text("ascii").splitlines()]
    prompts = [line["arguments"]["gen_args_0"]["arg_0"] for line in lines]
    assert json.loads(prompts[0]) == [{"role": "user", "content": "Which?"}]
    assert prompts[1] == "sha256:rag-1"


def test_lm_eval_itself_reads_the_files(tmp_path):
    utils = pytest.importorskip("lm_eval.utils", reason="lm_eval is not installed")
    files, results, _ = written(tmp_path)
    names = [str(path) for path in files]

    table = utils.make_table(results)

    assert utils.get_results_filenames(names) == names[:1]
    assert utils.get_sample_results_filenames(names) == names[1:]
    assert utils.get_file_task_name(files[1].name) == "cabochon_classification"
    score = results["results"]["cabochon_rag"]["score,none"]
    assert re.search(rf"cabochon_rag *\|(.*\n)*?.*\|score *\|↑ *\|{score:.4f}\|±", table), table
    assert "| Groups |" in utils.make_table(results, "groups")
