"""How long does a checkpoint take to load and to give its first token, and what does it hold then?

    python benchmarks/load.py FOLDER [--runs 5] [--cold] [--save]

Every run is a fresh process, so nothing is warm but the page cache; --cold asks the system to
drop the checkpoint's pages from it first (files must be written back and mapped by nobody else).
The time of `import cabochon` is apart. The prompt is token ids, which need no tokenizer; the first
text after it, for which tokenizer.json is parsed, is timed apart (make_checkpoint.py --tokenizer
copies a published one). Loading is no stream through memory, so no probe stands beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

PROMPT = list(range(5, 21))  # 16 tokens


def load_once(folder: Path, threads: int | None, weights: str) -> dict[str, Any]:
    """Runs in a fresh process."""
    start = time.perf_counter()
    import cabochon
    from cabochon import _core  # noqa: F401  the extension is loaded lazily

    imported = time.perf_counter()

    import report
    from process_memory import Peak, Resident

    with ExitStack() as stack:
        with Peak() as memory:
            begin = time.perf_counter()
            model = stack.enter_context(
                cabochon.load(folder, threads=threads, weights=weights, progress=False)
            )
            loaded = time.perf_counter()
            model.generate(PROMPT, max_tokens=1, temperature=0, ignore_stops=True, progress=False)
            first = time.perf_counter()
        tokenizer = model._parts.tokenizer
        encoding = time.perf_counter()
        if tokenizer is not None:
            tokenizer.encode("The first text.")
        encoded = time.perf_counter()
        return report.facts(model, folder) | {
            "import_s": imported - start,
            "load_s": loaded - begin,
            "first_token_s": first - begin,
            "tokenizer_s": encoded - encoding,
            "tokenizer_pieces": tokenizer.vocab_size if tokenizer is not None else 0,
            "memory": {
                "anonymous": memory.peak.anonymous,
                "mapped": memory.peak.mapped,
                "kv": model.info().memory["kv"],
                "peak_rss": memory.peak.total,
                "before_load": memory.start.anonymous,
                "with_text": Resident.now().anonymous,
                "planned_anonymous": model.plan.host_bytes,
            },
        }


def drop_from_page_cache(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, help="default: the library's")
    parser.add_argument("--weights", default="auto", choices=["auto", "int8", "int4"])
    parser.add_argument("--cold", action="store_true", help="files not in the page cache")
    parser.add_argument("--save", action="store_true", help="add the line to benchmarks/results")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(load_once(arguments.folder, arguments.threads, arguments.weights)))
        return

    import report

    command = [sys.executable, __file__, str(arguments.folder), "--one"]
    command += ["--weights", arguments.weights]
    if arguments.threads is not None:
        command += ["--threads", str(arguments.threads)]
    records = []
    for _ in range(arguments.runs):
        if arguments.cold:
            drop_from_page_cache(arguments.folder)
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        records.append(json.loads(done.stdout))

    record = records[-1] | {
        "case": "load",
        "page_cache": "cold" if arguments.cold else "warm",
        "unit": "s",
        "memory": {
            key: max(run["memory"][key] for run in records) for key in records[-1]["memory"]
        },
    }
    for key in ("import_s", "load_s", "first_token_s", "tokenizer_s"):
        values = [run[key] for run in records]
        record[key] = {
            "values": values,
            "median": statistics.median(values),
            "best": min(values),
        }
    memory = record["memory"]
    what = report.what(record, f"ctx={record['context']}", record["page_cache"])
    line = (
        f"{what} | "
        f"load {record['load_s']['median']:.2f} s (best {record['load_s']['best']:.2f}), "
        f"first token of a 16-token prompt {record['first_token_s']['median']:.2f} s, "
        f"import {record['import_s']['median']:.2f} s, then the first text "
        f"{record['tokenizer_s']['median']:.2f} s ({record['tokenizer_pieces']:,} pieces), "
        f"median of {len(records)} | "
        f"peak anonymous {memory['anonymous'] / 1e9:.3f} GB "
        f"(planned {memory['planned_anonymous'] / 1e9:.3f} with KV {memory['kv'] / 1e9:.3f}, "
        f"touched as used; {memory['with_text'] / 1e9:.3f} after the first text), "
        f"peak mapped {memory['mapped'] / 1e9:.3f}, "
        f"peak RSS {memory['peak_rss'] / 1e9:.3f} | {report.how(record)}"
    )
    report.publish(line, record, save=arguments.save)


if __name__ == "__main__":
    main()
