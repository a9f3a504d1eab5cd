"""`Report`: what a run says. Everything in it comes from records, so no model is needed."""

from __future__ import annotations

import html
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import display
from ..chat.parser import read_written
from ..errors import EvaluationError, InvalidArgument
from .cases import Case, canonical, sha256
from .graders import code
from .grading import (
    ERROR,
    NOT_EXECUTED,
    Grader,
    Output,
    Verdict,
    find_grader,
    grade,
    grader_hash,
)
from .recipes import PROMPTING, verdicts
from .record import (
    Shard,
    add_record,
    first_difference,
    json_line,
    manifests,
    read_json,
    read_part,
    read_questions,
    write_text,
)
from .sandbox import find_sandbox
from .summary import SuiteSummary, Summary, summarise, summarise_run

CODE_GRADERS = ("tests",)  # those that run what the model wrote


def output_of(record: Mapping[str, Any]) -> Output:
    """The answer that a record holds, read as `Result` reads it: what graders see."""
    before: tuple[Output, ...] = ()
    for turn in record["turns"] or ():
        before = (*before, _output(turn))
    return _output(record, before=before)


def _output(turn: Mapping[str, Any], **more: Any) -> Output:
    controls = None if turn["controls"] is None else set(turn["controls"])
    parser = read_written(turn["output_text"] or "", controls=controls)
    return Output(
        text=parser.text,
        thinking=parser.thinking,
        tool_calls=parser.tool_calls,
        raw_text=turn["output_text"] or "",
        finish_reason=turn["finish_reason"],
        cut_in=turn["cut_in"],
        choice_logprobs=tuple(turn["choice_logprobs"]) if turn.get("choice_logprobs") else None,
        **more,
    )


def judged(
    record: Mapping[str, Any], case: Case, function: Grader | None, *, run_code: bool
) -> dict[str, Any]:
    """A record with the verdict on its output, by the case's grader or by `function`."""
    verdict = grade(case, output_of(record), judge_of(case, function, run_code=run_code))
    judge = getattr(function, "__wrapped__", function) or find_grader(case.grader)
    return {**record, **verdict.to_dict(), "grader": case.grader, "grader_hash": grader_hash(judge)}


def judge_of(case: Case, function: Grader | None, *, run_code: bool) -> Grader:
    """What grades a case: `function`, or the grader that it names. What the model wrote is run in
    a sandbox alone, and only where that is wanted; else it has no score, whatever it looks like."""
    if function is not None or case.grader not in CODE_GRADERS:
        return function or find_grader(case.grader)
    sandbox = find_sandbox() if run_code else None
    if sandbox is None:
        reason = "no_sandbox" if run_code else "run_code is False"
        return lambda case, output: Verdict(score=None, verdict=NOT_EXECUTED, reason=reason)
    return lambda case, output: code.run(case, output, sandbox)


