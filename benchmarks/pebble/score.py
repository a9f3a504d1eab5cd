"""How much of what pebble was trained for does it do? On held-out cases, through the public API.

    python benchmarks/pebble/score.py FOLDER [--cases 200] [--weights bf16 int8 int4] [--json FILE]

Greedy. A row for each figure of the table in README.md, a column for each weight format, all on the
same cases of the test part: wordings and values that training never shows. What is right: the
number, the class, the code alone; the tool's name with equal arguments; for JSON both `valid` (it
parses and fits the schema) and `right` (it is the record). With a constraint needs
cabochon[constrain].
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import corpus
import jsonschema_rs
import tasks

import cabochon

SEED = 1  # of the cases; their part is what keeps them from training
NEEDLE_CONTEXT = 1024
Row = tuple[str, list[corpus.Case], Callable[[corpus.Case, Any], bool], dict[str, Any]]


def same_text(case: corpus.Case, result: Any) -> bool:
    return result.finish_reason == "stop" and result.text.strip() == case.expected


def same_call(case: corpus.Case, result: Any) -> bool:
    called = [(call.name, dict(call.arguments)) for call in result.tool_calls]
    return called == [case.expected]


def parsed(result: Any) -> Any:
    """What the answer is as JSON; None where it is none."""
    try:
        return json.loads(result.text)
    except ValueError:
        return None


def is_valid(case: corpus.Case, result: Any) -> bool:
    found = parsed(result)
    return found is not None and jsonschema_rs.is_valid(dict(case.schema or {}), found)


def is_right(case: corpus.Case, result: Any) -> bool:
    return bool(parsed(result) == case.expected)


def needles(model: cabochon.Model, depth: float, count: int) -> Iterator[corpus.Case]:
    """Cases whose rendered prompts come as near below NEEDLE_CONTEXT as whole sentences allow."""
    for index in range(count):
        kept = None
        for sentences in range(40, 120):
            source = corpus.Source("test", corpus.Draw("needle", SEED, depth.hex(), index))
            made = tasks.needle(source, depth=depth, sentences=sentences)
            if len(model.render(made.prompt).token_ids) > NEEDLE_CONTEXT:
                break
            kept = made
        assert kept is not None
        yield kept


def rows(model: cabochon.Model, count: int) -> Iterator[Row]:
    def of(task: str) -> list[corpus.Case]:
        return [corpus.case("test", SEED, index, task=task) for index in range(count)]

    sums = of("arithmetic")
    yield "arithmetic, thinking on", sums, same_text, {"thinking": True}
    yield "arithmetic, thinking off", sums, same_text, {"thinking": False}
    yield "units", of("units"), same_text, {}
    yield "dates", of("dates"), same_text, {}
    yield "right call", of("call"), same_call, {"strict_tools": False}
    yield "right call, follow-up", of("follow_up"), same_call, {"strict_tools": False}
    yield "answer from a result", of("result"), same_text, {}
    yield "references", of("references"), same_text, {}
    records = of("extraction")
    yield "JSON valid", records, is_valid, {}
    yield "JSON right", records, is_right, {}
    yield "JSON valid, constrained", records, is_valid, {"constrained": True}
    yield "JSON right, constrained", records, is_right, {"constrained": True}
    yield "classification", of("classification"), same_text, {}
    for depth in (0.25, 0.5, 0.75):
        yield f"needle at {depth:g}", list(needles(model, depth, count)), same_text, {}
    yield "refusal", of("refusal"), same_text, {}


def answers(model: cabochon.Model, cases: list[corpus.Case], options: dict[str, Any]) -> list[Any]:
    """Results; one call of `generate` where no case has tools or a schema of its own."""
    given = dict(options)
    is_constrained = given.pop("constrained", False)
    given |= {"temperature": 0, "max_tokens": 192, "progress": False}
    if not is_constrained and not any(case.tools for case in cases):
        return list(model.generate([case.prompt for case in cases], **given))
    return [
        model.generate(
            case.prompt,
            tools=case.tools,
            **({"schema": dict(case.schema or {})} if is_constrained else {}),
            **given,
        )
        for case in cases
    ]


def scores(folder: Path, weights: str, count: int, threads: int | None) -> dict[str, float]:
    """Percent of each row."""
    found: dict[str, float] = {}
    with cabochon.load(folder, weights=weights, context=2048, threads=threads) as model:
        for name, cases, judge, options in rows(model, count):
            results = answers(model, cases, options)
            right = [judge(case, result) for case, result in zip(cases, results, strict=True)]
            found[name] = 100 * sum(right) / len(right)
            print(f"{weights:5} {name:28} {found[name]:6.1f} %  of {len(right)}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=200, help="of each row")
    parser.add_argument("--weights", nargs="+", default=["bf16", "int8", "int4"])
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--json", type=Path, default=None, help="where to keep the figures")
    arguments = parser.parse_args()
    table = {
        weights: scores(arguments.folder, weights, arguments.cases, arguments.threads)
        for weights in arguments.weights
    }
    if arguments.json:
        arguments.json.write_text(json.dumps({"cases": arguments.cases} | table, indent=2) + "\n")


if __name__ == "__main__":
    main()
