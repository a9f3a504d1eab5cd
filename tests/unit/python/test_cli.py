"""Arguments and exit codes of the command line; what it prints with a model is in system/."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from cabochon import cli, errors

MODEL = "folder"


def parsed(*arguments: str) -> Any:
    return cli._parser().parse_args(arguments)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.CabochonError("x"), 1),
        (errors.DeviceError("x"), 1),
        (errors.Unsupported("x"), 1),
        (errors.InvalidArgument("x"), 2),
        (errors.ContextOverflow("x", tokens=2, context=1), 2),
        (errors.CheckpointError("x"), 3),
        (errors.OutOfMemory("x"), 4),
        (errors.MissingExtra("x", extra="hub"), 5),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: errors.CabochonError, code: int) -> None:
    assert cli.exit_code(error) == code


@pytest.mark.parametrize("command", ["doctor", "quantize", "serve"])
def test_commands_that_are_to_come_say_so(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "model", "--weights", "int4"]) == 1
    assert f"{command} is to come" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["generate"], ["generate", "m", "--x"]])
def test_wrong_arguments_end_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)

    assert caught.value.code == 2
    assert "usage: cabochon" in capsys.readouterr().err


def test_a_folder_that_is_not_there_ends_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cabochon._core")

    assert cli.main(["info", "/no/such/folder"]) == 3
    captured = capsys.readouterr()
    assert "/no/such/folder" in captured.err
    assert captured.out == ""


def test_only_what_was_given_is_passed_on() -> None:
    options = parsed("generate", MODEL, "Hi", "--kv", "f32", "--max-tokens", "5", "--stop", "a",
                     "--stop", "b")  # fmt: skip

    assert cli._given(options, cli._LOADING) == {"kv": "f32"}
    assert cli._given(options, cli._SAMPLING) == {"max_tokens": 5, "stop": ["a", "b"]}


def test_no_prompt_means_standard_input() -> None:
    assert parsed("generate", MODEL).prompt == "-"


def test_every_option_has_the_name_that_the_library_has() -> None:
    pytest.importorskip("cabochon._core")
    from cabochon.loading import load
    from cabochon.model import Model
    from cabochon.planner import plan

    assert set(cli._PLANNING) == set(inspect.signature(plan).parameters) - {"path_or_id", "unknown"}
    assert set(cli._LOADING) <= set(inspect.signature(load).parameters)
    assert set(cli._SAMPLING) <= set(inspect.signature(Model.generate).parameters)


@pytest.mark.parametrize("name", ["image", "schema"])
def test_files_that_are_to_come_say_so(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", MODEL, "Hi", f"--{name}", "file"]) == 1
    assert f"--{name} is to come" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--shard", "3"), "found '3', expected I/K: part I of K"),
        (("--max-tokens", "many"), "found 'many', expected a number of tokens, or auto"),
    ],
)
def test_values_of_evaluate_that_cannot_be_read_say_what_is_expected(
    arguments: tuple[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed("evaluate", "m", *arguments)

    assert said in capsys.readouterr().err


def test_a_page_that_could_not_be_written_is_refused_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["evaluate", "no-model", "--report", "no-folder/page.html"]) == 2
    assert "--report no-folder/page.html: there is no such folder" in capsys.readouterr().err
