"""Words that conversations are made of. Which of them tests alone use, their hash decides."""

from __future__ import annotations

from cabochon.evaluation.draw import Draw

_ONSETS = [
    "b",
    "c",
    "d",
    "f",
    "g",
    "h",
    "j",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "t",
    "v",
    "w",
    "z",
    "br",
    "ch",
    "dr",
    "fr",
    "gr",
    "kr",
    "pl",
    "sh",
    "sk",
    "st",
    "th",
    "tr",
]
_VOWELS = ["a", "e", "i", "o", "u", "ai", "ea", "ia", "io", "ou"]
_CODAS = ["", "", "", "l", "n", "r", "s", "t", "m", "k", "nd", "rn", "st"]

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
JOBS = [
    "baker",
    "nurse",
    "pilot",
    "teacher",
    "painter",
    "plumber",
    "farmer",
    "lawyer",
    "singer",
    "tailor",
    "carpenter",
    "gardener",
    "chemist",
    "sailor",
    "driver",
    "writer",
    "waiter",
    "builder",
    "dentist",
    "printer",
]
PRODUCTS = [
    "lamp",
    "chair",
    "table",
    "kettle",
    "phone",
    "laptop",
    "camera",
    "bicycle",
    "jacket",
    "helmet",
    "blanket",
    "mirror",
    "clock",
    "radio",
    "printer",
    "keyboard",
    "monitor",
    "backpack",
    "umbrella",
    "toaster",
    "blender",
    "heater",
    "speaker",
    "tent",
]
COLOURS = [
    "red",
    "blue",
    "green",
    "yellow",
    "black",
    "white",
    "grey",
    "brown",
    "pink",
    "purple",
    "orange",
    "silver",
]
OBJECTS = [
    "safe",
    "locker",
    "gate",
    "garage",
    "cabin",
    "cellar",
    "archive",
    "vault",
    "workshop",
    "office",
    "attic",
    "barn",
    "library",
    "kitchen",
    "studio",
    "stable",
    "tower",
    "shed",
    "museum",
    "harbour",
]
EVENTS = [
    "meeting",
    "lunch",
    "call",
    "interview",
    "rehearsal",
    "dinner",
    "lesson",
    "training",
    "haircut",
    "checkup",
    "workshop",
    "picnic",
    "review",
    "concert",
    "appointment",
]


def syllables(draw: Draw, low: int, high: int) -> str:
    """A made-up word, so that copying it is copying."""
    count = draw.integer(low, high)
    return "".join(
        draw.choice(_ONSETS)
        + draw.choice(_VOWELS)
        + (draw.choice(_CODAS) if i == count - 1 else "")
        for i in range(count)
    )


def name(draw: Draw) -> str:
    return f"{syllables(draw, 1, 2).capitalize()} {syllables(draw, 2, 2).capitalize()}"


def city(draw: Draw) -> str:
    return syllables(draw, 2, 3).capitalize()


def filler(draw: Draw) -> str:
    """A sentence that answers nothing."""
    who = draw.choice(("The old clerk", "A neighbour", "The visitor", "Our guide", "A child",
                       "The driver", "Someone", "The gardener", "A friend", "The owner"))  # fmt: skip
    does = draw.choice(("looked at", "asked about", "walked past", "painted", "closed", "cleaned",
                        "talked about", "opened", "forgot", "found"))  # fmt: skip
    when = draw.choice(("in the morning", "after the rain", "before lunch", "last week", "at noon",
                        "late at night", "in spring", "on the way home"))  # fmt: skip
    return f"{who} {does} the {draw.choice(COLOURS)} {draw.choice(PRODUCTS)} {when}."
