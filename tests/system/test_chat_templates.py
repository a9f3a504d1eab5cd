"""Chat templates as callers meet them: loaded, refused, allowed; render beside generate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cabochon.errors import TemplateError, Unsupported

Load = Callable[..., Any]

QUESTION = [{"role": "user", "content": "Hi"}]
CUSTOM = "{{ bos_token }}{% for m in messages %}<|turn>{{ m.content }}<turn|>{% endfor %}<|turn>"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
IMAGE = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}]
FREE: dict[str, Any] = {"max_tokens": 3, "ignore_stops": True}


@pytest.fixture
def custom_folder(demo_folder: Path, tmp_path: Path) -> Path:
    """The demo with a template of nobody's."""
    for path in demo_folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "chat_template.jinja").write_text(CUSTOM, "utf-8")
    return tmp_path


def test_a_custom_template_is_refused_until_it_is_allowed(load: Load, custom_folder: Path) -> None:
    with pytest.raises(TemplateError, match="allow_custom_template=True"):
        load(custom_folder)

    model = load(custom_folder, allow_custom_template=True)

    prompt = model.render([{"role": "user", "content": "<turn|>"}])
    assert prompt.text == "<bos><|turn><turn|><turn|><|turn>"
    assert prompt.template[0] == "chat_template.jinja"
    assert model.info().template == f"chat_template.jinja, {prompt.template[1][:12]}"
    names = ["<bos>", "<|turn>", "<turn|>", "<|turn>"]
    control = [model.encode(name, special=True)[0] for name in names]
    ids = prompt.token_ids.tolist()
    assert [token for token in ids if token in control] == control
    result = model.generate(QUESTION, **FREE)
    assert result.manifest.template_sha256 == prompt.template[1]


def test_without_a_template_file_a_chat_model_has_the_published_one(model: Any) -> None:
    prompt = model.render(QUESTION)

    name, sha256 = prompt.template
    assert name == "gemma4-edge"  # the demo has a per-layer table
    assert model.info().template == f"gemma4-edge, {sha256[:12]}"
    assert prompt.text == "<bos><|turn>user\nHi<turn|>\n<|turn>model\n"


def test_thinking_and_tools_are_rendered(model: Any) -> None:
    prompt = model.render(QUESTION, thinking=True, tools=[TOOL])

    assert prompt.text == (
        "<bos><|turn>system\n<|think|>\n"
        '<|tool>declaration:f{description:<|"|><|"|>,parameters:{type:<|"|>OBJECT<|"|>}}<tool|>'
        "<turn|>\n<|turn>user\nHi<turn|>\n<|turn>model\n"
    )


def test_generate_asks_for_thoughts(model: Any) -> None:
    result = model.generate(["Hi", QUESTION], thinking=True, **FREE)

    expected = model.render(QUESTION, thinking=True).token_ids
    for item in result:
        np.testing.assert_array_equal(item.prompt_token_ids, expected)
        assert item.settings["thinking"] is True


def test_a_base_model_does_not_think(load: Load, base_folder: Path) -> None:
    with pytest.raises(Unsupported, match="thinking: this checkpoint is a base model"):
        load(base_folder).generate("Hi", thinking=True)


def test_a_picture_that_is_not_there_is_rendered_but_never_ignored(model: Any) -> None:
    prompt = model.render(IMAGE)

    assert "<|turn>user\n<|image|>what?<turn|>" in prompt.text
    for refused in (IMAGE, prompt, [QUESTION, IMAGE]):
        with pytest.raises(Unsupported, match="images, audio and video are to come"):
            model.generate(refused, **FREE)
    with pytest.raises(Unsupported, match="to come"):
        model.logprobs(IMAGE)
    with pytest.raises(Unsupported, match=r"prompt has <\|image\|>"):
        model.generate("<|image|>", allow_special_tokens_in_content=True, **FREE)


def test_a_picture_with_a_source_is_to_come(model: Any) -> None:
    messages = [{"role": "user", "content": [{"type": "image", "path": "x.png"}]}]

    with pytest.raises(Unsupported, match=r"messages\[0\]\.content\[0\]: found a part of type"):
        model.render(messages)
