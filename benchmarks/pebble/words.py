"""Words that conversations are made of. Which of them tests alone use, their hash decides."""

from __future__ import annotations

from cabochon.evaluation.draw import Draw


def _list(words: str) -> list[str]:
    return words.split()


_ONSETS = _list("b c d f g h j k l m n p r s t v w z br ch dr fr gr kr pl sh sk st th tr")
_VOWELS = _list("a e i o u ai ea ia io ou")
_CODAS = ["", "", "", "l", "n", "r", "s", "t", "m", "k", "nd", "rn", "st"]

DAYS = _list("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = _list(
    "January February March April May June July August September October November December"
)
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
JOBS = _list(
    "baker nurse pilot teacher painter plumber farmer lawyer singer tailor carpenter gardener"
    " chemist sailor driver writer waiter builder dentist printer"
)
PRODUCTS = _list(
    "lamp chair table kettle phone laptop camera bicycle jacket helmet blanket mirror clock radio"
    " printer keyboard monitor backpack umbrella toaster blender heater speaker tent"
)
COLOURS = _list("red blue green yellow black white grey brown pink purple orange silver")
OBJECTS = _list(
    "safe locker gate garage cabin cellar archive vault workshop office attic barn library kitchen"
    " studio stable tower shed museum harbour"
)
EVENTS = _list(
    "meeting lunch call interview rehearsal dinner lesson training haircut checkup workshop picnic"
    " review concert appointment"
)
_WHO = (
    *("The old clerk", "A neighbour", "The visitor", "Our guide", "A child"),
    *("The driver", "Someone", "The gardener", "A friend", "The owner"),
)
_DOES = (
    *("looked at", "asked about", "walked past", "painted", "closed", "cleaned"),
    *("talked about", "opened", "forgot", "found"),
)
_WHEN = (
    *("in the morning", "after the rain", "before lunch", "last week", "at noon"),
    *("late at night", "in spring", "on the way home"),
)


def syllables(draw: Draw, low: int, high: int) -> str:
    """A made-up word, so that copying it is copying."""
    made = [draw.choice(_ONSETS) + draw.choice(_VOWELS) for _ in range(draw.integer(low, high))]
    return "".join(made) + draw.choice(_CODAS)


def name(draw: Draw) -> str:
    return f"{syllables(draw, 1, 2).capitalize()} {syllables(draw, 2, 2).capitalize()}"


def city(draw: Draw) -> str:
    return syllables(draw, 2, 3).capitalize()


def filler(draw: Draw) -> str:
    """A sentence that answers nothing."""
    what = f"{draw.choice(COLOURS)} {draw.choice(PRODUCTS)}"
    return f"{draw.choice(_WHO)} {draw.choice(_DOES)} the {what} {draw.choice(_WHEN)}."
