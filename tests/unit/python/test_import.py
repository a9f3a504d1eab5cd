"""`import cabochon` is quick: nothing that computes, reads or draws is loaded by it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cabochon

LATER = (
    "cabochon._core",
    "safetensors",
    "tqdm",
    "jinja2",
    "tokenizers",
    "huggingface_hub",
    "torch",
)


def test_importing_the_package_loads_neither_the_core_nor_what_it_may_need_later() -> None:
    code = f"import sys, cabochon; print([n for n in {LATER!r} if n in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    pytest.importorskip("cabochon._core")

    for name in cabochon.__all__:
        assert getattr(cabochon, name) is not None
        assert name in dir(cabochon)


def test_names_that_are_to_come_say_so() -> None:
    with pytest.raises(AttributeError, match="adapters is to come"):
        cabochon.adapters  # noqa: B018


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    assert not hasattr(cabochon, "generate")
