"""`cabochon chat` as somebody uses it who never did."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cabochon import cli

Q = '<|"|>'
SHORT = ("--max-tokens", "5", "--seed", "1", "--ignore-stops")
TOOLS = '''
def weather(city: str) -> dict:
    """Weather of a city."""
    if city == "Atlantis":
        raise LookupError("it sank")
    return {"sky": "clear"}


def stop() -> str:
    """Stops."""
    raise KeyboardInterrupt
'''


@pytest.fixture
def chat(
    demo_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[str, str]]:
    """What `cabochon chat` writes to stdout and to stderr for these lines."""

    def chat(*lines: str, options: tuple[str, ...] = ()) -> tuple[str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
        assert cli.main(["chat", str(demo_folder), *options]) == 0
        captured = capsys.readouterr()
        return captured.out, captured.err

    return chat


def test_each_line_is_answered_and_the_end_leaves(chat: Any) -> None:
    out, err = chat("Hi", "", "  ", "You", options=SHORT)

    assert out.count("\n") >= 2
    assert err == ""


def test_commands_do_what_help_says(chat: Any, tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    lines = (
        "/help", "One", "/undo", "/undo", "Two", f"/save {tmp_path}/talk", f"/load {tmp_path}/talk",
        "/think on", "Three", "/think", "/think some", "/think ²", "/think 7", "Four", "/think off",
        f"/tools {tmp_path}/tools.py", "Five", "/tools", "/image x.png", "/jump", "/", "/save",
        "/load nothing", "/save /", "/stats", " /six", "/stats", "/quit", "Seven",
    )  # fmt: skip

    out, err = chat(*lines, options=SHORT)

    said = [
        "/think on|off|N", "0 messages, 4,096 tokens left", "cabochon: /undo: found no turn",
        f"{tmp_path}/talk, ", "2 messages, ", "thinking on\n", "/think: found ''",
        "/think: found 'some'", "/think: found '²'", "thinking, 7 tokens at most\n",
        "thinking off\n", "weather, stop\n", "no tools\n", "/image is to come",
        "/jump: found no such command, see /help", "/: found no such command",
        "/save: found no FILE", "nothing: found nothing there", "/: the conversation cannot be",
        "stats on\n", "ended by length (max_tokens), seed 1\n", "stats off\n",
    ]  # fmt: skip
    rest = err
    for text in said:
        _, found, rest = rest.partition(text)
        assert found, (text, err)
    assert rest == ""
    assert out.count("\n") >= 6
    assert (tmp_path / "talk").exists()


def test_the_system_message_and_stats_of_the_command_line_hold_in_the_conversation(
    chat: Any, tmp_path: Path
) -> None:
    _, err = chat("Hi", f"/save {tmp_path}/talk", options=(*SHORT, "--system", "S", "--stats"))

    assert "tokens/s" in err
    _, err = chat(f"/load {tmp_path}/talk")
    assert err.startswith("3 messages")


def test_a_tilde_is_the_home_folder(
    chat: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "tools.py").write_text(TOOLS)

    _, err = chat("/tools ~/tools.py", "/save ~/talk", "/load ~/talk")

    assert err.startswith("weather, stop\n")
    assert "0 messages" in err
    assert (tmp_path / "talk").exists()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, "no file "),
        ("raise ValueError('x')", "fails with ValueError: x"),
        ("def f(:", "fails with SyntaxError"),
        ("import sys; sys.exit(4)", "fails with SystemExit: 4"),
        ("x = 1", "without a public function"),
        ("def f(a): ...", "a without a type"),
    ],
)
def test_a_file_without_tools_is_refused_and_the_conversation_goes_on(
    chat: Any, tmp_path: Path, text: str | None, error: str
) -> None:
    path = tmp_path / "tools.py"
    if text is not None:
        path.write_text(text)

    out, err = chat(f"/tools {path}", "Hi", options=SHORT)

    assert error in err
    assert "Traceback" not in err
    assert out != ""


def test_calls_and_results_of_tools_are_shown_apart_from_the_answer(
    chat: Any, says: Any, tmp_path: Path
) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    says(
        f"Let me look.<|tool_call>call:weather{{city:{Q}Paris{Q}}}<tool_call|>"
        f"<|tool_call>call:weather{{city:{Q}Atlantis{Q}}}<tool_call|>"
        "<|tool_call>call:wether{}<tool_call|><|tool_response>",
        "Clear, and it sank.<turn|>",
    )

    out, err = chat(f"/tools {tmp_path}/tools.py", "Weather?")

    assert out == "Let me look.Clear, and it sank.\n"
    assert err == (
        'weather, stop\nweather {"city": "Paris"}\nweather {"city": "Atlantis"}\n'
        'call:wether{}\n{"sky": "clear"}\nError: LookupError: it sank\n'
        "Error: unknown tool 'wether', expected one of: weather, stop\n"
    )


def test_a_tool_that_is_interrupted_undoes_the_turn_and_the_next_one_is_answered(
    chat: Any, says: Any, tmp_path: Path
) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    says("<|tool_call>call:stop{}<tool_call|><|tool_response>", "Hi.<turn|>")

    out, err = chat(f"/tools {tmp_path}/tools.py", "Stop", "Hi", "/undo")

    assert "(stopped: this turn is forgotten)" in err
    assert out.endswith("Hi.\n")
    assert err.endswith("0 messages, 4,096 tokens left\n")


def test_calls_that_are_left_open_and_a_context_that_is_full_are_said(
    chat: Any, says: Any, tmp_path: Path
) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    says(f"<|tool_call>call:weather{{city:{Q}Paris{Q}}}<tool_call|><|tool_response>")
    _, err = chat(f"/tools {tmp_path}/tools.py", "Weather?")
    assert err.count("clear") == 8
    assert "its calls are left open" in err
    says()

    _, err = chat("Hi", "More?", options=("--ignore-stops", "--context", "128"))

    assert err.startswith("(the context is full")
    assert "cabochon: prompt has" in err


def test_bytes_that_are_no_text_end_it_with_a_reason(demo_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cabochon", "chat", str(demo_folder)],
        input=b"\xff\n", capture_output=True, check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )  # fmt: skip

    assert done.returncode == 2
    assert b"bytes that are no utf-8" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_base_model_says_what_to_use(
    base_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["chat", str(base_folder)]) == 2
    assert "cabochon generate" in capsys.readouterr().err


def test_a_custom_template_is_run_where_it_is_allowed(
    demo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in demo_folder.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "chat_template.jinja").write_text(
        "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}!"
    )
    generate = ["generate", str(folder), "Hi", "--max-tokens", "3", "--json"]

    assert cli.main(generate) == 2
    assert "--allow-custom-template" in capsys.readouterr().err
    assert cli.main([*generate, "--allow-custom-template"]) == 0
    assert '"prompt_kind": "messages"' in capsys.readouterr().out


# --- a terminal ----------------------------------------------------------------------------------


class Terminal:
    """One in which `cabochon chat` runs."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cabochon", "chat", str(folder), *options],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until(self, text: str) -> str:
        """What is shown up to `text`, since the last time."""
        end = time.monotonic() + 60
        while text not in self.shown:
            ready, _, _ = select.select([self._master], [], [], end - time.monotonic())
            assert ready, f"{text!r} never came, but {self.shown!r}"
            self.shown += os.read(self._master, 4096).decode(errors="replace")
        before, _, self.shown = self.shown.partition(text)
        return before

    def close(self) -> None:
        os.close(self._master)
        self.process.kill()
        self.process.wait()


