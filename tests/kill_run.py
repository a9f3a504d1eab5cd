"""A process that runs evaluations in children of its own, which a test may kill at any moment.

Every line of its input is JSON: the folder, the shard, and after how many seconds to kill. It
answers with the child's exit status, negative: the signal.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import cabochon
from cabochon.evaluation.replay import Asked, ScriptedModel

COUNT = 48
LANES = 4  # cases in flight


def right(case: Any, output: Any) -> bool:
    return bool(output.text == case.expected["value"])


def cases() -> list[dict[str, Any]]:
    talks = [{"role": "user", "content": text} for text in ("one", "two", "three")]
    return [
        *({"prompt": f"{i}+{i}?", "expected": str(2 * i), "grader": right} for i in range(COUNT)),
        *(
            {"messages": [*talks, {"role": "user", "content": str(i)}], "expected": f"{i} 8",
             "grader": right, "suite": "talks"}
            for i in range(8)
        ),
    ]  # fmt: skip


def answers() -> int:
    """That a whole run asks for."""
    return COUNT + 8 * 4


def model(calls: Path | None) -> ScriptedModel:
    """Notes every call, and takes its time."""

    def answer(prompt: Asked, options: Any) -> str:
        last = prompt.messages[-1]["content"]
        if calls is not None:
            file = os.open(calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(file, b".")
            os.close(file)
            time.sleep(0.002 * (1 + ord(last[0]) % 5))
        if last[0] == "3":
            return "<|channel>thought\nnever mind<channel|>no<turn|>"
        text = (
            f"{2 * int(last.partition('+')[0])}"
            if "+" in last
            else f"{last} {len(prompt.messages) + 1}"
        )
        return f"{text}<turn|>"

    scripted = ScriptedModel(answer)
    scripted.plan.sequences_that_fit = LANES // 2
    return scripted


def run(out: str | None = None, shard: Any = None, calls: Path | None = None) -> cabochon.Report:
    return cabochon.evaluate(
        model(calls),
        cases(),
        out=out,
        shard=None if shard is None else tuple(shard),
        progress=False,
    )


def main() -> None:
    run()  # what children need is imported once, and no thread is left when they are forked
    for line in sys.stdin:
        options = json.loads(line)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                run(options["out"], options["shard"], Path(options["out"] + ".calls"))
                status = 0
            finally:
                os._exit(status)
        if options["kill_after_s"] is not None:
            time.sleep(options["kill_after_s"])
            os.kill(child, signal.SIGKILL)  # not waited for yet: the id is still its own
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
