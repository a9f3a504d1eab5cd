"""The command line. Answers go to stdout, everything else to stderr.

Exit codes: 0 done, 1 failed while running, 2 wrong arguments, 3 checkpoint, 4 does not fit,
5 an extra is missing, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__, errors
from .display import numbers, size
from .terminal import not_text, say, show, talk, visible

if TYPE_CHECKING:
    from .model import Model
    from .results import Result

_TO_COME = ("doctor", "quantize", "serve")
_FILES_TO_COME = ("image", "audio", "video", "schema")
_DEMO_PROMPT = "Once upon a time"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what a terminal cannot show
    try:
        code = _COMMANDS[options.command](options) or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `cabochon generate ... | head` has what it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except errors.CabochonError as error:
        say(f"cabochon: {error}")
        if isinstance(error, errors.OutOfMemory) and error.plan is not None:
            say("\n".join((error.plan.table(), *error.plan.advice)))
        return exit_code(error)
    return code


def exit_code(error: errors.CabochonError) -> int:
    """The exit code that stands for an error."""
    codes = (
        (errors.MissingExtra, 5),
        (errors.OutOfMemory, 4),
        (errors.CheckpointError, 3),
        (errors.InvalidArgument, 2),
    )
    return next((code for kind, code in codes if isinstance(error, kind)), 1)


# --- arguments -----------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cabochon", description=__doc__.partition("\n")[0])
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    loading, sampling = _loading_options(), _sampling_options()

    generate = commands.add_parser(
        "generate", parents=[loading, sampling], help="continue one prompt"
    )
    generate.add_argument("model", metavar="MODEL", help="folder or Hugging Face id")
    generate.add_argument(
        "prompt", metavar="PROMPT", nargs="?", default="-", help="text; - or none: standard input"
    )
    generate.add_argument("--raw", action="store_true", help="no chat template: plain text")
    generate.add_argument("--json", action="store_true", help="the whole result as JSON")
    generate.add_argument(
        "--tools",
        metavar="FILE.py",
        help="its public functions: the model may call them, none is run",
    )
    for name in _FILES_TO_COME:
        generate.add_argument(f"--{name}", metavar="FILE", help="to come")

    chat = commands.add_parser(
        "chat", parents=[loading, sampling], help="talk; Ctrl-C stops an answer, Ctrl-D leaves"
    )
    chat.add_argument("model", metavar="MODEL")

    info = commands.add_parser("info", parents=[loading], help="what a model is and how it runs")
    info.add_argument("model", metavar="MODEL")
    info.add_argument("--json", action="store_true")

    plan = commands.add_parser(
        "plan",
        parents=[loading],
        help="what it takes, before loading; exit code 4: does not fit",
        description="What MODEL takes with these options, whether it fits and what to change. "
        "No weights are loaded or downloaded: of a Hugging Face id that is not here, config.json "
        "and the headers of the safetensors files are fetched. Exit code 4: it does not fit.",
    )
    plan.add_argument("model", metavar="MODEL", help="folder or Hugging Face id")
    plan.add_argument("--json", action="store_true")

    cache = commands.add_parser("cache", parents=[loading], help="packed weights on the disk")
    cache.add_argument(
        "action",
        choices=["list", "build", "check", "clear"],
        help="show, write, read and verify, delete",
    )
    cache.add_argument(
        "model", metavar="MODEL", nargs="?", help="of this one alone; build needs it"
    )

    evaluate = commands.add_parser(
        "evaluate",
        aliases=["eval"],
        parents=[loading],
        argument_default=argparse.SUPPRESS,
        help="run suites of cases, graded, with intervals",
        description="Runs suites through MODEL and prints scores with their intervals. With --out "
        "every answer is kept, and the same command goes on where it was stopped.",
    )
    evaluate.add_argument("model", metavar="MODEL", help="folder or Hugging Face id")
    evaluate.add_argument(
        "suites",
        metavar="SUITE",
        nargs="*",
        default=["enterprise"],
        help="enterprise (all ten, the default), a suite's name, needles, a public set in a file "
        "(gsm8k:PATH), or a JSONL file of cases",
    )
    evaluate.add_argument("--out", metavar="FOLDER", help="where the record is kept")
    evaluate.add_argument("--n", type=int, help="cases a suite")
    evaluate.add_argument(
        "--preset", metavar="NAME", help="smoke (4 cases a suite), deployment-2604.07035, ..."
    )
    evaluate.add_argument(
        "--prompting",
        action="append",
        metavar="WAY",
        help="zero-shot, few-shot; of public sets cot, few-shot-cot; may be given several times",
    )
    evaluate.add_argument("--thinking", action="store_true")
    for name in ("thinking-budget", "seed", "repeats"):
        evaluate.add_argument(f"--{name}", type=int)
    evaluate.add_argument("--max-tokens", type=_limit, metavar="N|auto")
    evaluate.add_argument("--temperature", type=float)
    evaluate.add_argument("--shard", type=_shard, metavar="I/K", help="part I of K, from 0")
    evaluate.add_argument("--dry-run", action="store_true", help="say what it takes, run nothing")
    evaluate.add_argument("--run-code", action="store_true", help="run what the model wrote")
    evaluate.add_argument("--report", default=None, metavar="FILE", help="write one HTML file")
    evaluate.add_argument("--json", default=False, action="store_true", help="totals as JSON")

    demo = commands.add_parser("demo", parents=[sampling], help="a small random model, end to end")
    demo.add_argument("--threads", type=int)
    for name in _TO_COME:
        commands.add_parser(name, help="to come").add_argument("rest", nargs=argparse.REMAINDER)
    return parser


def _loading_options() -> argparse.ArgumentParser:
    """Those of `load`; what is not given keeps load's default."""
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group("loading")
    for name in ("weights", "kv", "device", "per-layer-embeddings", "adapter", "drafter",
                 "revision", "memory-limit", "arithmetic"):  # fmt: skip
        group.add_argument(f"--{name}")
    for name in ("context", "max-sequences", "threads"):
        group.add_argument(f"--{name}", type=int)
    group.add_argument(
        "--allow-custom-template",
        action="store_true",
        help="run a chat template that is none of the published ones, in a sandbox",
    )
    return parser


