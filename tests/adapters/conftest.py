"""The demo checkpoint, for harnesses that bring many packages of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from cabochon.demo import write_demo

    folder = tmp_path_factory.mktemp("demo") / "model"
    write_demo(folder)
    return folder


@pytest.fixture
def model(demo_folder: Any) -> Iterator[Any]:
    import cabochon

    with cabochon.load(demo_folder) as model:
        yield model
