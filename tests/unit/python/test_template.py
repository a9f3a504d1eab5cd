"""The checkpoint's template: which one, compiled how, and what it may not do."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from cabochon.chat.marks import split_marks
from cabochon.chat.template import EDGE, CustomTemplate, Template, load_template
from cabochon.errors import CheckpointError, TemplateError


def printed(source: str, **variables: Any) -> str:
    """What a template prints, with the names of control tokens."""
    return "".join(piece for piece, _ in split_marks(CustomTemplate(source).run(variables)))


def controls(source: str, **variables: Any) -> list[str]:
    return [
        piece
        for piece, is_control in split_marks(CustomTemplate(source).run(variables))
        if is_control
    ]


def load(folder: Path, **options: Any) -> Template | None:
    return load_template(
        folder, **({"variant": EDGE, "is_chat": False, "allow_custom": True} | options)
    )


def write_config(folder: Path, template: Any) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}), "utf-8")


# --- which one ------------------------------------------------------------------------------------


def test_the_template_file_comes_before_the_one_in_the_tokenizer_config(tmp_path):
    (tmp_path / "chat_template.jinja").write_text("from the file", "utf-8")
    write_config(tmp_path, "from the config")

    template = load(tmp_path)

    assert template is not None
    assert (template.text, template.name) == ("from the file", "chat_template.jinja")
    assert template.sha256 == hashlib.sha256(b"from the file").hexdigest()


@pytest.mark.parametrize(
    "found",
    [
        "from the config",
        [{"name": "rag", "template": "x"}, {"name": "default", "template": "from the config"}],
    ],
    ids=["text", "several by name"],
)
def test_without_a_file_the_tokenizer_config_has_it(tmp_path, found):
    write_config(tmp_path, found)

    template = load(tmp_path)

    assert template is not None
    assert (template.text, template.name) == ("from the config", "tokenizer_config.json")


def test_without_any_template_there_is_none(tmp_path):
    assert load(tmp_path) is None

    write_config(tmp_path, None)

    assert load(tmp_path) is None


@pytest.mark.parametrize("found", [3, {}, [], [{"name": "rag", "template": "x"}]])
def test_a_template_of_another_type_is_named_by_its_key(tmp_path, found):
    write_config(tmp_path, found)

    with pytest.raises(CheckpointError, match=r"found (int|dict|list), expected text") as caught:
        load(tmp_path)

    assert (caught.value.file, caught.value.key) == ("tokenizer_config.json", "chat_template")


def test_a_tokenizer_config_over_1_mib_is_read(tmp_path):
    # Published ones list every added token again and are that long.
    document = {"chat_template": "hi", "added_tokens_decoder": {"0": {"content": "x" * (1 << 20)}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(document), "utf-8")

    template = load(tmp_path)

    assert template is not None
    assert template.text == "hi"


def test_a_template_over_256_kib_is_refused_with_both_sizes(tmp_path):
    (tmp_path / "chat_template.jinja").write_text("x" * (256 * 1024 + 1), "utf-8")

    with pytest.raises(TemplateError, match=r"262,145 bytes, expected at most 262,144"):
        load(tmp_path)


def test_a_template_that_is_no_text_is_refused_with_the_byte(tmp_path):
    (tmp_path / "chat_template.jinja").write_bytes(b"ab\xff")

    with pytest.raises(TemplateError, match="byte 2 is no UTF-8"):
        load(tmp_path)


def test_a_template_that_does_not_parse_is_refused_with_its_line():
    with pytest.raises(TemplateError, match=r"chat_template\.jinja: line 2 of the template"):
        CustomTemplate("{{ a }}\n{% if %}")


def test_a_template_that_nests_without_end_is_refused():
    with pytest.raises(TemplateError):
        CustomTemplate("{{ " + "(" * 20_000 + ")" * 20_000 + " }}")


# --- control tokens -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "<|turn>",
        "{{ '<|turn>' }}",
        "{{ '<|turn>' + 'user' }}",
        "{% set opening = '<|turn>' %}{{ opening ~ '\\n' }}",
        "{% macro open() %}<|turn>{% endmacro %}{{ open() }}",
        "{{ {'key': ['<|turn>']}['key'][0] }}",
        "{{ text | replace('TURN', '<|turn>') }}",
    ],
)
def test_names_in_the_source_of_a_template_are_control_tokens(source):
    assert controls(source, text="TURN") == ["<|turn>"]


def test_a_name_with_quotes_in_it_is_found_however_it_is_written():
    assert controls("""{{ '<|"|>' }}{{ "<|\\"|>" }}<|"|>""") == ['<|"|>'] * 3


@pytest.mark.parametrize(
    "source",
    [
        "{{ text }}",
        "{{ text | trim }}",
        "{{ text[:4] + text[4:] }}",
        "{{ text.split('X') | join }}",
        "{{ halves | join }}",
        "{{ text | tojson }}",
        "{% for letter in text %}{{ letter }}{% endfor %}",
    ],
)
def test_names_in_what_a_template_is_given_are_text(source):
    given = {"text": "<|tXurn>" if "split" in source else "<|turn>", "halves": ["<|tu", "rn>"]}

    assert controls(source, **given) == []
    assert "<|turn>" in printed(source, **given)


def test_text_with_private_use_characters_comes_out_as_it_went_in():
    text = "".join(map(chr, [0xE000, 0xF8FF, 0xF0000, 0x10FFFD]))

    assert printed("<|turn>{{ text }}<turn|>", text=text) == f"<|turn>{text}<turn|>"


# --- as transformers runs them --------------------------------------------------------------------


def test_blocks_take_no_lines():
    source = "a\n  {% if true %}\nb\n  {% endif %}\nc"

    assert printed(source) == "a\nb\nc"


def test_json_is_not_escaped_for_html():
    actual = printed("{{ value | tojson }}", value={"b": "<é>", "a": [1, None, True]})

    assert actual == '{"b": "<é>", "a": [1, null, true]}'


def test_json_can_be_indented():
    assert printed("{{ value | tojson(indent=2) }}", value=[1]) == "[\n  1\n]"


def test_a_refusal_of_the_template_is_an_error_with_its_words():
    with pytest.raises(TemplateError, match="the template stopped: roles must alternate"):
        printed("{{ raise_exception('roles must alternate') }}")


def test_the_day_is_not_defined():
    assert printed("{% if strftime_now is defined %}today{% else %}any day{% endif %}") == "any day"

    with pytest.raises(TemplateError, match="'strftime_now' is undefined"):
        printed("{{ strftime_now('%Y') }}")


# --- what it may not do ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''['__class__']['__mro__'] }}",
        "{{ ''|attr('__class__')|attr('__mro__') }}",
        "{{ raise_exception.__globals__ }}",
        "{{ raise_exception.__globals__['jinja2'].nodes }}",
        "{{ messages.__init__.__globals__.os.system('true') }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ '{0.__class__.__mro__}'.format(1) }}",
        "{{ '%s'.__mod__.__self__.__class__.__base__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ range(10000000) | list }}",
        "{% include 'chat_template.jinja' %}",
        "{% import '/etc/passwd' as p %}{{ p }}",
        "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
        "{{ lipsum.__globals__ }}",
        "{{ 1 // 0 }}",
        "{{ messages[9].role.name }}",
    ],
)
def test_what_leads_out_of_the_sandbox_is_an_error_or_nothing(source):
    messages = [{"role": "user", "content": "hi"}]

    try:
        output = printed(source, messages=messages)
    except TemplateError as error:
        output = ""
        assert str(error).startswith("chat_template.jinja: ")

    assert output == ""
    assert messages == [{"role": "user", "content": "hi"}]


def test_a_template_that_prints_without_end_is_stopped():
    source = "{% for i in range(99999) %}{% for j in range(99999) %}{{ x }}{% endfor %}{% endfor %}"

    with pytest.raises(TemplateError, match="printed over 12,582,912 characters"):
        printed(source, x="x" * 100_000)
