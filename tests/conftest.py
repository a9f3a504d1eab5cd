"""Fixtures for all tests; `import tiny` and `from reference import decoder` work everywhere."""

from __future__ import annotations

import functools
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import local_hub
import tiny
import vocabularies
from cabochon.tokenizer import Tokenizer
from golden import Golden


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_acts() -> None:
    """Also where a shell has started the tests in the background, which has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def no_packed_cache() -> None:
    """Tests leave nothing in the user's cache folder; those of the cache set one of their own."""
    os.environ["CABOCHON_CACHE"] = ""


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Name of a model of `tiny.MODELS` to the folder that holds it, written once a session."""
    folder = tmp_path_factory.mktemp("tiny")
    return functools.cache(lambda name: tiny.write(folder / name, name))


@pytest.fixture(scope="session")
def golden(tiny_checkpoint: Callable[[str], Path]) -> Callable[[str], Golden]:
    """Name of a model to what transformers computed for it; the model itself is made again."""
    return functools.cache(lambda name: Golden.read(name, tiny_checkpoint(name)))


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """That of the demo."""
    return vocabularies.demo_tokenizer()


@pytest.fixture(scope="session")
def gemma3_tokenizer() -> Tokenizer:
    """With Gemma 3's control tokens."""
    return vocabularies.gemma3_tokenizer()


@pytest.fixture
def full_after() -> Callable[[int], AbstractContextManager[None]]:
    """Inside of it files cannot grow beyond so many bytes, as on a disk that is full."""

    @contextmanager
    def full_after(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return full_after


@pytest.fixture
def hub() -> Iterator[local_hub.Hub]:
    """An empty hub on this machine."""
    with local_hub.serve() as hub:
        yield hub
