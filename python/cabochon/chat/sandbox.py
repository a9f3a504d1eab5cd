"""Runs one custom template; the program of a child process, which template.py starts.

It imports jinja2 and the standard library alone, never this package: nothing of the host is in
its memory. It reads one JSON request from stdin and writes one JSON answer to stdout:

    request  path (where jinja2 is), template, marks (name of a control token: its mark),
             limit (characters printed at most), variables (None: compile only)
    answer   one of printed, stopped (raise_exception), failed, syntax (line, message)

Control tokens come from the template's own source and from nowhere else: before it is compiled,
their names in its text and string literals become marks. What it prints is then marks, which are
control tokens, and text, whatever that spells and however it was put together.
"""

from __future__ import annotations

import json
import math
import re
import resource
import sys
import time
from collections.abc import Mapping
from typing import Any, NoReturn

CPU_S = 1
MEMORY_BYTES = 256 << 20


class _Refused(Exception):
    """What `raise_exception` of a template raises."""


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to one request; no exception passes."""
    import jinja2

    try:
        compiled = _compile(request["template"], request["marks"])
        if request["variables"] is None:
            return {"printed": ""}
        printed: list[str] = []
        characters = 0
        for piece in compiled.generate(request["variables"]):
            characters += len(piece)
            if characters > request["limit"]:
                raise _Refused(
                    f"it printed over {request['limit']:,} characters, more than the longest "
                    "context holds"
                )
            printed.append(piece)
        return {"printed": "".join(printed)}
    except jinja2.TemplateSyntaxError as error:
        return {"syntax": [error.lineno, str(error.message)]}
    except _Refused as error:
        return {"stopped": str(error)[:1000]}
    except Exception as error:  # it is a program: it can fail in any way
        return {"failed": f"{type(error).__name__}: {error}"[:1000]}


def _compile(text: str, marks: Mapping[str, str]) -> Any:
    from jinja2 import nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # The options of transformers, without its extensions. `strftime_now` is absent: a prompt
    # depends on its messages, not on the day; templates that ask whether it is defined do without.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    names = re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True))))

    def mark(data: str) -> str:
        return names.sub(lambda match: marks[match[0]], data)

    tree = environment.parse(text)
    for data in tree.find_all(nodes.TemplateData):
        data.data = mark(data.data)
    for constant in tree.find_all(nodes.Const):
        if isinstance(constant.value, str):
            constant.value = mark(constant.value)
    return environment.from_string(tree)


def _raise(message: Any) -> NoReturn:
    raise _Refused(str(message))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Not jinja2's own, which escapes for HTML; the same as transformers'."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _limit(kind: int, value: int, *, grace: int = 0) -> None:
    hard = resource.getrlimit(kind)[1]
    limits = (value, value + grace)
    if hard != resource.RLIM_INFINITY:
        limits = (min(value, hard), min(value + grace, hard))
    resource.setrlimit(kind, limits)


def main() -> None:
    """Limits first, by the kernel; then the request."""
    request = json.loads(sys.stdin.buffer.read())
    sys.path[:] = request["path"]
    # What jinja2 imports when it first compiles and first fails must be there before the limits.
    answer({**request, "template": "{{ 'a' + 1 }}", "variables": {}})
    # With a second of grace the signal says which limit it was; at the hard one it is SIGKILL.
    _limit(resource.RLIMIT_CPU, math.ceil(time.process_time()) + CPU_S, grace=1)
    _limit(resource.RLIMIT_AS, MEMORY_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NOFILE, 3)  # none beside stdin, stdout, stderr
    text = json.dumps(answer(request), ensure_ascii=False)
    sys.stdout.buffer.write(text.encode("utf-8", "surrogatepass"))


if __name__ == "__main__":
    main()
