"""The report as HTML: whole, without scripts or network; what a model wrote is never markup."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser

import pytest

from cabochon.evaluation import plots
from cabochon.evaluation.cases import read_case
from cabochon.evaluation.page import FAILURES, page, write_page
from cabochon.evaluation.report import Report
from records import SUITES, clean_run, manifest, record

MEMORY = {"weights": 5 * 2**30, "mapped": 2**30, "kv": 2**29, "scratch": 2**28}
VOID = {"meta", "br", "img", "hr", "link", "input"}
HOSTILE = [
    "<script>alert(1)</script>",
    "</pre></details><img src=http://a.example/x onerror='x()'>",
    '" onmouseover="x()" \'',
    "a\0b\ud800c\x1b[31m\ufffe",
    "{{ 7 * 7 }} {% raw %} {# #}",
    "<!-- <![CDATA[ &lt; &#x3c;",
]


class Page(HTMLParser):
    """Reads a page strictly: every element that is opened is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text = ""
        self.ids: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data


def run():
    cases = clean_run(150)
    for index, text in enumerate(HOSTILE):
        cases[index] |= {"output_text": text, "score": 0.0, "verdict": "fail", "reason": text}
        cases[index] |= {"extracted": {text: [text]}, "expected": text}
    lengths = [
        record("needles", index, score=float(index % 3 > 0), expected={"length": n, "depth": d})
        for index, (n, d) in enumerate((n, d) for n in (4096, 8192) for d in (0.0, 0.5, 1.0))
    ]
    return cases + lengths


def facts(name="gemma-4-E2B-it", **more):
    return manifest(machine={"name": name, "memory": MEMORY}, warnings=["<b>odd</b>"], **more)


def full() -> str:
    better = [{**case, "score": 1.0} for case in clean_run(20)]
    others = [("E4B $x$ <b>\0", better, facts("E4B"))]
    return page(run(), facts(), others=others, with_published=True)


def test_the_page_is_well_formed_and_nothing_in_it_runs_or_loads():
    found = Page(full())

    assert not set(found.tags) & {"script", "link", "img", "iframe", "object", "embed", "base"}
    # No attribute refers to anything outside the page, and none runs.
    for tag, name, value in found.attributes:
        assert not name.startswith("on"), (tag, name)
        assert "http:" not in (value or "") and "https:" not in (value or ""), (tag, name)
        assert name not in ("src", "action", "xmlns") and not (name == "href" and value[0] != "#")
    assert len(found.ids) == len(set(found.ids))


def test_hostile_output_is_text_and_stays_readable():
    text = full()

    found = Page(text)

    text.encode("utf-8")  # no half of a surrogate pair
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", text)
    for hostile in HOSTILE:
        shown = hostile.replace("\0", r"\x00").replace("\ud800", r"\ud800")
        shown = shown.replace("\x1b", r"\x1b").replace("\ufffe", r"\ufffe")
        assert shown in found.text
    assert "<b>odd</b>" in found.text


def test_the_page_has_every_part_of_a_report():
    found = Page(full()).text

    for part in (
        *("truncated", "Verdicts", "Findings", "Recipe", "recipe.thinking", "Failures"),
        *("first token s, p50", "useful tokens/s", "5.0 GiB", "scratch", "best for its memory"),
        *("needles", "8,192", "Other cases", "AI Explr", "2604.07035"),
    ):
        assert part in found, part
    assert f"classification: {FAILURES} of 25" in found
    assert "6 suites: " in found


def test_what_is_shortened_is_counted(tmp_path):
    cases = [record("rag", 0, score=0.0, output_text="a" * 10_000), record("rag", 1)]

    write_page(tmp_path / "a.html", cases, manifest())

    assert "... and 6,000 more characters" in (tmp_path / "a.html").read_text("utf-8")


def test_a_report_shows_prompts_published_figures_and_that_it_is_not_complete(tmp_path):
    case = {
        "case_id": "rag-000", "version": 1, "suite": "rag", "family": "a", "tier": "easy",
        "language": "en", "cluster_id": "a", "seed": 0, "max_tokens": 512, "grader": "label",
        "messages": [{"role": "user", "content": "Which <b>?"}], "expected": {}, "ideal": [],
        "wrong": [],
    }  # fmt: skip
    questions = {"rag-000": read_case(case, where="here")}
    facts = manifest(requests=7, warnings=["labels lean"])
    report = Report(facts, [record("rag", 0, score=0.0)], questions=questions, complete=False)

    report.report(tmp_path / "a.html", published=True)

    found = Page((tmp_path / "a.html").read_text("utf-8")).text
    for part in ("Which <b>?", "model.generate(", "not complete: 1 of 7 answers", "labels lean"):
        assert part in found, part
    assert "Other cases" in found


def test_published_figures_stand_there_only_when_asked_for():
    assert "Other cases" not in page(clean_run(6), facts())


def test_without_matplotlib_there_are_tables_and_a_word_about_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    found = Page(full())

    assert "pip install 'cabochon[eval]'" in found.text
    assert found.tags.count("svg") == 1  # the bars need no library
    assert "best for its memory" in found.text


def test_plots_are_drawn_with_matplotlib():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: cabochon[test]")

    text = full()

    found = Page(text)
    assert found.tags.count("svg") == 4  # bars, memory, seconds, heat map
    assert len(re.findall(r"<text [^>]*>E4B \$x\$ &lt;b&gt;\\x00</text>", text)) == 2
    assert full() == text


def test_a_run_without_any_score_or_time_still_has_a_page():
    error = {"verdict": "error", "output_text": None, "first_token_s": None, "total_s": None}
    cases = [record("rag", index, score=None, decode_s=None, **error) for index in range(3)]

    assert "nothing was scored" in Page(page(cases, {})).text
    assert Page(page([], {})).text


def test_the_front_holds_what_nothing_cheaper_beats():
    points = [("a", 1.0, 50.0), ("b", 2.0, 40.0), ("c", 3.0, 70.0), ("d", 3.0, 60.0)]

    assert [name for name, *_ in plots.pareto_front(points)] == ["a", "c"]
    assert set(SUITES) <= {case["suite"] for case in run()}
