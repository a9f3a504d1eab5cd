"""Grader `language`: right content, in the language that was asked for."""

# Letters that look like others are what this is about, and wide ones count twice in a line.
# ruff: noqa: E501, RUF001

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..cases import Case
from ..grading import Output, Verdict, failed, grader, normal, passed, unparsed
from .forms import any_stands, folded
from .matchers import LONGEST

_CONTENT, _LANGUAGE = 0.7, 0.3
_MOSTLY = 0.7  # share of letters that are in a script of the language
_HARDLY = 0.1  # under it, the language is another one

# At least sixty frequent words of each language, of our own choice.
_WORDS: Mapping[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": """the of and to is it that was for on are with as they at be this have from or had by
            but not what all were we when your can said there use each which she do how their if
            will up other about out many then them these some her would make like him into has two
            more""",
        "de": """der die das und ist nicht ein eine einen einem einer mit von zu zum zur auf für im
            den dem des sich auch es wir ihr sie ich er werden wird wurde sind war hat haben aber
            oder als nach bei aus an um am über vor noch nur wenn dass wie so kann mehr durch bis
            unter kein bitte sehr hier""",
        "fr": """de le la les des et est un une dans pour que qui sur pas plus par avec ce cette ces
            son sa ses il elle nous vous ils au aux du je tu ne se mais ou où leur leurs sont été
            être avoir a ont fait comme tout tous bien aussi votre vos notre nos chaque avant après
            chez peu très sans""",
        "es": """de el la los las y es un una en para que por con del al se no lo su sus más como pero
            este esta estos estas son fue ser está están hay ha han muy también cuando donde desde
            hasta sobre entre sin ya todo todos cada porque le les nos usted si o yo tiene qué bien
            antes después siempre otra""",
        "it": """il lo la gli le e è un una in per che con del della dei delle dal dalla al alla
            nel nella sul si non più come ma questo questa sono era essere ha hanno anche quando
            dove tra fra ogni molto tutto tutti suo sua loro noi voi io ci ne se o prima dopo sempre
            senza bene ed i degli stato""",
        "pt": """de o os as e é um uma em para que por com do da dos das no na nos nas ao não se mais
            como mas este esta são foi ser está estão há tem muito também quando onde até sobre
            entre sem já tudo todos cada porque seu sua você nós eu ele ela ou antes depois sempre
            bem pelo pela às isso""",
        "pl": """i w na z do nie się jest to że jak po co tak od za o dla ale przez przy czy są był
            była było być ma już tylko jego jej ich oraz lub który która które bardzo może gdy więc
            ten ta te tym tego we ze pod nad przed zawsze każdy proszę jeszcze także można nas pan
            pani jako""",
        "tr": """ve bir bu da de için ile çok daha olarak en ne gibi kadar var yok olan ya ama ki
            her o ben sen biz siz onlar şu mi mı değil sonra önce göre ise veya hem nasıl neden
            bütün tüm iyi zaman olur oldu edin yapın lütfen bizim sizin kendi ancak bile üzere
            tarafından saat günü kişi arasında şekilde diye hiç""",
        "ar": """في من على إلى عن أن هذا هذه التي الذي كان كانت هو هي ما لا لم لن قد كل مع بعد قبل
            عند بين أو ثم إذا حتى كما غير أي هناك ذلك تلك نحن أنا أنت هم يوم الساعة تم يجب يمكن لكن
            منذ حول خلال دون فقط أيضا جدا عدد به بها له لها فيه فيها إن لقد عليك كن""",
        "hi": """है हैं का की के को में से पर और यह वह एक नहीं भी कि जो था थी थे हो कर करें किया
            गया गई लिए साथ तक अपने अपनी अपना आप हम वे इस उस इन उन ने तो ही या लेकिन जब कब क्या कौन
            कहाँ कैसे बहुत सब हर बाद पहले होगा होगी होता रहा जाता दिन बजे कृपया समय""",
        "ja": """の に は を た が で て と し れ さ ある いる も する から な こと として い や など
            なっ ない この その ため よう また もの という まで なる です ます ました ません ください
            へ か だ これ それ あり おり より について による には では とき 時 日 曜日 しました
            てください でした られ ば ね よ""",
        "ko": """은 는 이 가 을 를 의 에 에서 로 으로 와 과 도 만 까지 부터 에게 한 하다 합니다
            했습니다 입니다 있습니다 없습니다 됩니다 그 저 것 수 등 및 또는 그리고 하지만 때 후 전
            더 매우 잘 모든 각 시 일 요일 하세요 주세요 세요 습니다 니다 지만 면 고 며 해서 위해 대한
            같은 다음 있는 하는 않 못""",
        "zh": """的 是 在 了 和 有 不 我 他 这 个 们 中 来 上 大 为 到 说 要 就 出 会 可 也 你 对
            能 而 于 着 下 都 与 及 等 被 把 从 将 已 请 没 很 再 由 给 向 时 日 星期 前 后 以 每
            或 但 因 其 之 用""",
    }.items()
}
# Beginnings of Unicode names of letters.
_SCRIPTS: Mapping[str, tuple[str, ...]] = {
    "ar": ("ARABIC",),
    "hi": ("DEVANAGARI",),
    "ja": ("HIRAGANA", "KATAKANA", "CJK"),
    "ko": ("HANGUL",),
    "zh": ("CJK",),
}
_INSIDE = ("ja", "ko", "zh")  # words are not written apart, or carry particles
_KANA = ("HIRAGANA", "KATAKANA")


@grader("language")
def grade(case: Case, output: Output) -> Verdict:
    """0.7 times the share of content that is right and 0.3 for the language, at most 0.3 in all in
    a wrong one.

    `expected`: "has", groups of forms of which one each stands in the answer; "lacks", forms of
    which none does; "lines", a number of lines that are not blank; "no_digits"; "as_written", where
    the way numbers are written counts (points and commas are not normalised then).

    Reasons: "too_long", "no_answer"; "wrong_language", "mixed_language", "wrong_script", and in
    the right language "missing", "rival", "wrong_count", "digits".
    """
    if len(output.text) > LONGEST:
        return unparsed("too_long")
    if not output.text.strip():
        return unparsed("no_answer")
    expected = case.expected
    checks = _content(expected, output.text, case.language)
    right = sum(not reason for reason in checks) / len(checks)
    language = _language(output.text, case)
    parts = {"content": right, "language": not language}
    if not language and right == 1:
        return passed(parts=parts)
    if language:
        return failed(language, score=min(_LANGUAGE, _CONTENT * right), parts=parts)
    reason = next(reason for reason in checks if reason)
    return failed(reason, score=_CONTENT * right + _LANGUAGE, parts=parts)


def _content(expected: Mapping[str, Any], text: str, language: str) -> list[str]:
    """The reason of each check, "" of one that holds."""
    digits = "en" if expected.get("as_written") else language
    read = folded(text, digits)
    checks = [
        "" if any_stands(forms, read, digits) else "missing" for forms in expected.get("has", ())
    ]
    if "lacks" in expected:
        checks.append("rival" if any_stands(expected["lacks"], read, digits) else "")
    if "lines" in expected:
        count = sum(bool(line.strip()) for line in text.split("\n"))
        checks.append("" if count == expected["lines"] else "wrong_count")
    if expected.get("no_digits"):
        checks.append("digits" if any(c.isdigit() for c in read) else "")
    return checks


def _language(text: str, case: Case) -> str:
    """Why a text is not in the case's language, "" where it is or is too short to tell."""
    read, language = folded(text), case.language
    if language in _SCRIPTS:
        # Latin names that the content needs are of no language.
        forms = {form for forms in case.expected.get("has", ()) for form in forms if form.isascii()}
        for form in sorted(forms, key=lambda form: (-len(form), form)):
            read = read.replace(normal(form), " ")
    letters = Counter(c for c in read if c.isalpha())
    if not letters:
        return ""
    # Marks belong to words: vowels of Devanagari are such.
    is_word = {c: unicodedata.category(c)[0] in "LM" for c in set(read)}
    words = Counter("".join(c if is_word[c] else " " for c in read).split())
    scripts = _SCRIPTS.get(language, ("LATIN",))
    share = sum(n for c, n in letters.items() if _is_in(c, scripts)) / letters.total()
    kana = sum(n for c, n in letters.items() if _is_in(c, _KANA))
    if share < _HARDLY:
        is_translated = language not in _SCRIPTS or _profile(words, "en", language) >= 2
        return "wrong_language" if is_translated else "wrong_script"
    if share < _MOSTLY:
        return "mixed_language"
    if language not in _SCRIPTS:
        return _among_latin(words, language)
    # Chinese is without kana, and Japanese with, unless it is a name or a label.
    is_other = kana > 0 if language == "zh" else language == "ja" and not kana
    frequent = _WORDS[language]
    # A longer text has one of the frequent words, or is in another language of the script.
    has_own = (
        any(word in read for word in frequent)
        if language in _INSIDE
        else bool(frequent & words.keys())
    )
    is_long = letters.total() > 12
    return "wrong_language" if is_long and (is_other or not has_own) else ""


def _among_latin(words: Counter[str], language: str) -> str:
    """Frequent words of another language that are none of this one, against the other way round."""
    counts = [
        (_profile(words, other, language), _profile(words, language, other))
        for other in _WORDS
        if other not in _SCRIPTS and other != language
    ]
    if any(foreign >= 2 and foreign > 4 * own for foreign, own in counts):
        return "wrong_language"
    is_mixed = any(foreign >= 3 and 2 * foreign > own for foreign, own in counts)
    return "mixed_language" if is_mixed else ""


def _profile(words: Counter[str], language: str, against: str) -> int:
    """How many words are frequent ones of a language and none of the other."""
    return sum(words[word] for word in _WORDS[language] - _WORDS[against])


def _is_in(character: str, scripts: tuple[str, ...]) -> bool:
    return unicodedata.name(character, "").startswith(scripts)
