"""The commands, run as a user runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


def cabochon(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cabochon", *arguments],
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_demo_says_that_its_weights_are_random_and_prints_its_numbers() -> None:
    done = cabochon("demo")

    assert done.returncode == 0, done.stderr
    assert "RANDOM" in done.stdout
    assert "tokens/s" in done.stdout
    assert "anonymous" in done.stdout
    assert "mapped" in done.stdout
    assert done.stderr == ""


def test_the_demo_says_the_same_every_time() -> None:
    first, second = cabochon("demo"), cabochon("demo")

    def answer(text: str) -> str:
        return text.partition("\nprompt ")[0]

    assert answer(first.stdout) == answer(second.stdout)


def test_generate_writes_the_answer_alone_to_stdout(demo_folder: Path) -> None:
    options = ("--max-tokens", "12", "--seed", "1", "--ignore-stops")
    typed = cabochon("generate", str(demo_folder), "Hi", *options, "--stats")
    piped = cabochon("generate", str(demo_folder), "-", *options, given="Hi")
    whole = cabochon("generate", str(demo_folder), "Hi", *options, "--json")

    assert (typed.returncode, piped.returncode, whole.returncode) == (0, 0, 0)
    assert typed.stdout == piped.stdout
    assert json.loads(whole.stdout)["text"] + "\n" == typed.stdout
    assert "tokens/s" in typed.stderr
    assert piped.stderr == ""


def test_info_prints_the_layers_and_the_plan(demo_folder: Path) -> None:
    table = cabochon("info", str(demo_folder))
    parsed = json.loads(cabochon("info", str(demo_folder), "--json").stdout)

    assert table.returncode == 0
    assert "sliding" in table.stdout
    assert "KV cache" in table.stdout
    assert "attention bf16" in table.stdout  # what each class became
    assert "allocated" in table.stdout
    assert len(parsed["layers"]) > 1
    assert parsed["plan"]["fits"] is True


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["generate", "{}", "Hi", "--temperature", "-1"], 2, "temperature is -1.0"),
        (["generate", "{}", "Hi", "--max-tokens", "0"], 2, "max_tokens is 0"),
        (["generate", "{}", ""], 2, "not empty"),
        (["info", "{}/nowhere"], 3, "nowhere"),
        (["info", "{}", "--memory-limit", "1KiB"], 4, "does not fit"),
        (["info", "{}", "--device", "cuda"], 1, "to come"),
    ],
)
def test_each_failure_has_its_exit_code_and_one_line_of_reason(
    demo_folder: Path, arguments: list[str], code: int, words: str
) -> None:
    done = cabochon(*(part.format(demo_folder) for part in arguments))

    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_reader_that_leaves_ends_generate_quietly(demo_folder: Path) -> None:
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "cabochon", "generate", str(demo_folder), "Hi", "--ignore-stops",
         "--max-tokens", "400"],
        stdout=write, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(write)
    os.close(read)

    _, errors = process.communicate(timeout=120)

    assert errors == ""


def test_ctrl_c_ends_generate_with_130(demo_folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cabochon", "generate", str(demo_folder), "Hi", "--ignore-stops"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.read(1)
    process.send_signal(signal.SIGINT)

    _, errors = process.communicate(timeout=60)

    # A small model may be done before the signal comes.
    assert process.returncode in (130, 0)
    assert "Traceback" not in errors
