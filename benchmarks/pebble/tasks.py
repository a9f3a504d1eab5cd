"""What pebble is asked: each task makes a case from a `Source`. Tools are in calls.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import calls
import words
from corpus import Case, Message, Source


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def model(text: str, thought: str | None = None) -> Message:
    message: Message = {"role": "assistant", "content": text}
    return message | {"reasoning": thought} if thought else message


# --- arithmetic -----------------------------------------------------------------------------------

_SUMS = {
    "+": (
        "What is {a} + {b}?", "Add {a} and {b}.", "{a} plus {b}?", "Compute {a} + {b}.",
        "How much is {a} plus {b}?", "{a} + {b} =", "I have {a} coins and get {b} more. How many?",
        "Please work out {a} + {b}.", "Tell me what {a} and {b} make together.",
        "What do you get when you add {b} to {a}?",
    ),
    "-": (
        "What is {a} - {b}?", "Subtract {b} from {a}.", "{a} minus {b}?", "Compute {a} - {b}.",
        "How much is {a} minus {b}?", "{a} - {b} =", "I have {a} coins and lose {b}. How many?",
        "Please work out {a} - {b}.", "Tell me what {a} minus {b} makes.",
        "What do you get when you take {b} from {a}?",
    ),
}  # fmt: skip


def worked(a: int, operator: str, b: int) -> str:
    """The sum done on paper, from the last digit, one line a digit."""
    lines = [f"{a} {operator} {b}"]
    first, second = a, b
    if operator == "-" and a < b:
        first, second = b, a
        lines.append(f"{b} is more: -({b} - {a})")
    carry, result = 0, ""
    width = max(len(str(a)), len(str(b)))
    for x, y in zip(f"{first:0{width}}"[::-1], f"{second:0{width}}"[::-1], strict=True):
        total = int(x) + int(y) + carry if operator == "+" else int(x) - int(y) - carry
        digit, rest = total % 10, int(not 0 <= total <= 9)
        lines.append(f"{x} {operator} {y} {operator} {carry} = {total}: {digit}, {rest}")
        carry, result = rest, f"{digit}{result}"
    if carry:
        result = f"{carry}{result}"
    lines.append(result)
    return "\n".join(lines)


def arithmetic(source: Source, *, thinking: bool = True) -> Case:
    draw = source.draw

    def numbers() -> tuple[int, str, int]:
        ranges = ((10, 99), (100, 999))
        return (draw.integer(*draw.choice(ranges)), draw.choice("+-"),
                draw.integer(*draw.choice(ranges)))  # fmt: skip

    # 12 + 34 and 34 + 12, with and without thinking, are one value: on the same side.
    a, operator, b = source.value(numbers, lambda n: f"sum {min(n[0], n[2])} {max(n[0], n[2])}")
    result = a + b if operator == "+" else a - b
    text = source.wording(_SUMS[operator]).format(a=a, b=b)
    messages = [user(text), model(str(result), worked(a, operator, b) if thinking else None)]
    task = "arithmetic" if thinking else "arithmetic_direct"
    return source.case(task, messages, str(result), thinking=thinking)


def arithmetic_direct(source: Source) -> Case:
    return arithmetic(source, thinking=False)


# --- units and dates ------------------------------------------------------------------------------

_UNITS = (
    ("kilometres", "metres", 1000), ("kilograms", "grams", 1000), ("metres", "centimetres", 100),
    ("litres", "millilitres", 1000), ("centimetres", "millimetres", 10), ("weeks", "days", 7),
    ("hours", "minutes", 60), ("minutes", "seconds", 60), ("days", "hours", 24),
    ("dozens", "pieces", 12),
)  # fmt: skip
_CONVERT = (
    "How many {small} are {n} {large}?", "Convert {n} {large} to {small}.",
    "{n} {large} in {small}?",
    "Write {n} {large} in {small}.", "Tell me how many {small} {n} {large} are.",
)  # fmt: skip


def units(source: Source) -> Case:
    draw = source.draw

    def quantity() -> tuple[int, str, str, int]:
        large, small, factor = draw.choice(_UNITS)
        return draw.integer(2, 99 if factor in (10, 100, 1000) else 12), large, small, factor

    n, large, small, factor = source.value(quantity, lambda q: f"{q[0]} {q[1]}")
    answer = f"{n * factor} {small}"
    text = source.wording(_CONVERT).format(small=small, n=n, large=large)
    return source.case("units", [user(text), model(answer)], answer)


_WEEKDAY = (
    "Which day is {n} days after {day}?", "Today is {day}. What day is it in {n} days?",
    "{day} plus {n} days?", "What weekday comes {n} days after {day}?",
    "If it is {day} now, which day will it be {n} days later?",
)  # fmt: skip
_DATE = (
    "Which date is {n} days after {day}?", "It is {day}. What is the date in {n} days?",
    "{day} plus {n} days?", "Give the date {n} days after {day}.",
    "If today is {day}, which date will it be {n} days later?",
)  # fmt: skip


def dates(source: Source) -> Case:
    draw = source.draw
    if draw.chance(0.5):
        start, n = source.value(lambda: (draw.integer(0, 6), draw.integer(1, 13)),
                                lambda v: f"weekday {v}")  # fmt: skip
        text = source.wording(_WEEKDAY).format(n=n, day=words.DAYS[start])
        answer = words.DAYS[(start + n) % 7]
    else:
        month, day, n = source.value(
            lambda: (draw.integer(0, 11), draw.integer(1, 28), draw.integer(2, 14)),
            lambda v: f"date {v}",
        )
        text = source.wording(_DATE).format(n=n, day=f"{day} {words.MONTHS[month]}")
        over = day + n - words.MONTH_DAYS[month]
        answer = f"{over} {words.MONTHS[(month + 1) % 12]}" if over > 0 else (
            f"{day + n} {words.MONTHS[month]}")  # fmt: skip
    return source.case("dates", [user(text), model(answer)], answer)


# --- records to JSON ------------------------------------------------------------------------------

_FIELDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "name": ("string", ("name: {}", "called {}", "the name is {}", "{} is the name",
                        "known as {}")),
    "city": ("string", ("city: {}", "lives in {}", "from {}", "at home in {}", "based in {}")),
    "job": ("string", ("job: {}", "works as a {}", "a {} by trade", "employed as a {}", "is a {}")),
    "age": ("integer", ("age: {}", "{} years old", "aged {}", "the age is {}", "turned {}")),
    "product": ("string", ("product: {}", "wants a {}", "bought one {}", "item: {}", "took a {}")),
    "price": ("integer", ("price: {}", "paid {} euros", "costs {} euros", "for {} euros",
                          "spent {} euros")),
    "count": ("integer", ("count: {}", "{} in all", "number: {}", "{} times", "{} pieces")),
    "member": ("boolean", ("member: {}", "is a member: {}", "club card: {}", "membership: {}",
                           "in the club: {}")),
}  # fmt: skip
_EXTRACT = (
    "Extract the record as JSON for this schema: {schema}\n{text}",
    "Schema: {schema}\nText: {text}\nWrite the JSON.",
    "{text}\nGive me this as JSON. Schema: {schema}",
    "Turn the note into JSON that fits {schema}\nNote: {text}",
    "Read this: {text}\nAnswer with one JSON object that matches {schema}",
)


def extraction(source: Source) -> Case:
    draw = source.draw
    record: dict[str, Any] = {}
    for field in draw.sample(list(_FIELDS), draw.integer(2, 4)):
        record[field] = _field_value(source, field)
    schema = {
        "type": "object",
        "properties": {field: {"type": _FIELDS[field][0]} for field in record},
        "required": list(record),
        "additionalProperties": False,
    }
    notes = []
    for field in draw.shuffled(list(record)):
        shown = (
            {True: "yes", False: "no"}.get(record[field]) if field == "member" else record[field]
        )
        notes.append(source.wording(_FIELDS[field][1]).format(shown))
    text = draw.choice(("; ", ", ", " / ")).join(notes) + "."
    asked = source.wording(_EXTRACT).replace("{schema}", json.dumps(schema)).replace("{text}", text)
    return source.case(
        "extraction", [user(asked), model(json.dumps(record))], record, schema=schema
    )


def _field_value(source: Source, field: str) -> Any:
    draw = source.draw
    if field == "member":
        return draw.chance(0.5)
    if field == "name":
        return source.value(lambda: words.name(draw))
    if field == "city":
        return source.value(lambda: words.city(draw))
    if field == "job":
        return draw.choice(words.JOBS)
    if field == "product":
        return draw.choice(words.PRODUCTS)
    return source.value(lambda: draw.integer(2, 999), lambda n: f"{field} {n}")


# --- classes --------------------------------------------------------------------------------------

# Class: what the matter is, and what is the matter with it. Wordings share words across the parts.
CLASSES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "billing": (("invoice", "bill", "payment", "charge", "receipt"), (
        "the {} is wrong", "I was asked to pay the {} twice", "the {} shows too much money",
        "my {} has the wrong amount", "why is this {} so high", "please pay back the {}",
        "there is a mistake in the {}", "I do not understand the {}",
        "the amount on the {} is too high", "I paid twice, see the {}")),
    "delivery": (("parcel", "package", "order", "box", "shipment"), (
        "the {} has not arrived", "my {} is late", "where is the {}", "when will my {} arrive",
        "the {} went to the wrong street", "nobody brought the {}", "the courier lost my {}",
        "I am still waiting for the {}", "my {} has still not arrived", "the {} is late again")),
    "account": (("password", "login", "account", "username", "profile"), (
        "I forgot my {}", "please reset the {}", "I cannot change my {}", "how do I change the {}",
        "my {} is locked", "the site does not know my {}", "somebody else used my {}",
        "I want a new {}", "please help me reset my {}", "why is my {} locked")),
    "technical": (("app", "screen", "website", "program", "update"), (
        "the {} crashes", "the {} shows an error", "my {} does not start", "the {} is very slow",
        "the {} stays black", "since today the {} freezes", "an error comes up in the {}",
        "the {} stopped working", "my {} freezes and crashes",
        "the {} does not work, only an error")),
    "praise": (("service", "team", "support", "shop", "staff"), (
        "the {} was great", "thank you, the {} is wonderful", "I love the {}", "what a kind {}",
        "the {} helped me so well", "five stars for the {}", "I am very happy with the {}",
        "best {} ever, thanks", "many thanks, I love your {}", "great {}, I am very happy")),
    "cancel": (("contract", "subscription", "membership", "plan", "booking"), (
        "please cancel the {}", "I want to end my {}", "stop my {} now", "how do I quit the {}",
        "I no longer want the {}", "close my {} this month", "my {} should end soon",
        "I do not want to renew the {}", "I want to cancel my {}", "please end the {} now")),
}  # fmt: skip
_CLASSIFY = (
    "Classify the message as one of {classes}.\n{text}", "Which of {classes} is this?\n{text}",
    "Message: {text}\nClass ({classes}):", "Label this with one of {classes}: {text}",
    "Choose one of {classes} for: {text}",
)  # fmt: skip
_OPENINGS = ("", "", "Hello, ", "Hi, ", "Good day: ", "Dear all, ", "So, ", "Well, ")


def classification(source: Source) -> Case:
    draw = source.draw
    label = draw.choice(list(CLASSES))
    things, matters = CLASSES[label]
    text = draw.choice(_OPENINGS) + source.wording(matters).format(draw.choice(things)) + "."
    classes = ", ".join(draw.shuffled(list(CLASSES)))
    asked = source.wording(_CLASSIFY).format(classes=classes, text=text)
    return source.case("classification", [user(asked), model(label)], label)


# --- references, needles, refusals ----------------------------------------------------------------

_PRICE = ("What does the {} cost?", "How much is the {}?", "Price of the {}?", "The {} costs what?",
          "Tell me the price of the {}.")  # fmt: skip
_AND = (
    "And the {}?",
    "And for the {}?",
    "What about the {}?",
    "The {} too?",
    "And how about the {}?",
)


def references(source: Source) -> Case:
    """A price list, then questions that only mean something after the one before."""
    draw = source.draw
    goods = draw.sample(words.PRODUCTS, draw.integer(3, 5))
    prices = {g: source.value(lambda: draw.integer(2, 999), lambda n: f"price {n}") for g in goods}
    listed = ", ".join(f"{good} {price}" for good, price in prices.items())
    messages = [{"role": "system", "content": f"Prices in euros: {listed}."}]
    for number, good in enumerate(draw.sample(goods, draw.integer(2, 3))):
        asked = source.wording(_AND if number else _PRICE).format(good)
        messages += [user(asked), model(f"{prices[good]} euros")]
    return source.case("references", messages, messages[-1]["content"])


_HIDE = ("The code of the {} is {}.", "Remember: the {} has the code {}.", "The {} opens with {}.",
         "For the {} the code is {}.", "Note that {1} is the code of the {0}.")  # fmt: skip
_SEEK = ("What is the code of the {}?", "Which code does the {} have?", "Code of the {}?",
         "Tell me the code of the {}.", "I need the code of the {}, what is it?")  # fmt: skip


def needle(source: Source, *, depth: float | None = None, sentences: int | None = None) -> Case:
    """A code somewhere in a text; a sentence of it takes about 12 tokens."""
    draw = source.draw
    if sentences is None:
        sentences = draw.integer(*draw.choice(((1, 8), (1, 8), (8, 24), (24, 68))))
    if depth is None:
        depth = draw.integer(0, 100) / 100
    things = draw.sample(words.OBJECTS, 1 if sentences < 2 else 2)
    codes = [source.value(lambda: f"{draw.integer(0, 9999):04}", lambda c: f"code {c}")
             for _ in things]  # fmt: skip
    lines = [words.filler(draw) for _ in range(sentences)]
    lines.insert(round(depth * sentences), source.wording(_HIDE).format(things[0], codes[0]))
    if len(things) > 1:  # another code, so that the question matters
        lines.insert(draw.integer(0, len(lines)), source.wording(_HIDE).format(things[1], codes[1]))
    asked = " ".join(lines) + "\n" + source.wording(_SEEK).format(things[0])
    return source.case("needle", [user(asked), model(codes[0])], codes[0])


_CANNOT: dict[str, tuple[str, ...]] = {
    "travel": ("Book me a flight to {}.", "Buy a train ticket to {}.", "Reserve a hotel in {}.",
               "Order a taxi to {}.", "Get me a bus ticket to {}.", "Book a room in {} for me."),
    "mail": ("Send an email to {}.", "Write {} a letter and post it.", "Text {} for me.",
             "Call {} on the phone.", "Forward this mail to {}.", "Send {} a text message."),
    "pictures": ("Draw a picture of {}.", "Show me a photo of {}.", "Paint {}.",
                 "Make a video of {}.", "Print a photo of {}.", "Draw me {}."),
}  # fmt: skip


def refusal(source: Source) -> Case:
    draw = source.draw
    kind = draw.choice(list(_CANNOT))
    text = source.wording(_CANNOT[kind]).format(source.value(lambda: words.city(draw)))
    answer = f"I cannot do that: I have no tool for {kind}."
    return source.case("refusal", [user(text), model(answer)], answer)


# Task: who makes it, and how often it comes.
TASKS: dict[str, tuple[Callable[[Source], Case], int]] = {
    "arithmetic": (arithmetic, 16),
    "arithmetic_direct": (arithmetic_direct, 4),
    "units": (units, 4),
    "dates": (dates, 6),
    "call": (calls.call, 20),
    "result": (calls.result, 8),
    "follow_up": (calls.follow_up, 6),
    "extraction": (extraction, 12),
    "classification": (classification, 8),
    "references": (references, 6),
    "needle": (needle, 8),
    "refusal": (refusal, 3),
}
