"""One multiple-choice task through lm-eval, on this engine and on lm-eval's Hugging Face backend.

    pip install '.[lm-eval,parity]' accelerate
    python benchmarks/lm_eval_backends.py FOLDER [--questions 16] [--fewshot 5] [--batch 1] [--save]

Each backend in a process of its own, with the same checkpoint in bf16, the same requests and the
same number of threads; what is timed is `simple_evaluate`, without loading. The questions are made
here and are the same for both; accuracies of a random checkpoint mean nothing, and how many choices
agree is printed (bf16 sums of the two differ in their last bits). The Hugging Face backend gets the
batch size that was asked for; try several, the best one counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import report

SUBJECTS = ("river", "bridge", "market", "garden", "library", "harbour", "station", "mill")
FACTS = ("opened in", "was moved in", "was closed in", "was painted in", "was sold in")


def rows(count: int) -> list[dict[str, object]]:
    """Questions with four choices of several tokens."""
    made = []
    for index in range(count):
        subject, fact = SUBJECTS[index % 8], FACTS[index % 5]
        years = [1800 + (index * 37 + step * 11) % 200 for step in range(4)]
        text = (
            f"The old {subject} number {index} stands near the square. It {fact} {years[index % 4]}"
            f", as the register says. Question: when is it said that the {subject} {fact[:-3]}?"
            " Answer:"
        )
        made.append({"question": text, "choices": [f"in {y}" for y in years], "answer": index % 4})
    return made


def task(folder: Path, questions: int, fewshot: int) -> dict[str, object]:
    """lm-eval's description of them, with worked examples before each."""
    for name, items in (("test", rows(questions)), ("train", rows(questions + 8)[-8:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in items))
    files = {name: str(folder / f"{name}.jsonl") for name in ("test", "train")}
    return {
        "task": "registers",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "test_split": "test",
        "fewshot_split": "train",
        "fewshot_config": {"sampler": "first_n"},
        "num_fewshot": fewshot,
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc"}],
    }


def measure(arguments: argparse.Namespace) -> None:
    """In a process of its own: prints seconds and the chosen answers."""
    import lm_eval

    threads = arguments.threads or len(os.sched_getaffinity(0))
    facts = {}
    if arguments.backend == "hf":
        import torch
        from lm_eval.models.huggingface import HFLM
        from transformers import AutoTokenizer

        torch.set_num_threads(threads)
        # Named here, since a checkpoint that was made may lack tokenizer_config.json.
        names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
        lm = HFLM(
            pretrained=str(arguments.folder),
            tokenizer=AutoTokenizer.from_pretrained(arguments.folder, **names),
            dtype="bfloat16",
            device="cpu",
            batch_size=arguments.batch,
            add_bos_token=True,
        )
    else:
        from cabochon.adapters.lm_eval import CabochonLM

        lm = CabochonLM(path=str(arguments.folder), weights="bf16", threads=threads, context=4096)
        facts = report.facts(lm.model, arguments.folder)
    with tempfile.TemporaryDirectory() as folder:
        given = task(Path(folder), arguments.questions, arguments.fewshot)
        started = time.perf_counter()
        results = lm_eval.simple_evaluate(model=lm, tasks=[given], bootstrap_iters=0)
        seconds = time.perf_counter() - started
    samples = sorted(results["samples"]["registers"], key=lambda sample: sample["doc_id"])
    values = [[resp[0][0] for resp in sample["resps"]] for sample in samples]
    print(json.dumps({"seconds": seconds, "logprobs": values, "facts": facts}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--fewshot", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1, help="of the Hugging Face backend")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--runs", type=int, default=1, help="pairs, in turns")
    parser.add_argument("--save", action="store_true", help="add the line to benchmarks/results")
    parser.add_argument("--backend", choices=["hf", "cabochon"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.backend:
        measure(arguments)
        return
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    seconds: dict[str, list[float]] = {"cabochon": [], "hf": []}
    found: dict[str, list[list[float]]] = {}
    facts: dict[str, object] = {"case": "lm_eval_backends", "unit": "ratio"}
    for run in range(arguments.runs):
        for backend in sorted(seconds, reverse=bool(run % 2)):
            done = subprocess.run(
                [sys.executable, *sys.argv, "--backend", backend],
                stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            said = json.loads(done.stdout.strip().splitlines()[-1])
            seconds[backend].append(said["seconds"])
            found[backend] = said["logprobs"]
            facts |= said["facts"]
            print(f"{backend}: {said['seconds']:.1f} s", file=sys.stderr)
    ratios = [hf / ours for hf, ours in zip(seconds["hf"], seconds["cabochon"], strict=True)]
    best = {name: [max(range(4), key=row.__getitem__) for row in found[name]] for name in found}
    same = sum(a == b for a, b in zip(best["cabochon"], best["hf"], strict=True))
    far = max(
        abs(a - b)
        for ours, theirs in zip(found["cabochon"], found["hf"], strict=True)
        for a, b in zip(ours, theirs, strict=True)
    )
    record = facts | report.spread(ratios) | {
        "questions": arguments.questions,
        "fewshot": arguments.fewshot,
        "hf_batch": arguments.batch,
        "seconds": seconds,
        "same_choice": same,
        "largest_difference": far,
    }  # fmt: skip
    line = (
        f"{report.what(record, f'{arguments.questions} questions')} | "
        f"hf {statistics.median(seconds['hf']):.1f} s (batch {arguments.batch}), cabochon "
        f"{statistics.median(seconds['cabochon']):.1f} s, {statistics.median(ratios):.2f} times "
        f"[{min(ratios):.2f} {max(ratios):.2f}] | {same} of {arguments.questions} choices equal, "
        f"log-likelihoods at most {far:.3f} apart | {report.how(record)}"
    )
    report.publish(line, record, save=arguments.save)


if __name__ == "__main__":
    main()