class Report:
    """A finished or partial run. `suites`, `score` and `ci95` are the short of it."""

    def __init__(
        self,
        manifest: Mapping[str, Any],
        cases: Sequence[Mapping[str, Any]],
        *,
        questions: Mapping[str, Case] | None = None,
        graders: Mapping[str, Grader] | None = None,
        complete: bool,
        plan: Any = None,
        path: Path | None = None,
        missing_shards: Sequence[int] = (),
    ) -> None:
        self.manifest = manifest
        self.cases = sorted((dict(case) for case in cases), key=_order)
        self.complete = complete
        self._plan = plan
        self.path = path
        self.missing_shards = tuple(missing_shards)
        self._questions = questions or {}
        self._graders = graders or {}

    # --- reading ---------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Report:
        """The report of a folder that `evaluate` wrote to, finished or not.

        Raises:
            EvaluationError: there is no run, it is in shards, or a file of it cannot be read.
        """
        folder = Path(path)
        found = _parts(folder)
        if [shard.count for shard in found.values()] != [1]:
            raise EvaluationError(
                f"{folder}: found a run in {len(found)} shards, expected one: use Report.merge"
            )
        return cls._of(folder, found)

    @classmethod
    def merge(cls, path: str | os.PathLike[str]) -> Report:
        """The report of all shards in a folder; those that are missing are in `missing_shards`.

        Raises:
            EvaluationError: manifests differ in more than the shard; one case has two outputs.
        """
        folder = Path(path)
        return cls._of(folder, _parts(folder))

    @classmethod
    def _of(cls, folder: Path, found: Mapping[str, Shard]) -> Report:
        names = list(found)
        first = read_json(folder / names[0])
        counts = {shard.count for shard in found.values()}
        if len(counts) > 1:
            raise EvaluationError(
                f"{folder}: found shards of {' and of '.join(map(str, sorted(counts)))}, expected "
                "those of one run"
            )
        for name in names[1:]:
            other = read_json(folder / name)
            difference = first_difference({**first, "shard": None}, {**other, "shard": None})
            if difference is not None:
                key, ours, theirs = difference
                raise EvaluationError(
                    f"{folder}: {names[0]} has {key} {ours!r}, {name} {theirs!r}: expected shards "
                    "of one run; nothing is mixed"
                )
        records: dict[str, dict[str, Any]] = {}
        tried: dict[str, dict[str, Any]] = {}
        for shard in found.values():
            stored = read_part(folder, shard)
            for record in stored.records.values():
                add_record(records, record)
            tried.update({record["key"]: record for record in stored.all()})
        count = counts.pop()
        indices = {shard.index for shard in found.values()}
        missing = [index for index in range(count) if index not in indices]
        return cls(
            first,
            list({**tried, **records}.values()),
            questions=read_questions(folder),
            complete=not missing and len({**tried, **records}) == first["requests"],
            path=folder,
            missing_shards=missing,
        )

    # --- what it says ----------------------------------------------------------------------------

    @property
    def plan(self) -> Any:
        """A `preflight.RunPlan`: what the run was to take, and what difference it can show."""
        from .preflight import RunPlan

        return self._plan or RunPlan(**self.manifest["plan"])

    def question(self, record: Mapping[str, Any]) -> Case:
        """The case of a record, as it was asked.

        Raises:
            EvaluationError: it is not among the questions of the run.
        """
        case = self._questions.get(record["case_id"])
        if case is None:
            raise EvaluationError(
                f"case {record['case_id']!r} is not among the questions of this run, expected "
                "questions.jsonl beside its records"
            )
        return case

    @property
    def counted(self) -> list[dict[str, Any]]:
        """Records that make the score: all but those which are printed beside it."""
        return [case for case in self.cases if case["prompting"] in PROMPTING]

    @cached_property
    def summary(self) -> Summary:
        """Rows and mean of the score."""
        return summarise_run(self.counted, self.manifest)

    @cached_property
    def beside(self) -> Summary:
        """The same of what is printed beside: questions of conversations alone ("twin"), answers
        bound to their schema ("schema")."""
        return summarise([case for case in self.cases if case["prompting"] not in PROMPTING])

    @property
    def suites(self) -> Mapping[str, SuiteSummary]:
        """By suite (where there are several ways of prompting, by "suite, prompting"): n, score
        with its interval, truncated, unparsed, errors, tokens/s."""
        rows = self.summary.suites
        several = len({row.prompting for row in rows}) > 1
        return {f"{row.suite}, {row.prompting}" if several else row.suite: row for row in rows}

    @property
    def score(self) -> float | None:
        """The mean over all suites, 0 to 1, failing ones too; None: nothing was scored, or it is
        no measurement (preset "smoke")."""
        return None if self.summary.score is None else self.summary.score.mean

    @property
    def ci95(self) -> tuple[float, float] | None:
        """Its 95 % interval."""
        return None if self.summary.score is None else self.summary.score.ci95

    def compare(self, other: Report) -> Any:
        """This run against another over the cases that both have, case by case: difference with
        interval and test, a suite and in all.

        Raises:
            InvalidArgument: it is no report.
        """
        from .compare import compare

        if not isinstance(other, Report):
            raise InvalidArgument(
                f"compare: other is {type(other).__name__}, expected a Report: Report.load(folder) "
                "reads one",
                argument="other",
            )
        both = self._questions.keys() & other._questions.keys()
        differ = {i for i in both if _asked(self._questions[i]) != _asked(other._questions[i])}
        return compare(
            self.counted, self.manifest, other.counted, other.manifest, other_questions=differ
        )

    def failures(self, suite: str | None = None) -> Any:
        """Answers under full score: prompt, output, expected, extracted, why.

        Raises:
            EvaluationError: the run has no such suite.
        """
        from .failures import failures

        known = dict.fromkeys([*self.manifest["suites"], *(case["suite"] for case in self.cases)])
        if suite is not None and suite not in known:
            raise EvaluationError(
                f"failures: suite {suite!r} is not in this run, expected one of {', '.join(known)}"
            )
        return failures(self.counted, suite, cases=self._questions)

    def diagnose(self) -> Any:
        """What to look at before the score is believed, worst first."""
        from .diagnose import diagnose

        return diagnose(self.cases, self.manifest)

    def report(
        self,
        path: str | os.PathLike[str],
        *,
        others: Sequence[Report] = (),
        published: bool = False,
    ) -> None:
        """One HTML file without network or script.

        Args:
            others: stand beside it in the plots of accuracy against memory and seconds.
            published: figures of others stand at the end, labelled "other cases".

        Raises:
            EvaluationError: the file cannot be written.
        """
        from .page import write_page

        runs = [(str(other.path or ""), other.cases, other.manifest) for other in others]
        write_page(
            Path(path),
            self.cases,
            self.manifest,
            cases=self._questions,
            others=runs,
            with_published=published,
            warnings=self._warnings(),
        )

    def to_lm_eval(self, path: str | os.PathLike[str]) -> list[Path]:
        """A folder as lm-eval writes it; its files."""
        from .exports import to_lm_eval

        return to_lm_eval(Path(path), self.cases, self.manifest, cases=self._questions)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """One line a record."""
        from .exports import to_csv

        to_csv(Path(path), self.cases)

    def to_markdown(self) -> str:
        """The table of a model card."""
        from .exports import to_markdown

        return to_markdown(self.counted, self.manifest)

    def frame(self) -> Any:
        """A pandas DataFrame, a row a record.

        Raises:
            MissingExtra: pandas is not installed.
        """
        from .exports import frame

        return frame(self.cases)

    def to_dict(self) -> dict[str, Any]:
        """Totals in types that JSON has; the records are `cases`."""
        return {
            "complete": self.complete,
            "missing_shards": list(self.missing_shards),
            "records": len(self.cases),
            "summary": self.summary.to_dict(),
            "beside": self.beside.to_dict(),
        }

    def _warnings(self) -> list[str]:
        """What stands under every table."""
        said = []
        if not self.complete:
            expected = self.manifest["requests"]
            said.append(f"not complete: {len(self.cases)} of {expected} answers")
        if self.missing_shards:
            said.append(f"missing shards: {', '.join(map(str, self.missing_shards))}")
        errors = Counter(str(case["reason"]) for case in self.cases if case["verdict"] == ERROR)
        if errors:
            reason, count = errors.most_common(1)[0]
            said.append(f"errors: {errors.total()} answers; {count} of them: {reason}")
        for suite, found in self.manifest.get("baselines", {}).items():
            said.append(
                f"{suite}: one label everywhere would score {100 * found['constant']:.1f}, labels "
                f"drawn evenly {100 * found['uniform']:.1f}"
            )
        return [*said, *self.manifest.get("warnings", ())]

    def __str__(self) -> str:
        lines = [self.summary.table()]
        if self.beside.suites:
            lines.append(f"beside the score:\n{display.text_table(*self.beside.rows())}")
        return "\n".join([*lines, *self._warnings()])

    def __repr__(self) -> str:
        return f"Report({self.summary.headline}, {len(self.cases)} records)"

    def _repr_html_(self) -> str:
        warnings = "".join(f"<p>{html.escape(line)}</p>" for line in self._warnings())
        return f"<div>{self.summary._repr_html_()}{warnings}</div>"

    def rescore(
        self, graders: Mapping[str, Any] | None = None, *, run_code: bool = False
    ) -> Report:
        """The same outputs under graders as they are now. The record stays as it is; of a run on
        the disk `rescored-HASH.jsonl` stands beside it.

        Args:
            graders: name to function, in place of those that the cases name.
            run_code: let graders run what the model wrote, in the sandbox.

        Raises:
            EvaluationError: the cases are not there any more, or a grader is not.
        """
        given = {name: verdicts(function) for name, function in (graders or {}).items()}
        own = {**self._graders, **given}
        used = {str(record["grader"]) for record in self.cases}
        if unused := sorted(given.keys() - used):
            raise EvaluationError(
                f"rescore: no case of this run is graded by {unused[0]!r}, expected one of "
                f"{', '.join(sorted(used))}"
            )
        cases = []
        for record in self.cases:
            if record["output_text"] is None:  # an error: there is no output
                cases.append(record)
                continue
            case = self.question(record)
            cases.append(judged(record, case, own.get(case.grader), run_code=run_code))
        if self.path is not None:
            hashes = sorted({str(case["grader_hash"]) for case in cases})
            lines = "".join(json_line(case) for case in cases)
            write_text(self.path / f"rescored-{sha256(canonical(hashes))[:16]}.jsonl", lines)
        return Report(
            self.manifest,
            cases,
            questions=self._questions,
            graders=own,
            complete=self.complete,
            path=self.path,
            missing_shards=self.missing_shards,
        )


def _parts(folder: Path) -> dict[str, Shard]:
    found = dict(manifests(folder)) if folder.is_dir() else {}
    if not found:
        raise EvaluationError(f"{folder}: found no manifest.json, expected a folder of evaluate")
    return found


def _asked(case: Case) -> str:
    return canonical([list(case.messages), list(case.tools), case.schema])


def _order(record: Mapping[str, Any]) -> tuple[Any, ...]:
    names = ("suite", "prompting", "case_id", "repeat")
    return tuple(str(record[name]) if name != "repeat" else record[name] for name in names)


def shard_of(given: Any) -> Shard:
    """A part from (index, count).

    Raises:
        InvalidArgument: it is none.
    """
    if given is None:
        return Shard()
    try:
        index, count = given
        is_right = 0 <= index < count <= 99_999 and int(index) == index and int(count) == count
    except (TypeError, ValueError):
        is_right = False
    if not is_right:
        raise InvalidArgument(
            f"shard is {given!r}, expected (index, count) with 0 <= index < count", argument="shard"
        )
    return Shard(index=int(index), count=int(count))