def _sampling_options() -> argparse.ArgumentParser:
    """Those of `generate`; what is not given keeps generate's default."""
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group("generating")
    for name in ("max-tokens", "top-k", "seed", "logprobs", "thinking-budget"):
        group.add_argument(f"--{name}", type=int)
    for name in ("temperature", "top-p", "min-p", "repetition-penalty"):
        group.add_argument(f"--{name}", type=float)
    group.add_argument("--stop", action="append", metavar="TEXT", help="may be given several times")
    group.add_argument("--thinking", action="store_true")
    group.add_argument("--ignore-stops", action="store_true")
    parser.add_argument("--system", default=None, metavar="TEXT", help="system message")
    parser.add_argument("--stats", default=False, action="store_true", help="tokens and seconds")
    return parser


def _limit(text: str) -> int | str:
    if text != "auto" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number of tokens, or auto")
    return text if text == "auto" else int(text)


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal()):
        raise argparse.ArgumentTypeError(
            f"found {text!r}, expected I/K: part I of K, counted from 0, as 0/4"
        )
    return int(index), int(count)


_PLANNING = ("weights", "kv", "device", "context", "max_sequences", "per_layer_embeddings",
             "adapter", "drafter", "revision", "memory_limit")  # fmt: skip
_LOADING = (*_PLANNING, "threads", "arithmetic", "allow_custom_template")
_SAMPLING = ("max_tokens", "top_k", "seed", "logprobs", "thinking_budget", "temperature", "top_p",
             "min_p", "repetition_penalty", "stop", "thinking", "ignore_stops")  # fmt: skip
_EVALUATING = ("out", "n", "preset", "prompting", "thinking", "thinking_budget", "seed", "repeats",
               "max_tokens", "temperature", "shard", "dry_run", "run_code")  # fmt: skip


def _given(options: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names if hasattr(options, name)}


def _load(options: argparse.Namespace) -> Model:
    from .loading import load

    return load(options.model, **_given(options, _LOADING))


# --- commands ------------------------------------------------------------------------------------


def _generate(options: argparse.Namespace) -> None:
    for name in _FILES_TO_COME:
        if getattr(options, name) is not None:
            raise errors.Unsupported(f"generate: --{name} is to come")
    text = _read_input() if options.prompt == "-" else options.prompt
    prompt: Any = text
    if options.system is not None:
        prompt = [
            {"role": "system", "content": options.system},
            {"role": "user", "content": text},
        ]
    keywords = {**_given(options, _SAMPLING), "raw": options.raw}
    if options.tools is not None:
        from .chat.tools import read_file

        keywords["tools"] = read_file(Path(options.tools))
    with _load(options) as model:
        if options.json:
            result = model.generate(prompt, **keywords)
            print(json.dumps(result.to_dict(), ensure_ascii=False))
        else:
            result = _write(model, prompt, keywords)
        if options.stats:
            say(numbers(result))


def _read_input() -> str:
    """Standard input, without the newline that ends it."""
    try:
        return sys.stdin.read().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise not_text(error) from None


def _write(model: Model, prompt: Any, keywords: dict[str, Any]) -> Result:
    """Streams one answer to stdout; thoughts and calls go to stderr."""
    result, kind = None, ""
    for event in model.stream(prompt, **keywords):
        kind = show(event, kind)
        result = event.result
    print(flush=True)
    assert result is not None, "the last event has the result"
    return result


def _chat(options: argparse.Namespace) -> None:
    with _load(options) as model:
        if model.info().template is None:
            raise errors.TemplateError(
                f"{options.model}: found no chat template, expected an instruction-tuned model: "
                "use `cabochon generate`"
            )
        talk(
            model,
            system=options.system,
            options=_given(options, _SAMPLING),
            is_counted=options.stats,
        )


def _info(options: argparse.Namespace) -> None:
    with _load(options) as model:
        info = model.info()
        if options.json:
            print(json.dumps({**info.to_dict(), "plan": model.plan.to_dict()}))
        else:
            print(f"{info}\n\n{model.plan.table()}")


