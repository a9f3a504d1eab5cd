"""What a person sees: progress bars, tables, HTML. The one importer of tqdm.

Bars go to stderr, and only to a terminal or notebook unless asked for. HTML never holds scripts,
and all text of a model or file in it is escaped.
"""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .results import Result

_DELAY_S = 2.0  # a bar for what takes longer
_BETWEEN_CALLS_S = 0.1


def size(count: int) -> str:
    """Bytes as GiB (2^30) with one decimal; what would be less than 0.1 GiB in MiB or KiB."""
    for unit, shift in (("GiB", 30), ("MiB", 20)):
        if count >= 2**shift / 10:
            return f"{count / 2**shift:.1f} {unit}"
    return f"{count / 2**10:.1f} KiB"


def is_watched() -> bool:
    """Whether somebody looks at stderr: a terminal, or a notebook."""
    return sys.stderr is not None and (sys.stderr.isatty() or _in_notebook())


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


class Bar:
    """Progress of one stage, shown as `progress` says.

    None: a bar when somebody looks and it takes longer than 2 s; True: a bar in any case;
    False: nothing; a callable gets `types.Progress`, at most 10 a second and the last one always.
    """

    def __init__(
        self,
        stage: str,
        unit: str,
        progress: bool | Callable[[Any], object] | None,
        total: int | None = None,
    ) -> None:
        self._stage, self._unit, self._total = stage, unit, total
        self._call = progress if callable(progress) else None
        self._shown = progress is True or (progress is None and is_watched())
        self._delay_s = 0.0 if progress is True else _DELAY_S
        self._bar: Any = None
        self._started = self._called = time.monotonic()
        self._done = self._reported = 0
        self._note = ""

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        """`done` units in all are finished; `note` stands behind the bar."""
        self._done, self._total = done, self._total if total is None else total
        self._note = note
        if self._call is not None and time.monotonic() - self._called >= _BETWEEN_CALLS_S:
            self._report()
        if self._shown:
            self._draw()

    def _report(self) -> None:
        from .types import Progress

        assert self._call is not None
        self._called, self._reported = time.monotonic(), self._done
        elapsed = self._called - self._started
        rate = self._done / elapsed if elapsed > 0 else 0.0
        left = None if self._total is None else self._total - self._done
        self._call(
            Progress(
                stage=self._stage,
                done=self._done,
                total=self._total,
                unit=self._unit,
                rate=rate,
                eta_s=left / rate if left is not None and rate > 0 else None,
                note=self._note,
            )
        )

    def _draw(self) -> None:
        if self._bar is None:
            if time.monotonic() - self._started < self._delay_s:
                return
            from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

            self._bar = tqdm(
                desc=self._stage,
                unit=self._unit,
                unit_scale=True,
                total=self._total,
                initial=self._done,
                leave=False,
                file=sys.stderr,
            )
        self._bar.total = self._total
        if self._note:
            self._bar.set_postfix_str(self._note, refresh=False)
        self._bar.update(self._done - self._bar.n)

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        if kind is None and self._call is not None and self._done != self._reported:
            self._report()


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell, two spaces apart."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def html_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str | None = None
) -> str:
    """A plain table, every cell escaped."""

    def line(cells: Sequence[str], tag: str) -> str:
        inside = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
        return f"<tr>{inside}</tr>"

    caption_html = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    head_html = f"<thead>{line(head, 'th')}</thead>" if head else ""
    body = "".join(line(row, "td") for row in rows)
    return f"<table>{caption_html}{head_html}<tbody>{body}</tbody></table>"


def result_html(result: Result) -> str:
    """Answer, folded thought, one line of numbers, and a warning when it was cut."""
    parts = [f'<pre style="white-space: pre-wrap">{html.escape(result.text)}</pre>']
    if result.thinking is not None:
        parts.insert(
            0,
            "<details><summary>thought</summary>"
            f'<pre style="white-space: pre-wrap">{html.escape(result.thinking)}</pre></details>',
        )
    parts += [f"<pre>{html.escape(call.raw)}</pre>" for call in result.tool_calls]
    if result.finish_reason == "length":
        parts.append(f"<p><b>cut by {html.escape(str(result.stop_reason))}</b></p>")
    if result.error is not None:
        error = f"{type(result.error).__name__}: {result.error}"
        parts.append(f"<p><b>{html.escape(error)}</b></p>")
    parts.append(f"<p><small>{html.escape(numbers(result))}</small></p>")
    return "<div>" + "".join(parts) + "</div>"


def numbers(result: Result) -> str:
    """One line: tokens, seconds, how it ended, seed."""
    usage, timings = result.usage, result.timings
    return (
        f"{usage.prompt_tokens} + {usage.output_tokens} tokens, {timings.total_s:.2f} s, "
        f"prompt {timings.prefill_tokens_per_s:.1f} tokens/s, "
        f"answer {timings.decode_tokens_per_s:.1f} tokens/s, "
        f"ended by {result.finish_reason} ({result.stop_reason}), seed {result.seed}"
    )
