"""Tasks of the suite `code`: what is asked, a reference, mutants of it, and arguments to try.

In texts and sources `$word` stands for one of the words of a task. A mutant is the reference with
one text replaced; the first is also what a case of the family `repair` shows as wrong.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..draw import Draw

Words = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One function."""

    family: str
    name: str
    text: str
    source: str
    mutants: Sequence[tuple[str, str]]
    edges: Callable[[Words], Sequence[Sequence[Any]]]  # the first two are the examples
    draw: Callable[[Draw, Words], Sequence[Any]]
    words: Mapping[str, Sequence[Any]]
    tier: str = "medium"
    repair: bool = False


def _task(
    family: str,
    name: str,
    text: str,
    source: str,
    mutants: Sequence[tuple[str, str]],
    edges: Sequence[Sequence[Any]] | Callable[[Words], Sequence[Sequence[Any]]],
    draw: Callable[[Draw, Words], Sequence[Any]],
    *,
    words: Mapping[str, Sequence[Any]] | None = None,
    **more: Any,
) -> Task:
    cleaned = textwrap.dedent(source).lstrip("\n")
    for old, _ in mutants:
        if old not in cleaned:
            raise ValueError(f"{name}: its source has no {old!r}")
    return Task(
        family=family, name=name, text=text, source=cleaned, mutants=mutants,
        edges=edges if callable(edges) else lambda words: edges, draw=draw,
        words=words or {}, **more,
    )  # fmt: skip


# --- arguments -----------------------------------------------------------------------------------

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _word(draw: Draw, low: int = 1, high: int = 7, letters: str = _LETTERS) -> str:
    return "".join(draw.choice(letters) for _ in range(draw.integer(low, high)))


def _sentence(draw: Draw, high: int = 7) -> str:
    words = [_word(draw) for _ in range(draw.integer(0, high))]
    text = "".join(word + draw.choice((" ", " ", "  ", ", ", ". ")) for word in words)
    return text.capitalize() if draw.chance(0.5) else text


def _numbers(draw: Draw, low: int = -20, high: int = 20, most: int = 9) -> list[int]:
    return [draw.integer(low, high) for _ in range(draw.integer(0, most))]


def _day(draw: Draw, first: int = 2023, last: int = 2029) -> str:
    month = draw.integer(1, 12)
    longest = 28 if month == 2 else 30
    return f"{draw.integer(first, last)}-{month:02}-{draw.integer(1, longest):02}"


def _rows(draw: Draw, key: str, value: str, most: int = 7) -> list[dict[str, Any]]:
    names = ("north", "south", "east", "west")
    return [{key: draw.choice(names), value: draw.integer(0, 40)}
            for _ in range(draw.integer(0, most))]  # fmt: skip


# --- tasks with words: generated -----------------------------------------------------------------

