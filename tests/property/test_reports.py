"""Whatever a model wrote and whatever a run is called, every report of it is made and is whole.

RANDOM_REPORTS sets how many runs are made; 200 take half a minute.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent / "unit" / "python"))

from test_page import Page

from cabochon.evaluation import exports
from cabochon.evaluation.compare import compare
from cabochon.evaluation.diagnose import diagnose
from cabochon.evaluation.page import page
from cabochon.evaluation.summary import summarise
from records import manifest, record

COUNT = int(os.environ.get("RANDOM_REPORTS", "25"))
ANY = st.text(st.characters(), max_size=30) | st.sampled_from(
    ["</pre><script>", "<|channel>thought\n", "<|tool_call>call:a{b:", "\ud800", "\0", "]]>", "'\""]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY, inner, max_size=3),
    max_leaves=6,
)
VERDICTS = st.sampled_from(["pass", "partial", "fail", "unparsed", "truncated", "refused", "error"])


@st.composite
def runs(draw):
    """A few records of up to three suites with any names."""
    names = draw(st.lists(ANY, min_size=1, max_size=3, unique=True))
    cases = []
    for index in range(draw(st.integers(1, 12))):
        verdict = draw(VERDICTS)
        score = {"pass": 1.0, "partial": draw(st.floats(0, 1)), "error": None}.get(verdict, 0.0)
        case = record(names[index % len(names)], index, score=score)
        case |= {"verdict": verdict, "output_text": draw(st.none() | ANY), "reason": draw(ANY)}
        case |= {"extracted": draw(JSON), "near_miss": draw(st.booleans())}
        case |= {"cluster_id": f"c{index % 4}", "controls": draw(st.sampled_from([None, []]))}
        case |= {"wasted_tokens": draw(st.none() | st.integers(0, 9)), "answer_tokens": None}
        cases.append(case)
    return cases, manifest(machine={"name": draw(ANY)}, warnings=[draw(ANY)])


@settings(max_examples=COUNT, deadline=None)
@given(runs())
def test_every_report_of_any_run_is_made_and_whole(run):
    cases, facts = run

    summary, found = summarise(cases), diagnose(cases, facts)
    itself = compare(cases, facts, cases, facts)
    text = page(cases, facts)
    with TemporaryDirectory() as folder:
        exports.to_csv(Path(folder) / "a.csv", cases)
        with (Path(folder) / "a.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        files = exports.to_lm_eval(folder, cases, facts)
        lines = [line for path in files[1:] for line in path.read_text("ascii").splitlines()]

    text.encode("utf-8")
    shown = Page(text)  # reads strictly
    assert "script" not in shown.tags
    assert len(rows) == len(cases) + 1
    assert {len(row) for row in rows} == {len(cases[0])}
    assert sorted(json.loads(line)["doc"]["case_id"] for line in lines) == sorted(
        case["case_id"] for case in cases
    )
    for record_ in (summary, found, itself):
        json.dumps(record_.to_dict(), allow_nan=False)
        record_.table()
        Page(record_._repr_html_())
    for estimate in (summary.score, *(row.score for row in summary.suites)):
        if estimate is not None:
            assert 0 <= estimate.low <= estimate.high <= 1
            assert estimate.low <= estimate.mean <= estimate.high
    assert exports.to_markdown(cases, facts).count("\n") >= 4