@contextmanager
def terminal(folder: Path, *options: str) -> Iterator[Terminal]:
    opened = Terminal(folder, *options)
    try:
        yield opened
    finally:
        opened.close()


def test_a_terminal_greets_stops_and_leaves_as_its_help_says(demo_folder: Path) -> None:
    with terminal(demo_folder, "--ignore-stops", "--temperature", "0") as opened:
        assert "/help shows commands" in opened.until("> ")
        opened.type("Hi\n")
        opened.until("Hi\r\n")
        time.sleep(0.1)  # in the midst of 4,000 tokens
        opened.type("\x03")
        opened.until("(stopped: this turn is forgotten)")
        opened.until("> ")
        opened.type("half a line")
        opened.until("half a line")
        time.sleep(0.3)  # Python misses a signal between showing the prompt and reading the line
        opened.type("\x03")
        opened.until("> ")
        opened.type("/undo\n")
        assert "found no turn to forget" in opened.until("> ")

        opened.type("\x04")

        assert opened.process.wait(timeout=60) == 0
        assert opened.until("\r\n") is not None  # the shell's own prompt begins a line


def test_ctrl_c_without_a_terminal_stops_the_answer_and_not_the_program(demo_folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cabochon", "chat", str(demo_folder), "--ignore-stops"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        bufsize=0,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("Hi\n")
    process.stdin.flush()
    process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None

    _, errors = process.communicate("", timeout=60)

    assert process.returncode == 0
    assert "Traceback" not in errors