OPEN: Sequence[Task] = (
    _task(
        "strings", "shorten",
        """Write `$name(text)`. It gives the text as it is when it has at most $n characters.
        Otherwise it gives its first characters followed by '$mark', so that the result has exactly
        $n characters.""",
        """
        def $name(text):
            if len(text) <= $n:
                return text
            return text[: $n - len("$mark")] + "$mark"
        """,
        [("<= $n", "< $n"), ('[: $n - len("$mark")]', "[:$n]")],
        lambda w: [["a" * w["n"]], ["b" * (w["n"] + 1)], [""], ["c" * (w["n"] + 9)],
                   ["d" * (w["n"] - 1)]],
        lambda d, w: [_word(d, 0, 2 * w["n"])],
        words={"name": ("shorten", "clip", "abridge", "fit_text"), "n": tuple(range(5, 25)),
               "mark": ("...", "~", "--", ">>")},
    ),
    _task(
        "strings", "mask",
        """Write `$name(code)`. It replaces every character of a string by '$sign' except the last
        $n. A code of $n characters or fewer is given back as it is. Hyphens are never replaced, and
        count as characters.""",
        """
        def $name(code):
            hidden = max(len(code) - $n, 0)
            return "".join(
                "$sign" if place < hidden and character != "-" else character
                for place, character in enumerate(code)
            )
        """,
        [("place < hidden", "place <= hidden"), (' and character != "-"', "")],
        lambda w: [["4471-2203-9"], ["ab"], [""], ["-" * 12], ["x" * w["n"]],
                   ["y" * (w["n"] + 1)]],
        lambda d, w: ["-".join(_word(d, 2, 5) for _ in range(d.integer(1, 4)))],
        words={"name": ("mask", "hide_code", "veil"), "n": tuple(range(2, 9)),
               "sign": ("*", "#", "x", "?")},
    ),
    _task(
        "strings", "count_words",
        """Write `$name(text)`. It gives the number of words of a text that have at least $n
        letters. Words are separated by white space; the characters $signs at the ends of a word do
        not count as its letters.""",
        """
        def $name(text):
            return sum(len(word.strip("$signs")) >= $n for word in text.split())
        """,
        [(">= $n", "> $n"), ('.strip("$signs")', "")],
        lambda w: [["a" * w["n"] + " bb"], ["x" * (w["n"] - 1) + w["signs"] + " and more"], [""],
                   ["  " + "y" * w["n"] + w["signs"][0] + "  "]],
        lambda d, w: [_sentence(d)],
        words={"name": ("count_words", "long_words", "word_count"), "n": tuple(range(2, 8)),
               "signs": (".,", ".,!", ".;", ",.?")},
    ),
    _task(
        "dates", "working_days",
        """Write `$name(start, end)`. Both are dates as 'YYYY-MM-DD'. It gives how many days from
        start to end, both included, are not a $free. When end lies before start, it gives 0.""",
        """
        import datetime

        DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


        def $name(start, end):
            day = datetime.date.fromisoformat(start)
            last = datetime.date.fromisoformat(end)
            count = 0
            while day <= last:
                if DAYS[day.weekday()] not in "$free":
                    count += 1
                day += datetime.timedelta(days=1)
            return count
        """,
        [("day <= last", "day < last"), ("not in", "in")],
        [["2024-02-26", "2024-03-04"], ["2031-05-01", "2031-05-01"], ["2024-03-04", "2024-02-26"],
         ["2024-12-30", "2025-01-05"], ["2025-06-07", "2025-06-08"]],
        lambda d, w: [_day(d, 2024, 2024), f"2024-12-{d.integer(10, 31)}"]
        if d.chance(0.7) else [_day(d), "2023-01-01"],
        words={"name": ("working_days", "open_days", "count_days"),
               "free": ("Saturday or Sunday", "Friday or Saturday", "Sunday", "Monday",
                        "Thursday or Friday", "Wednesday")},
    ),
    _task(
        "dates", "due",
        """Write `$name(day)`. It takes a date as 'YYYY-MM-DD' and gives the date, written the same
        way, that lies $n days later. When that is a $free, it gives the next day that is not.""",
        """
        import datetime

        DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


        def $name(day):
            due = datetime.date.fromisoformat(day) + datetime.timedelta(days=$n)
            while DAYS[due.weekday()] in "$free":
                due += datetime.timedelta(days=1)
            return due.isoformat()
        """,
        [("while DAYS", "if DAYS"), ("days=$n", "days=$n - 1")],
        [["2024-02-20"], ["2031-12-24"], ["2024-02-28"], ["2025-02-28"], ["2026-10-03"],
         *[[f"2026-03-{day:02}"] for day in range(1, 8)]],
        lambda d, w: [_day(d)],
        words={"name": ("due", "due_date", "deadline", "pay_by"), "n": (10, 14, 20, 30, 45, 60, 90),
               "free": ("Saturday or Sunday", "Friday or Saturday", "Sunday or Monday")},
    ),
    _task(
        "dates", "clock",
        """Write `$name(time)`. It takes a time as 'HH:MM' on a clock of 24 hours and gives the time
        that is $n minutes later, also as 'HH:MM'; after 23:59 comes 00:00.""",
        """
        def $name(time):
            hours, minutes = map(int, time.split(":"))
            later = (hours * 60 + minutes + $n) % 1440
            return f"{later // 60:02}:{later % 60:02}"
        """,
        [("% 1440", "% 1439"), ("{later // 60:02}", "{later // 60}")],
        [["08:15"], ["23:50"], ["00:00"], ["23:59"], ["07:05"], ["22:30"], ["01:01"], ["18:45"]],
        lambda d, w: [f"{d.integer(0, 23):02}:{d.integer(0, 59):02}"],
        words={"name": ("later", "add_minutes", "clock", "shift_time"),
               "n": (25, 35, 70, 95, 130, 200, 245, 500, 725)},
    ),
    _task(
        "parsing", "read_pairs",
        """Write `$name(text)`. The text holds pairs of a name and a value, written name${sign}value
        and separated by '$gap'. It gives a dict from name to value, both without white space at
        their ends. Pieces without a '$sign' are left out; of two pairs with one name the $which
        counts. A value may hold more signs '$sign'.""",
        """
        def $name(text):
            found = {}
            for piece in text.split("$gap"):
                name, sign, value = piece.partition("$sign")
                if sign and ("$which" == "last" or name.strip() not in found):
                    found[name.strip()] = value.strip()
            return found
        """,
        [("partition", "rpartition"), ("value.strip()", "value")],
        lambda w: [[f"a{w['sign']}1{w['gap']} b {w['sign']} 2"], [f"x{w['gap']}y{w['sign']}3"],
                   [""], [f"k{w['sign']}1{w['sign']}2"], [f"k{w['sign']}1{w['gap']}k{w['sign']}2"],
                   [f"k{w['sign']}"]],
        lambda d, w: [w["gap"].join(
            f"{_word(d, 1, 2, 'abc')}{d.choice((w['sign'], ' ' + w['sign'] + ' ', ''))}"
            f"{_word(d, 0, 3)}" for _ in range(d.integer(1, 5)))],
        words={"name": ("read_pairs", "parse_options", "to_dict"), "sign": ("=", ":", ">"),
               "gap": (";", "|", ",", "/"), "which": ("first", "last")},
    ),
    _task(
        "parsing", "read_size",
        """Write `$name(text)`. It reads a size such as '12 kB' or '3MB' and gives the number of
        bytes, a whole number: $unit after the number is $n bytes, k before it multiplies by 1000
        and M by 1000000. White space around and between is ignored, also case counts. Anything
        else gives None.""",
        """
        import re


        def $name(text):
            found = re.fullmatch(r"\\s*(\\d+)\\s*([kM]?)$unit\\s*", text, re.ASCII)
            if found is None:
                return None
            return int(found[1]) * {"": 1, "k": 1000, "M": 1000000}[found[2]] * $n
        """,
        [("fullmatch", "match"), ("[kM]?", "[kM]")],
        lambda w: [[f"12 k{w['unit']}"], [f"3{w['unit']}"], ["12"], [f"-1 {w['unit']}"], [""],
                   [f" 7 M{w['unit']} "], [f"5 m{w['unit']}"], [f"5 k{w['unit']}s"],
                   [f"1.5 k{w['unit']}"], [f"0{w['unit']}"]],
        lambda d, w: [f"{d.integer(0, 99)}{d.choice(('', ' '))}{d.choice(('', 'k', 'M', 'G'))}"
                      f"{w['unit']}"],
        words={"name": ("read_size", "parse_size", "to_bytes"), "unit": ("B", "W", "blk", "pg"),
               "n": (1, 2, 4, 512, 4096)},
    ),
    _task(
        "structures", "merge_ranges",
        """Write `$name(ranges)`. It takes a list of pairs [start, end] of whole numbers, start at
        most end, in any order, and gives the sorted list of the fewest pairs that cover the same.
        Ranges are merged when they overlap, touch, or leave a gap of at most $n between the end of
        one and the start of the next. The list given is not changed.""",
        """
        def $name(ranges):
            merged = []
            for start, end in sorted(ranges):
                if merged and start - merged[-1][1] <= $n:
                    merged[-1][1] = max(merged[-1][1], end)
                else:
                    merged.append([start, end])
            return merged
        """,
        [("<= $n", "< $n"), ("max(merged[-1][1], end)", "end")],
        lambda w: [[[[1, 4], [4 + w["n"], 30]]], [[[1, 9], [2, 3]]], [[]],
                   [[[1, 4], [5 + w["n"], 40]]], [[[7, 7]]]],
        lambda d, w: [[[(a := d.integer(0, 60)), a + d.integer(0, 9)]
                       for _ in range(d.integer(0, 7))]],
        words={"name": ("merge_ranges", "join_spans", "cover"), "n": tuple(range(0, 12))},
    ),
    _task(
        "structures", "chunks",
        """Write `$name(items)`. It cuts a list into lists of $n items, in order; the last has what
        is left. When that is fewer than $m, its items are added to the list before it, if there is
        one. An empty list gives an empty list.""",
        """
        def $name(items):
            parts = [items[at : at + $n] for at in range(0, len(items), $n)]
            if len(parts) > 1 and len(parts[-1]) < $m:
                last = parts.pop()
                parts[-1] = parts[-1] + last
            return parts
        """,
        [("< $m", "<= $m"), ("len(parts) > 1 and ", "")],
        lambda w: [[list(range(w["n"] + 1))], [list(range(w["n"] * 2))], [[]], [[1]],
                   [list(range(w["n"] + w["m"]))], [list(range(w["n"] + w["m"] - 1))]],
        lambda d, w: [_numbers(d, most=3 * w["n"])],
        words={"name": ("chunks", "split_list", "batches"), "n": (4, 5, 6, 7), "m": (2, 3, 4)},
    ),
    _task(
        "structures", "rotate_rows",
        """Write `$name(rows)`. It takes a list of lists of equal length and gives it with row
        number i, counted from 0, rotated to the $side by i + $n places. The lists given are not
        changed; rows may be empty.""",
        """
        def $name(rows):
            result = []
            for number, row in enumerate(rows):
                by = (number + $n) % len(row) if row else 0
                by = -by if "$side" == "right" else by
                result.append(row[by:] + row[:by])
            return result
        """,
        [("(number + $n)", "(number + $n + 1)"), (" if row else 0", "")],
        [[[[1, 2, 3], [4, 5, 6]]], [[["a"], ["b"]]], [[]], [[[], []]], [[[1, 2, 3, 4]] * 5]],
        lambda d, w: [[[d.integer(0, 9) for _ in range(width)] for _ in range(d.integer(1, 4))]
                      for width in [d.integer(0, 5)]],
        words={"name": ("rotate_rows", "shear", "shift_rows"), "n": (0, 1, 2, 3, 5),
               "side": ("left", "right")},
    ),
    _task(
        "arithmetic", "steps_price",
        """Write `$name(pieces)`. The first $n pieces cost $a cents each, all further ones $b cents
        each. From $m pieces on, a tenth of the whole is taken off, rounded down to whole cents
        (the discount is). It gives the price in cents; for 0 or fewer pieces that is 0.""",
        """
        def $name(pieces):
            if pieces <= 0:
                return 0
            price = min(pieces, $n) * $a + max(pieces - $n, 0) * $b
            if pieces >= $m:
                price -= price // 10
            return price
        """,
        [(">= $m", "> $m"),
         ("if pieces <= 0:\n        return 0", "if pieces == 0:\n        return 0")],
        lambda w: [[w["n"]], [w["m"]], [0], [-3], [1], [w["n"] + 1], [w["m"] - 1], [w["m"] + 1]],
        lambda d, w: [d.integer(0, 3 * w["m"])],
        words={"name": ("price", "order_price", "cost"), "n": (5, 8, 10, 12), "m": (20, 25, 30, 50),
               "a": (95, 120, 250, 333), "b": (71, 83, 99)},
    ),
    _task(
        "arithmetic", "round_to",
        """Write `$name(number)`. It rounds a whole number, which may be negative, to the nearest
        multiple of $n; halfway between two it goes to the $which one. Use whole numbers only.""",
        """
        def $name(number):
            down = number // $n * $n
            rest = number - down
            if 2 * rest > $n or (2 * rest == $n and "$which" == "larger"):
                return down + $n
            return down
        """,
        [("2 * rest > $n", "rest > $n"), ("number // $n * $n", "int(number / $n) * $n")],
        lambda w: [[w["n"] + 1], [w["n"] * 3 - 1], [0], [-1], [-w["n"] // 2], [w["n"] // 2],
                   [-w["n"] + 1], [10**15 + 1]],
        lambda d, w: [d.integer(-300, 300)],
        words={"name": ("round_to", "nearest", "snap"), "n": (4, 6, 8, 10, 12, 20, 50, 60),
               "which": ("larger", "smaller")},
    ),
    _task(
        "arithmetic", "digits_sum",
        """Write `$name(number)`. While a number that is not negative has more than one digit in
        base $n, it is replaced by the sum of its digits in base $n. It gives a list of all numbers
        on the way, the first and the last included.""",
        """
        def $name(number):
            way = [number]
            while number >= $n:
                total = 0
                while number:
                    number, digit = divmod(number, $n)
                    total += digit
                number = total
                way.append(number)
            return way
        """,
        [(">= $n", "> $n"), ("way = [number]", "way = []")],
        lambda w: [[w["n"] ** 2 - 1], [w["n"]], [0], [w["n"] - 1], [10**9], [w["n"] ** 3]],
        lambda d, w: [d.integer(0, 99_999)],
        words={"name": ("digit_way", "reduce_digits", "root_way"),
               "n": (2, 3, 5, 7, 8, 10, 12, 16)},
    ),
    _task(
        "grouping", "totals",
        """Write `$name(records)`. Each record is a dict with '$key' (a string) and '$value' (a
        whole number). It gives a list of [$key, sum of $value] for every $key whose sum is at least
        $n, the largest sum first; equal sums are in alphabetical order.""",
        """
        def $name(records):
            sums = {}
            for record in records:
                sums[record["$key"]] = sums.get(record["$key"], 0) + record["$value"]
            kept = [[key, total] for key, total in sums.items() if total >= $n]
            return sorted(kept, key=lambda pair: (-pair[1], pair[0]))
        """,
        [(">= $n", "> $n"), ("(-pair[1], pair[0])", "-pair[1]")],
        lambda w: [[[{w["key"]: "west", w["value"]: w["n"]},
                     {w["key"]: "east", w["value"]: w["n"]}]],
                   [[{w["key"]: "west", w["value"]: w["n"] - 1}]], [[]],
                   [[{w["key"]: "a", w["value"]: 3 * w["n"]},
                      {w["key"]: "b", w["value"]: 99}] * 2]],
        lambda d, w: [_rows(d, w["key"], w["value"])],
        words={"name": ("totals", "sum_by", "ranking"), "key": ("site", "team", "region", "shop"),
               "value": ("hours", "sold", "cost"), "n": (5, 10, 20, 30)},
    ),
    _task(
        "grouping", "latest",
        """Write `$name(records)`. Each record is a dict with '$key', 'day' (as 'YYYY-MM-DD') and
        '$value'. It gives a dict from each $key to the '$value' of its $which day; of two records
        of one day the later one in the list counts.""",
        """
        def $name(records):
            best = {}
            for record in records:
                known = best.get(record["$key"])
                if known is None or record["day"] $sign known["day"]:
                    best[record["$key"]] = record
            return {key: record["$value"] for key, record in best.items()}
        """,
        [("$sign known", "!= known"), ("known is None or ", "known is not None and ")],
        lambda w: [[[{w["key"]: "a", "day": "2031-01-02", w["value"]: 1},
                     {w["key"]: "a", "day": "2031-01-03", w["value"]: 2},
                     {w["key"]: "a", "day": "2031-01-02", w["value"]: 3}]],
                   [[{w["key"]: "b", "day": "2031-05-01", w["value"]: 7}]], [[]],
                   [[{w["key"]: "c", "day": "2031-05-01", w["value"]: 7},
                     {w["key"]: "c", "day": "2031-05-01", w["value"]: 8},
                     {w["key"]: "c", "day": "2031-05-01", w["value"]: 9}]]],
        lambda d, w: [[{**row, "day": f"2031-0{d.integer(1, 3)}-0{d.integer(1, 4)}"}
                       for row in _rows(d, w["key"], w["value"])]],
        words={"name": ("newest", "last_values", "by_day"), "key": ("meter", "room", "truck"),
               "value": ("reading", "level", "load"),
               "which": ("latest",), "sign": (">=",)},
    ),
)  # fmt: skip


# --- tasks without words: written for one case each ----------------------------------------------

FIXED: Sequence[Task] = (
    _task(
        "strings", "initials",
        """Write `initials(name)`. It gives the first letters of all words of a name, in upper case,
        each followed by a full stop, without spaces. Words are separated by spaces or hyphens; a
        hyphen between two words is kept: 'anna-maria kern' gives 'A.-M.K.'.""",
        """
        def initials(name):
            parts = []
            for word in name.split():
                letters = [piece[0].upper() + "." for piece in word.split("-") if piece]
                parts.append("-".join(letters))
            return "".join(parts)
        """,
        [('"-".join', '"".join'), (".upper()", "")],
        [["anna-maria kern"], ["Tomas Ekdahl"], [""], ["  li  "], ["x-y-z"], ["Jo van der Berg"]],
        lambda d, w: [" ".join(_word(d) + d.choice(("", "-" + _word(d)))
                               for _ in range(d.integer(1, 3)))],
        tier="easy",
    ),
    _task(
        "strings", "common_prefix",
        """Write `common_prefix(words)`. It gives the longest text with which all strings of a list
        begin, ignoring case, in the spelling of the first string. An empty list gives ''.""",
        """
        def common_prefix(words):
            if not words:
                return ""
            length = min(map(len, words))
            for place in range(length):
                if len({word[place].lower() for word in words}) > 1:
                    return words[0][:place]
            return words[0][:length]
        """,
        [("[:length]", "[: length - 1]"), (".lower()", "")],
        [[["Station", "statue", "STATIC"]], [["a", "b"]], [[]], [["same", "same"]], [["", "x"]],
         [["long", "longer"]]],
        lambda d, w: [[_word(d, 0, 4, "aAb") for _ in range(d.integer(1, 4))]],
        tier="medium",
    ),
    _task(
        "strings", "wrap_lines",
        """Write `wrap_lines(text, width)`. It puts the words of a text, which are separated by
        white space, into lines of at most width characters, as many words a line as fit, with one
        space between them, and gives the list of lines. A word longer than width stands on a line
        of its own.""",
        """
        def wrap_lines(text, width):
            lines = []
            for word in text.split():
                if lines and len(lines[-1]) + 1 + len(word) <= width:
                    lines[-1] += " " + word
                else:
                    lines.append(word)
            return lines
        """,
        [("+ 1 + len(word) <= width", "+ len(word) <= width"), ("<= width", "< width")],
        [["the lift is out of order", 11], ["one extraordinary day", 6], ["", 5], ["a b c", 1],
         ["aa bb", 5], ["aa  bb\ncc", 4]],
        lambda d, w: [_sentence(d), d.integer(3, 14)],
        tier="hard",
    ),
    _task(
        "dates", "age",
        """Write `age(born, day)`. Both are dates as 'YYYY-MM-DD'. It gives the age in full years on
        that day. Who was born on 29 February has the birthday on 1 March in years without that
        day. When day lies before born, it gives None.""",
        """
        def age(born, day):
            if day < born:
                return None
            years = int(day[:4]) - int(born[:4])
            return years - (day[5:] < born[5:])
        """,
        [("day[5:] < born[5:]", "day[5:] <= born[5:]"), ("day < born", "day <= born")],
        [["1990-05-14", "2031-05-13"], ["1990-05-14", "2031-05-14"], ["2031-01-02", "2031-01-01"],
         ["2000-02-29", "2031-02-28"], ["2000-02-29", "2031-03-01"], ["2020-06-01", "2020-06-01"]],
        lambda d, w: [_day(d, 1990, 2024), _day(d, 2020, 2030)],
        tier="medium",
    ),
    _task(
        "dates", "quarter_end",
        """Write `quarter_end(day)`. It takes a date as 'YYYY-MM-DD' and gives the last day of its
        quarter, written the same way. The year begins in January.""",
        """
        def quarter_end(day):
            year, month, _ = day.split("-")
            ends = {3: "03-31", 6: "06-30", 9: "09-30", 12: "12-31"}
            return f"{year}-{ends[(int(month) + 2) // 3 * 3]}"
        """,
        [("(int(month) + 2)", "(int(month) + 3)"), ('6: "06-30"', '6: "06-31"')],
        [["2031-02-11"], ["2031-06-30"], ["2031-12-31"], ["2024-03-01"], ["2024-04-01"],
         ["2024-09-30"], ["2024-10-01"]],
        lambda d, w: [_day(d)],
        tier="easy",
    ),
    _task(
        "dates", "overlap",
        """Write `overlap(a, b)`. Both are lists of two times 'HH:MM', from and to, on one day, from
        before to. It gives how many minutes lie in both, 0 when none do.""",
        """
        def overlap(a, b):
            def minutes(time):
                hours, rest = time.split(":")
                return int(hours) * 60 + int(rest)

            start = max(minutes(a[0]), minutes(b[0]))
            end = min(minutes(a[1]), minutes(b[1]))
            return max(end - start, 0)
        """,
        [("max(end - start, 0)", "end - start"), ("start = max", "start = min")],
        [[["08:00", "12:00"], ["11:15", "13:00"]], [["08:00", "09:00"], ["09:00", "10:00"]],
         [["00:00", "23:59"], ["10:00", "10:01"]], [["14:00", "15:00"], ["08:00", "09:30"]]],
        lambda d, w: [[f"{(h := d.integer(0, 20)):02}:{d.integer(0, 29):02}",
                       f"{d.integer(h, 23):02}:{d.integer(30, 59):02}"] for _ in "ab"],
        tier="medium",
    ),
    _task(
        "parsing", "read_row",
        """Write `read_row(line)`. It splits a line at commas that are not inside double quotes, and
        gives the list of fields. The quotes around a field are removed, and two double quotes
        inside a quoted field stand for one. Fields keep their white space.""",
        """
        def read_row(line):
            fields, field, is_quoted, at = [], "", False, 0
            while at < len(line):
                character = line[at]
                if character == '"' and is_quoted and line[at + 1 : at + 2] == '"':
                    field += '"'
                    at += 1
                elif character == '"':
                    is_quoted = not is_quoted
                elif character == "," and not is_quoted:
                    fields.append(field)
                    field = ""
                else:
                    field += character
                at += 1
            return [*fields, field]
        """,
        [(' and not is_quoted', ""),
         ("at += 1\n    return", "at += 1\n    return [] if not line else")],
        [['a,"b, c",d'], ['"say ""hi""",2'], [""], [","], ['"",x'], [" a , b "]],
        lambda d, w: [",".join(d.choice(('"{}, x"', "{}", '"{}""y"', " {}")).format(_word(d))
                               for _ in range(d.integer(1, 4)))],
        tier="hard",
    ),
    _task(
        "parsing", "read_duration",
        """Write `read_duration(text)`. It reads a duration such as '1h 20m', '45m' or '2h' and
        gives it in minutes. Hours come before minutes, each at most once, with white space allowed
        between; minutes after hours are under 60. Anything else, the empty text too, gives
        None.""",
        """
        import re


        def read_duration(text):
            found = re.fullmatch(r"(?:([0-9]+)h)?[ ]*(?:([0-9]+)m)?", text.strip())
            if not found or found[1] is None and found[2] is None:
                return None
            hours, minutes = int(found[1] or 0), int(found[2] or 0)
            return None if found[1] and minutes >= 60 else hours * 60 + minutes
        """,
        [("minutes >= 60", "minutes > 60"), ("found[1] is None and found[2] is None", "False")],
        [["1h 20m"], ["90m"], [""], ["2h"], ["1h60m"], ["20m 1h"], ["1h 59m"], ["h"], ["5"],
         ["1 h"]],
        lambda d, w: [d.choice(("{a}h {b}m", "{b}m", "{a}h{b}m", "{a}h", "{b}")).format(
            a=d.integer(0, 30), b=d.integer(0, 99))],
        tier="medium",
    ),
    _task(
        "parsing", "check_brackets",
        """Write `check_brackets(text)`. It gives -1 when all round and square brackets of a text
        are closed in the right order; otherwise the place, counted from 0, of the first character
        at which it is sure that they are not, or the length of the text when some are never
        closed.""",
        """
        def check_brackets(text):
            opened = []
            for place, character in enumerate(text):
                if character in "([":
                    opened.append(character)
                elif character in ")]":
                    if not opened or opened.pop() + character not in ("()", "[]"):
                        return place
            return len(text) if opened else -1
        """,
        [("return len(text) if opened else -1", "return -1"), ("return place", "return place + 1")],
        [["a(b[c]d)"], ["(]"], [""], ["(("], [")"], ["[(])"], ["x"]],
        lambda d, w: [_word(d, 0, 8, "()[]a")],
        tier="medium",
    ),
    _task(
        "structures", "flatten",
        """Write `flatten(tree)`. It takes a dict whose values may be dicts themselves, to any
        depth, and gives one dict whose keys are the ways to the values, joined by '/'. Empty dicts
        inside are kept as values. The dict given is not changed.""",
        """
        def flatten(tree):
            flat = {}
            for key, value in tree.items():
                if isinstance(value, dict) and value:
                    for way, leaf in flatten(value).items():
                        flat[key + "/" + way] = leaf
                else:
                    flat[key] = value
            return flat
        """,
        [(" and value:", ":"), ('key + "/" + way', "way")],
        [[{"a": 1, "b": {"c": 2, "d": {}}}], [{"x": {"y": {"z": None}}}], [{}], [{"a": {}}],
         [{"p": {"q": [1, {"r": 2}]}}]],
        lambda d, w: [{_word(d, 1, 2): d.choice((d.integer(0, 9), {}, {_word(d): {_word(d): 1}}))
                       for _ in range(d.integer(0, 4))}],
        tier="medium",
    ),
    _task(
        "structures", "top_three",
        """Write `top_three(scores)`. It takes a dict from names to whole numbers and gives the
        names with the three highest numbers, best first, equal ones in alphabetical order. When
        others are equal to the third, they are in the list too.""",
        """
        def top_three(scores):
            ranked = sorted(scores, key=lambda name: (-scores[name], name))
            if len(ranked) <= 3:
                return ranked
            return [name for name in ranked if scores[name] >= scores[ranked[2]]]
        """,
        [(">= scores[ranked[2]]", "> scores[ranked[2]]"),
         ("(-scores[name], name)", "-scores[name]")],
        [[{"ada": 5, "bo": 9, "cy": 7, "di": 1}], [{"d": 2, "c": 2, "b": 2, "a": 2}], [{}],
         [{"x": 1}], [{"b": 3, "a": 3, "c": 1, "e": 1, "d": 1}]],
        lambda d, w: [{_word(d, 1, 3): d.integer(0, 5) for _ in range(d.integer(0, 8))}],
        tier="hard",
    ),
    _task(
        "structures", "pairs_that_sum",
        """Write `pairs_that_sum(numbers, total)`. It gives the sorted list of all different pairs
        [a, b] with a <= b that can be formed from two items of the list at different places and
        whose sum is total.""",
        """
        def pairs_that_sum(numbers, total):
            found = set()
            for place, one in enumerate(numbers):
                for other in numbers[place + 1 :]:
                    if one + other == total:
                        found.add((min(one, other), max(one, other)))
            return [list(pair) for pair in sorted(found)]
        """,
        [("place + 1", "place"), ("(min(one, other), max(one, other))", "(one, other)")],
        [[[1, 4, 3, 2], 5], [[2, 2, 2], 4], [[], 0], [[3], 6], [[0, 0], 0], [[-1, 1, 5], 0],
         [[5, 1], 6]],
        lambda d, w: [_numbers(d, -5, 9), d.integer(-2, 10)],
        tier="easy",
    ),
    _task(
        "arithmetic", "split_bill",
        """Write `split_bill(cents, people)`. It shares an amount in cents among people so that the
        shares differ by at most one cent, the larger ones first, and gives the list of shares. For
        0 or fewer people it gives an empty list.""",
        """
        def split_bill(cents, people):
            if people <= 0:
                return []
            share, rest = divmod(cents, people)
            return [share + 1] * rest + [share] * (people - rest)
        """,
        [("[share + 1] * rest + [share] * (people - rest)",
          "[share] * (people - rest) + [share + 1] * rest"),
         ("people <= 0", "people < 0")],
        [[1000, 3], [7, 4], [5, 0], [0, 2], [2, 5], [10, -1], [9, 3]],
        lambda d, w: [d.integer(0, 5000), d.integer(1, 9)],
        tier="easy",
    ),
    _task(
        "arithmetic", "moving_sum",
        """Write `moving_sum(numbers, width)`. It gives the list of the sums of every width
        neighbouring numbers, in order. When width is under 1 or over the length of the list, it
        gives an empty list.""",
        """
        def moving_sum(numbers, width):
            if width < 1:
                return []
            return [sum(numbers[at : at + width]) for at in range(len(numbers) - width + 1)]
        """,
        [("- width + 1", "- width"), ("if width < 1:\n        return []\n    ", "")],
        [[[1, 2, 3, 4], 2], [[5, -5, 5], 3], [[], 1], [[1, 2], 3], [[1, 2], 0], [[7], 1]],
        lambda d, w: [_numbers(d), d.integer(-1, 6)],
        tier="medium",
    ),
    _task(
        "arithmetic", "roman",
        """Write `roman(number)`. It writes a whole number from 1 to 3999 in Roman numerals, with
        the subtractive forms IV, IX, XL, XC, CD and CM. Other numbers give None.""",
        """
        def roman(number):
            if not 1 <= number <= 3999:
                return None
            values = (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1)
            signs = ("M", "CM", "D", "CD", "C", "XC", "L", "XL", "X", "IX", "V", "IV", "I")
            text = ""
            for value, sign in zip(values, signs):
                count, number = divmod(number, value)
                text += sign * count
            return text
        """,
        [("<= 3999", "< 3999"), ('"IX"', '"VIIII"')],
        [[1994], [49], [0], [3999], [4000], [1], [444], [9]],
        lambda d, w: [d.integer(1, 3999)],
        tier="medium",
    ),
    _task(
        "grouping", "by_first",
        """Write `by_first(words)`. It gives a dict from each first letter, in lower case, to the
        sorted list of the different words that begin with it, all in lower case. Empty words are
        left out.""",
        """
        def by_first(words):
            groups = {}
            for word in sorted({word.lower() for word in words if word}):
                groups.setdefault(word[0], []).append(word)
            return {letter: sorted(group) for letter, group in groups.items()}
        """,
        [("sorted({word.lower() for word in words if word})",
          "[word.lower() for word in words if word]"), (" if word}", "}")],
        [[["Oak", "oak", "ash"]], [["b", "B", "a", "bb"]], [[]], [[""]], [["x", "", "x"]]],
        lambda d, w: [[_word(d, 0, 3, "abAB") for _ in range(d.integer(0, 7))]],
        tier="easy",
    ),
    _task(
        "grouping", "balance",
        """Write `balance(entries)`. Each entry is a list of two: 'in' or 'out', and an amount in
        cents, which is not negative. It gives a list of three: the final balance, which starts at
        0, the lowest balance that was ever reached (0 at the start counts), and how many entries
        ended below 0.""",
        """
        def balance(entries):
            total = lowest = below = 0
            for kind, amount in entries:
                total += amount if kind == "in" else -amount
                lowest = min(lowest, total)
                below += total < 0
            return [total, lowest, below]
        """,
        [("total < 0", "total <= 0"),
         ("lowest = min(lowest, total)", "lowest = min(lowest, amount)")],
        [[[["in", 500], ["out", 700], ["in", 300]]], [[["out", 1]]], [[]],
         [[["in", 5], ["out", 5]]], [[["in", 9]]]],
        lambda d, w: [[[d.choice(("in", "out")), d.integer(0, 90)]
                       for _ in range(d.integer(0, 7))]],
        tier="medium",
    ),
    _task(
        "grouping", "join_tables",
        """Write `join_tables(people, teams)`. people is a list of dicts with 'name' and 'team' (a
        number or None), teams a list of dicts with 'id' and 'title'. It gives a list of [name,
        title] in the order of people; title is None where no team has that id. Of two teams with
        one id the first counts.""",
        """
        def join_tables(people, teams):
            titles = {}
            for team in teams:
                titles.setdefault(team["id"], team["title"])
            return [[person["name"], titles.get(person["team"])] for person in people]
        """,
        [('titles.setdefault(team["id"], team["title"])', 'titles[team["id"]] = team["title"]'),
         ('titles.get(person["team"])', 'titles[person["team"]]')],
        [[[{"name": "Ines", "team": 1}, {"name": "Owen", "team": None}],
          [{"id": 1, "title": "payroll"}]],
         [[{"name": "Hana", "team": 2}], [{"id": 2, "title": "a"}, {"id": 2, "title": "b"}]],
         [[], []], [[{"name": "x", "team": 9}], []]],
        lambda d, w: [[{"name": _word(d), "team": d.choice((1, 2, 3, None))} for _ in range(3)],
                      [{"id": d.integer(1, 3), "title": _word(d)} for _ in range(3)]],
        tier="hard",
    ),
    _task(
        "strings", "squeeze",
        """Write `squeeze(text)`. It shortens every run of three or more equal characters to two of
        them. Case counts.""",
        """
        def squeeze(text):
            result = ""
            for character in text:
                if not result.endswith(character * 2):
                    result += character
            return result
        """,
        [("character * 2", "character * 3"), ("if not result", "if not result.lower()")],
        [["sooo good"], ["aab"], [""], ["xxxxXXX"], ["    "], ["aaAaa"]],
        lambda d, w: ["".join(d.choice("aAb") * d.integer(1, 4) for _ in range(d.integer(0, 5)))],
        tier="easy",
        repair=True,
    ),
    _task(
        "structures", "running_median",
        """Write `running_median(numbers)`. It gives a list: for each place the median of all
        numbers up to it, it included. Of an even count the median is the lower of the two in the
        middle. The list given is not changed.""",
        """
        def running_median(numbers):
            medians = []
            for count in range(1, len(numbers) + 1):
                medians.append(sorted(numbers[:count])[(count - 1) // 2])
            return medians
        """,
        [("(count - 1) // 2", "count // 2"),
         ("range(1, len(numbers) + 1)", "range(1, len(numbers))")],
        [[[5, 1, 4, 2]], [[3]], [[]], [[2, 2, 9]], [[9, 8, 7, 6]]],
        lambda d, w: [_numbers(d)],
        tier="hard",
        repair=True,
    ),
)  # fmt: skip