def _plan(options: argparse.Namespace) -> int:
    from .planner import plan

    found = plan(options.model, **_given(options, _PLANNING))
    if options.json:
        print(json.dumps(found.to_dict()))
    else:
        print(found.table(), *found.advice, sep="\n")
    return 0 if found.fits else 4


def _cache(options: argparse.Namespace) -> int:
    from . import packed_cache

    if packed_cache.root() is None:
        raise errors.InvalidArgument(
            "cache: CABOCHON_CACHE is empty, which means no cache; set it to a folder or unset it"
        )
    if options.action == "build":
        if options.model is None:
            raise errors.InvalidArgument("cache build: found no MODEL, expected a folder or an id")
        _load(options).close()  # which packs what is not packed yet
    found = packed_cache.entries()
    if options.model is not None:
        folder = _cached_folder(options.model, [entry.model for entry in found])
        found = [entry for entry in found if entry.model == folder]
    damaged = 0
    for entry in found:
        state = entry.state
        if options.action == "check" and (wrong := packed_cache.check(entry)) is not None:
            state, damaged = f"damaged: {wrong}", damaged + 1
        if options.action == "clear":
            packed_cache.remove(entry)
            state = "deleted"
        line = (size(entry.bytes), entry.model or "?", entry.formats or "?", state)
        print(visible("  ".join(line)))
    say(f"{len(found)} of {size(sum(entry.bytes for entry in found))} in {packed_cache.root()}")
    if options.action == "build" and not found:
        say("nothing is packed where weights stay as stored: give --weights int8 or int4")
        return 1
    return 1 if damaged else 0


def _cached_folder(model: str, known: Sequence[str]) -> str:
    """The folder of a model, which may be gone by now."""
    from .hub import find_here

    given = str(Path(model).absolute())
    if given in known:
        return given
    folder = find_here(model)
    if folder is None:
        raise errors.CheckpointError(
            f"{model}: not whole in the hub cache, so nothing of it is packed: `cabochon cache "
            "list` shows what is",
            file=model,
        )
    return str(folder.absolute())


def _evaluate(options: argparse.Namespace) -> int:
    keywords = _given(options, _EVALUATING)
    if options.report is not None and not Path(options.report).absolute().parent.is_dir():
        raise errors.InvalidArgument(  # now, and not after the hours that a run may take
            f"evaluate: --report {options.report}: there is no such folder, expected one that is",
            argument="report",
        )
    with _load(options) as model:
        report = model.evaluate(options.suites, **keywords)
    if keywords.get("dry_run"):
        print(json.dumps(report.plan.to_dict()) if options.json else report.plan)
        return 0
    print(json.dumps(report.to_dict()) if options.json else visible(str(report)))
    if options.report is not None:
        report.report(options.report)
    if not report.complete:
        out = keywords.get("out")
        say(
            "stopped; the same command goes on from here"
            if out
            else "stopped; with --out the same command would go on from here"
        )
    elif report.missing_shards and report.path is not None:
        say(
            f"this is one part of {len(report.missing_shards) + 1}; when all have run, "
            f"cabochon.Report.merge({str(report.path)!r}) puts them together"
        )
    return 0 if report.complete else 130


def _demo(options: argparse.Namespace) -> None:
    from .demo import write_demo
    from .loading import load

    keywords: dict[str, Any] = {
        "max_tokens": 64,
        "seed": 0,
        "ignore_stops": True,
        **_given(options, _SAMPLING),
    }
    with tempfile.TemporaryDirectory(prefix="cabochon-demo-") as folder:
        write_demo(Path(folder))
        print("A small model in the shape of Gemma 4, with RANDOM weights: its words mean nothing.")
        with load(folder, **_given(options, ("threads",))) as model:
            info = model.info()
            print(
                f"{info.parameters:,} parameters, {len(info.layers)} layers, on {info.tier} with "
                f"{info.threads} threads\n\nyou      {_DEMO_PROMPT}\nmodel    ",
                end="",
            )
            result = _write(model, _DEMO_PROMPT, keywords)
            memory = dict(info.memory)
            mapped = memory.pop("mapped", 0)
            parts = ", ".join(f"{name} {size(count)}" for name, count in memory.items())
            usage, timings = result.usage, result.timings
            print(
                f"\nprompt   {usage.prompt_tokens} tokens, {timings.prefill_tokens_per_s:.0f} "
                f"tokens/s\nanswer   {usage.output_tokens} tokens, "
                f"{timings.decode_tokens_per_s:.0f} tokens/s, ended by {result.stop_reason}\n"
                f"memory   {size(sum(memory.values()))} anonymous ({parts}), {size(mapped)} mapped"
            )


def _to_come(options: argparse.Namespace) -> None:
    raise errors.Unsupported(f"the command {options.command} is to come")


_COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "generate": _generate,
    "chat": _chat,
    "info": _info,
    "plan": _plan,
    "cache": _cache,
    **dict.fromkeys(("evaluate", "eval"), _evaluate),
    "demo": _demo,
    **dict.fromkeys(_TO_COME, _to_come),
}
