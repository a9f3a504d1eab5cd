"""The checkpoint's template: which one, compiled how, and what it may not do."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from cabochon.chat import template as template_module
from cabochon.chat.marks import split_marks
from cabochon.chat.template import (
    EDGE,
    GEMMA3,
    LARGE,
    PUBLISHED,
    SUPERSEDED,
    CustomTemplate,
    NativeTemplate,
    Template,
    load_template,
)
from cabochon.errors import CabochonWarning, CheckpointError, TemplateError


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

    assert isinstance(template, CustomTemplate)
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

    assert isinstance(template, CustomTemplate)
    assert (template.text, template.name) == ("from the config", "tokenizer_config.json")


@pytest.mark.parametrize("write", [lambda folder: None, lambda folder: write_config(folder, None)])
@pytest.mark.parametrize("variant", [EDGE, LARGE, GEMMA3])
def test_without_any_template_a_model_that_ends_turns_has_its_published_one(
    tmp_path, write, variant
):
    write(tmp_path)

    assert load(tmp_path, variant=variant, is_chat=False) is None

    template = load(tmp_path, variant=variant, is_chat=True)
    assert isinstance(template, NativeTemplate)
    assert template.name == PUBLISHED[template.sha256] == variant


def with_hash(monkeypatch: pytest.MonkeyPatch, sha256: str) -> None:
    """Any template has it. The published texts are not ours to keep here."""
    monkeypatch.setattr(template_module, "_sha256", lambda text, name: sha256)


@pytest.mark.parametrize("allow_custom", [False, True])
@pytest.mark.parametrize("sha256", PUBLISHED)
def test_a_published_template_is_rendered_natively(tmp_path, monkeypatch, sha256, allow_custom):
    (tmp_path / "chat_template.jinja").write_text("x", "utf-8")
    with_hash(monkeypatch, sha256)

    template = load(tmp_path, variant=PUBLISHED[sha256], allow_custom=allow_custom)

    assert template == NativeTemplate(PUBLISHED[sha256], sha256)


@pytest.mark.parametrize(("variant", "other"), [(EDGE, LARGE), (LARGE, EDGE)])
def test_of_gemma_4_the_template_of_the_file_counts_not_the_size(
    tmp_path, monkeypatch, variant, other
):
    (tmp_path / "chat_template.jinja").write_text("x", "utf-8")
    with_hash(monkeypatch, next(key for key in PUBLISHED if PUBLISHED[key] == other))

    template = load(tmp_path, variant=variant)

    assert template is not None
    assert template.name == other


@pytest.mark.parametrize(("variant", "other"), [(EDGE, GEMMA3), (GEMMA3, LARGE)])
def test_a_template_of_the_other_family_is_refused(tmp_path, monkeypatch, variant, other):
    (tmp_path / "chat_template.jinja").write_text("x", "utf-8")
    with_hash(monkeypatch, next(key for key in PUBLISHED if PUBLISHED[key] == other))

    with pytest.raises(TemplateError, match=f"template {other}, expected {variant}"):
        load(tmp_path, variant=variant)


@pytest.mark.parametrize("sha256", SUPERSEDED)
def test_a_replaced_revision_is_rendered_by_the_current_one_with_a_warning(
    tmp_path, monkeypatch, sha256
):
    (tmp_path / "chat_template.jinja").write_text("x", "utf-8")
    with_hash(monkeypatch, sha256)

    with pytest.warns(CabochonWarning, match=f"SHA-256 {sha256[:12]} is a revision that its pub"):
        template = load(tmp_path, variant=SUPERSEDED[sha256])

    assert template == NativeTemplate(SUPERSEDED[sha256], sha256)


def test_an_unknown_or_stale_template_is_refused_with_hashes_and_what_to_do(tmp_path):
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}", "utf-8")

    with pytest.raises(TemplateError) as caught:
        load(tmp_path, variant=LARGE, is_chat=True, allow_custom=False)

    text = str(caught.value)
    assert text.startswith("chat_template.jinja: found a template with SHA-256 ")
    assert hashlib.sha256(b"{{ messages }}").hexdigest() in text
    assert "allow_custom_template=True" in text
    assert all(sha256 in text for sha256 in PUBLISHED)


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

    assert isinstance(template, CustomTemplate)
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

ESCAPES = [
    # Up from a value to all classes.
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__']['__mro__'] }}",
    "{{ ''|attr('__class__')|attr('__mro__') }}",
    "{{ [].__class__.__base__.__subclasses__()[0] }}",
    "{{ {}.__class__.__bases__[0] }}",
    "{{ (1).__class__.__mro__ }}",
    "{{ 1.0.__class__.mro() }}",
    "{{ messages.__class__ }}",
    "{{ messages[0].__class__.__init__ }}",
    "{{ (messages|first).__reduce__() }}",
    "{{ ''|attr('\\x5f\\x5fclass\\x5f\\x5f') }}",
    "{{ ''|attr('_'~'_class_'~'_') }}",
    "{{ ['']|map(attribute='__class__')|first }}",
    "{{ ['']|map('attr', '__class__')|first }}",
    "{{ [[]]|groupby('__class__')|first|first }}",
    "{{ ['a']|sum(attribute='__class__', start='') }}",
    "{{ ['a']|selectattr('__class__.__mro__')|list|first|attr('__class__') }}",
    # Through what is there by name.
    "{{ raise_exception.__globals__ }}",
    "{{ raise_exception.__globals__['jinja2'].nodes }}",
    "{{ raise_exception.__code__ }}",
    "{{ raise_exception|attr('__globals__') }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ cycler.__init__.__globals__.os.popen('touch CANARY') }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ namespace(a=1).__init__.__globals__ }}",
    "{{ lipsum.__globals__ }}",
    "{{ lipsum.__globals__['os'].system('touch CANARY') }}",
    "{{ range.__class__ }}",
    "{{ dict.__class__ }}",
    "{{ dict.fromkeys.__self__.__mro__ }}",
    "{{ messages.__init__.__globals__.os.system('touch CANARY') }}",
    "{{ config }}{{ request.application.__globals__ }}",
    "{{ self.__dict__ }}{{ __builtins__ }}{{ __import__('os') }}",
    "{{ open('CANARY', 'w') }}",
    "{{ eval('1') }}{{ exec('1') }}",
    "{% set x = cycler('a') %}{{ x.next.__globals__ }}",
    "{% macro m() %}{% endmacro %}{{ m.__init__.__globals__ }}{{ m._func.__globals__ }}",
    "{% macro m() %}{{ caller.__globals__ }}{% endmacro %}{% call m() %}{% endcall %}",
    "{% for x in [1] %}{{ loop.__init__.__globals__ }}{{ loop._iterator.__class__ }}{% endfor %}",
    # Through formatting.
    "{{ '{0.__class__.__mro__}'.format(1) }}",
    "{{ '{x.__class__}'.format_map({'x': 1}) }}",
    "{{ '{0.__class__}'|format(1) if false }}{{ ('{0.__class__}'|attr('format'))(1) }}",
    "{% set f = '{0.__class__.__mro__}'.format %}{{ f(1) }}",
    "{{ '%s'.__mod__.__self__.__class__.__base__ }}",
    "{{ ['{0.__class__}']|map('format', 1)|list|first if false }}{{ ''.format.__self__ }}",
    # Into files and other templates.
    "{% include 'chat_template.jinja' %}",
    "{% import '/etc/passwd' as p %}{{ p }}",
    "{% from '/etc/passwd' import p %}{{ p }}",
    "{% extends '/etc/passwd' %}",
    # Into what it is given.
    "{{ messages.append(1) }}",
    "{{ messages[0].update({'role': 'x'}) }}",
    "{{ messages.clear() }}",
    "{{ messages[0].pop('role') }}",
    "{% set messages[0].role = 'x' %}",
    # Failures.
    "{{ 1 // 0 }}",
    "{{ messages[9].role.name }}",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_what_leads_out_of_the_sandbox_is_an_error_or_nothing(tmp_path, source):
    canary = tmp_path / "canary"
    messages = [{"role": "user", "content": "hi"}]

    try:
        output = printed(source.replace("CANARY", str(canary)), messages=messages)
    except TemplateError as error:
        output = ""
        assert str(error).startswith("chat_template.jinja: ")

    assert output == ""
    assert messages == [{"role": "user", "content": "hi"}]
    assert not canary.exists()


ENDLESS = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% macro f() %}{{ f() ~ f() }}{% endmacro %}{{ f() }}",
    "{{ range(10000000) | list }}",
    "{{ 'a' * 10**10 }}",
    "{{ ['a'] * 10**10 }}",
    "{{ '%010000000000d' % 1 }}",
    "{{ '{:>10000000000}'.format(1) }}",
    "{{ 'a'.ljust(10**10) }}",
    "{{ 'a'|center(10**10) }}",
    "{{ 9 ** (9 ** 9) }}",
    "{{ (messages * 10**9) | length }}",
    "{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "{{ ('a' * 60000) | wordwrap(1) | wordwrap(1) | urlize }}{{ 'x' * 10**8 }}",
    "{{ lipsum(n=99999999) }}",
]


@pytest.mark.parametrize("source", ENDLESS)
def test_a_template_without_end_is_ended(source):
    with pytest.raises(TemplateError, match=r"^chat_template\.jinja: the template (was|failed|st)"):
        printed(source, messages=[{"role": "user", "content": "hi"}])


def test_it_is_the_processor_time_that_ends_a_loop():
    with pytest.raises(TemplateError, match="found more than 1 s of processor time"):
        printed(ENDLESS[0])


def test_a_child_that_answers_nothing_is_ended(monkeypatch):
    monkeypatch.setattr(template_module, "WALL_S", 0.2)
    real = subprocess.Popen
    monkeypatch.setattr(
        template_module.subprocess,
        "Popen",
        lambda program, **options: real(
            [*program[:-1], "-c", "import time; time.sleep(60)"], **options
        ),
    )

    started = time.monotonic()

    with pytest.raises(TemplateError, match=r"found more than 256 MiB of memory, or 0\.2 s"):
        # Longer than what a pipe takes without being read.
        CustomTemplate("x" * 200_000)

    assert time.monotonic() - started < 50  # the child's sleep is not waited for


def test_a_template_that_prints_without_end_is_stopped():
    source = "{% for i in range(99999) %}{{ x }}{% endfor %}"

    with pytest.raises(TemplateError, match="printed over 12,582,912 characters"):
        printed(source, x="x" * 100_000)


def test_the_child_gets_neither_environment_nor_descriptors(monkeypatch):
    monkeypatch.setenv("SECRET", "1")
    inherited = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    look_around = (
        "import json, os, sys; sys.stdin.read();"
        "print(json.dumps([sorted(os.environ), os.listdir('/proc/self/fd'), os.getcwd()]))"
    )
    real = subprocess.Popen
    monkeypatch.setattr(
        template_module.subprocess,
        "Popen",
        lambda program, **options: real([*program[:-1], "-c", look_around], **options),
    )
    answers = []
    monkeypatch.setattr(template_module.json, "loads", lambda text: answers.append(text) or {})

    template_module._in_child({"template": ""})

    os.close(inherited)
    monkeypatch.undo()
    environment, descriptors, folder = json.loads(answers[0])
    assert "SECRET" not in environment
    assert str(inherited) not in descriptors
    assert folder == "/"


def test_no_child_is_left_behind():
    with pytest.raises(TemplateError, match="was ended"):
        printed(ENDLESS[0])

    children = Path(f"/proc/self/task/{os.getpid()}/children")
    assert children.read_text().split() == []
