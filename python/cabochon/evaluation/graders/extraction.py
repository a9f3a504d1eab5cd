"""`f1`: entities and relations as lists of JSON.

expected: `entities`, pairs of type and value; `relations`, triples of head, relation and tail;
`decoys`, values that stand in the document and are not asked for. The score is the mean of the two
micro F1 over multisets of normalised texts: what is said twice is once too much. Two empty lists
agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..cases import Case
from ..grading import Output, Verdict, failed, grader, normal, passed, unparsed
from .matchers import NotJson, lenient_json, strict_json

Item = tuple[str, ...]
_LISTS = (("entities", 2), ("relations", 3))
_KEYS = {"entities": ("type", "value"), "relations": ("head", "relation", "tail")}


@grader("f1")
def f1(case: Case, output: Output) -> Verdict:
    """Entities and relations."""
    language = case.language
    if not output.text.strip():
        return unparsed()
    try:
        value = strict_json(output.text)
    except NotJson as error:
        value, fault = lenient_json(output.text), error.args[0]
        if fault == "not_json" and value is not None:
            fault = "in_text"
    else:
        fault = None if _is_shaped(value) else "wrong_shape"
    loose = _loosened(value)
    lenient = None if loose is None else _score(case, loose, language)[0]
    if fault is not None:
        return unparsed(fault, extracted_lenient=loose, near_miss=lenient == 1.0)
    score, parts = _score(case, value, language)
    found = {name: value[name] for name, _ in _LISTS}
    if score == 1.0:
        return passed(found, extracted_lenient=found, parts=parts)
    reason = _reason(case, value, language)
    return failed(
        reason, found, score=score, extracted_lenient=loose, near_miss=lenient == 1.0, parts=parts
    )


def _is_shaped(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), list) for name, _ in _LISTS)


def _items(value: Mapping[str, Any], name: str, size: int, language: str) -> list[Item | None]:
    """Normalised items of a list; None for what is none."""
    return [
        tuple(normal(part, language) for part in item)
        if isinstance(item, list) and len(item) == size and all(isinstance(p, str) for p in item)
        else None
        for item in value[name]
    ]


def _score(case: Case, value: Mapping[str, Any], language: str) -> tuple[float, dict[str, Any]]:
    parts: dict[str, Any] = {}
    for name, size in _LISTS:
        made = _items(value, name, size, language)
        right = _items(case.expected, name, size, language)
        both = Counter(item for item in made if item) & Counter(item for item in right if item)
        hits = sum(both.values())
        total = len(made) + len(right)
        parts[name] = {
            "f1": 2 * hits / total if total else 1.0,
            "hits": hits,
            "made": len(made),
            "expected": len(right),
        }
    return (parts["entities"]["f1"] + parts["relations"]["f1"]) / 2, parts


def _loosened(value: Any) -> dict[str, Any] | None:
    """The same with objects in place of lists, a list of values a type, numbers in place of texts:
    what is told apart from a wrong answer, and not scored."""
    if not isinstance(value, dict):
        return None
    found: dict[str, Any] = {}
    for name, _ in _LISTS:
        items = value.get(name, [])
        if isinstance(items, dict):
            items = [
                [kind, item]
                for kind, listed in items.items()
                for item in (listed if isinstance(listed, list) else [listed])
            ]
        if not isinstance(items, list):
            return None
        found[name] = [_loose_item(item, _KEYS[name]) for item in items]
    return found


def _loose_item(item: Any, keys: Sequence[str]) -> Any:
    if isinstance(item, dict) and item.keys() == set(keys):
        item = [item[key] for key in keys]
    if not isinstance(item, list):
        return item
    return [str(p) if isinstance(p, (int, float)) else p for p in item]


def _reason(case: Case, value: Mapping[str, Any], language: str) -> str:
    """The first thing that is wrong, in an order that tells most."""
    made = {name: _items(value, name, size, language) for name, size in _LISTS}
    right = {name: _items(case.expected, name, size, language) for name, size in _LISTS}
    if any(None in items for items in made.values()):
        return "malformed_item"
    entities = [item for item in made["entities"] if item]
    relations = [item for item in made["relations"] if item]
    values = {item[1] for item in right["entities"] if item}
    decoys = {normal(text, language) for text in case.expected["decoys"]} - values
    spurious = [item for item in entities if item not in right["entities"]]
    if len(entities) > 2 * len(right["entities"]):
        return "too_many_items"
    if any(item[1] in decoys for item in entities):
        return "decoy"
    false_relations = [item for item in relations if item not in right["relations"]]
    if any(item[::-1] in right["relations"] for item in false_relations):
        return "reversed_relation"
    if max(Counter([*entities, *relations]).values(), default=0) > 1:
        return "repeated_item"
    if any(item[1] in values for item in spurious):
        return "wrong_type"
    if any(item[1] in text or text in item[1] for item in spurious for text in values):
        return "wrong_span"
    return "spurious_item" if spurious or false_relations else "missing_item"
