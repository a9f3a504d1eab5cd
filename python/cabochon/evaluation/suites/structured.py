"""Cases of the suite `structured`: facts in a text, wanted as JSON of a given schema."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..draw import Draw
from .shipped import examples, flat, main, woven

CASES = 60
_SHARES = {"flat": 20, "arrays": 20, "nested": 20}

Fields = dict[str, Any]


def cases(seed: int = 0, n: int = CASES) -> list[Fields]:
    """The first `n` cases of a seed; those of seed 0 hold the hand-written ones."""
    return woven(
        "structured",
        _SHARES,
        _written(),
        _made,
        seed=seed,
        n=n,
        max_tokens=512,
        grader="json",
    )


def _made(family: str, tier: str, draw: Draw, made: Sequence[Mapping[str, Any]]) -> Fields:
    return draw.choice(_MAKERS[family])(draw, tier)


def _ask(
    text: str,
    schema: Fields,
    value: Fields,
    *,
    cluster: str,
    absent: Sequence[str] = (),
    unordered: Sequence[str] = (),
    right: Sequence[Fields] = (),
    alternatives: Mapping[str, Sequence[str]] | None = None,
    **more: Any,
) -> Fields:
    """A case.

    absent: keys of the top level that must not have a value.
    unordered: keys of the top level whose lists may come in any order.
    right: more values that pass.
    alternatives: of a text of the value, all texts that are taken for it.
    """
    texts = alternatives or {}
    values = [
        [path, {"$text": list(texts[pattern["$text"]])}]
        if isinstance(pattern, dict) and pattern.get("$text") in texts
        else [path, pattern]
        for path, pattern in _leaves(value, (), unordered)
    ]
    values += [[[key], {"$absent": True}] for key in absent]
    prompt = (
        f"{flat(text)}\n\nReply with one JSON object that is valid against this JSON Schema, and "
        f"with nothing else:\n{json.dumps(schema, ensure_ascii=False, indent=2)}"
    )
    ideals = [_json(value), json.dumps(value, ensure_ascii=False, indent=2), *map(_json, right)]
    return {
        **more,
        "cluster_id": f"structured-{cluster}",
        "prompt": prompt,
        "schema": schema,
        "expected": {"values": values},
        "ideal": ideals,
        "wrong": _wrong(schema, value, Draw("structured", "wrong", prompt)),
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _leaves(
    value: Any, path: tuple[str | int, ...], unordered: Sequence[str]
) -> Iterator[tuple[list[str | int], Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, key), unordered)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index), unordered)
    elif isinstance(value, list):
        items = [_pattern(item) for item in value]
        yield list(path), {"$set": items} if path[-1] in unordered else items
    else:
        yield list(path), _pattern(value)


def _pattern(value: Any) -> Any:
    return {"$text": value} if isinstance(value, str) else value


# --- answers that must fail ----------------------------------------------------------------------


def _wrong(schema: Fields, value: Fields, draw: Draw) -> list[list[str]]:
    """A fence, and four more of the mistakes that can be made with this value."""
    text, pretty = _json(value), json.dumps(value, ensure_ascii=False, indent=2)
    kinds: list[list[str]] = [
        [_json(schema), "schema_echoed"],
        [f"Here is the JSON object:\n{pretty}", "text_around"],
        [f"{text[:-1]}, }}", "not_json"],
        [_quoted(value), "not_json"],
        [pretty.replace("{\n", "{\n  // taken from the text\n", 1), "not_json"],
        [_twice(value), "duplicate_key"],
        [_json({**value, "remark": "none"}), "invalid"],
        [_json(_changed(value)), "wrong_value"],
    ]
    if (wrong := _as_text(value)) is not None:
        kinds.append([_json(wrong), "invalid"])
    lists = [key for key, item in value.items() if isinstance(item, list) and item]
    if lists and "minItems" not in schema["properties"][lists[0]]:
        kinds.append([_json({**value, lists[0]: []}), "wrong_value"])
    if lists:
        return [[f"```json\n{pretty}\n```", "fenced"], kinds[-1], *draw.sample(kinds[:-1], 3)]
    return [[f"```json\n{pretty}\n```", "fenced"], *draw.sample(kinds, 4)]


def _quoted(value: Any) -> str:
    """As Python would print it."""
    return repr(value)


def _twice(value: Fields) -> str:
    key, item = next(iter(value.items()))
    return f"{{{_json(key)}: {_json(item)}, {_json(value)[1:]}"


def _as_text(value: Fields) -> Fields | None:
    """The first number of the top level as text: "3" for 3."""
    for key, item in value.items():
        if isinstance(item, (int, float)) and not isinstance(item, bool):
            return {**value, key: str(item)}
    return None


def _changed(value: Fields) -> Fields:
    """One truth value or number of it is another, and the schema still takes it."""
    for key, item in value.items():
        if isinstance(item, bool):  # of the top level: further down they tell alternatives apart
            return {**value, key: not item}
    changed = copy.deepcopy(value)
    if not _lowered(changed):
        raise ValueError(f"a value without a number or truth value to change: {value}")
    return changed


def _lowered(value: Any) -> bool:
    """Takes one off the first whole number above 1, in place; whether there is one."""
    places = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in places:
        if isinstance(item, int) and not isinstance(item, bool) and item > 1:
            value[key] = item - 1
            return True
        if isinstance(item, (dict, list)) and _lowered(item):
            return True
    return False


# --- schemas -------------------------------------------------------------------------------------


def _object(properties: Fields, optional: Sequence[str] = (), **more: Any) -> Fields:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
        **more,
    }


def _list(items: Fields, **more: Any) -> Fields:
    return {"type": "array", "items": items, **more}


def _choice(*names: str) -> Fields:
    return {"type": "string", "enum": list(names)}


_TEXT: Fields = {"type": "string"}
_WHOLE: Fields = {"type": "integer"}
_NUMBER: Fields = {"type": "number"}
_FLAG: Fields = {"type": "boolean"}
_DATE: Fields = {"type": "string", "format": "date", "description": "YYYY-MM-DD"}


# --- word lists ----------------------------------------------------------------------------------

_PEOPLE = ("Ines Varga", "Tomas Ekdahl", "Mirela Costin", "Owen Tallis", "Priya Raman",
           "Jonas Weidt", "Lucie Armand", "Samir Haddou", "Greta Solheim", "Paulo Seixas",
           "Hana Kobori", "Dario Venturi", "Nadia Brykova", "Felix Ambrose", "Maeve Corrigan",
           "Tariq Belmont")  # fmt: skip
_SITES = ("Brackwell", "Osterdal", "Pinemoor", "Valdessa", "Kirrow", "Tamberly", "Saltmere",
          "Hollin Bridge")  # fmt: skip
_FIRMS = ("Corvane Glass", "Lumbergate", "Halvern Optics", "Swiftlane", "Bramwick Foods",
          "Ostrava Looms", "Penrith Valves", "Quillon Paper", "Marrow & Finch")  # fmt: skip
_MACHINES = ("conveyor 4", "press 12", "boiler 2", "forklift 7", "packing line 3", "chiller 9",
             "compressor 5", "labeller 6")  # fmt: skip
_GOODS = ("label printer", "pallet jack", "desk lamp", "badge reader", "toner cartridge",
          "safety vest", "network switch", "standing desk", "barcode scanner", "whiteboard",
          "conference phone", "monitor arm")  # fmt: skip
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September",
           "October", "November", "December")  # fmt: skip
_SKILLS = ("first aid", "forklift licence", "welding", "Spanish", "payroll", "cold storage",
           "fire warden", "electrical safety")  # fmt: skip


def _day(draw: Draw) -> tuple[str, str]:
    """A day as a person writes it, and as JSON has it."""
    year, month, day = draw.integer(2031, 2034), draw.integer(1, 12), draw.integer(1, 28)
    name = _MONTHS[month - 1]
    written = draw.choice((f"{day} {name} {year}", f"{name} {day}, {year}"))
    return written, f"{year}-{month:02}-{day:02}"


def _money(draw: Draw, low: int = 20, high: int = 4000) -> tuple[str, float]:
    cents = draw.choice((0, 25, 50, 75, 90))
    units = draw.integer(low, high)
    return f"{units:,}.{cents:02}", units + cents / 100


def _phone(draw: Draw) -> str:
    return f"555-01{draw.integer(0, 99):02}"


def _code(draw: Draw, letters: str) -> str:
    return f"{letters}-{draw.integer(1000, 9999)}"


# --- flat objects --------------------------------------------------------------------------------


def _flat_repair(draw: Draw, tier: str) -> Fields:
    machine, site, person = (draw.choice(pool) for pool in (_MACHINES, _SITES, _PEOPLE))
    written, day = _day(draw)
    hours, urgent, code = draw.integer(2, 36), draw.chance(0.5), _code(draw, "WO")
    properties = {"order": _TEXT, "machine": _TEXT, "site": _TEXT, "due": _DATE,
                  "downtime_hours": _WHOLE, "urgent": _FLAG}  # fmt: skip
    value: Fields = {"order": code, "machine": machine, "site": site, "due": day,
                     "downtime_hours": hours, "urgent": urgent}  # fmt: skip
    haste = draw.choice(
        ("This one is urgent.", "Please treat it as urgent.")
        if urgent
        else ("There is no hurry, so do not mark it as urgent.", "It is not urgent.")
    )
    text = draw.choice((
        "Work order {code} came in from {site}: {machine} has to be repaired by {written}. We "
        "reckon with {hours} hours of downtime. {haste}",
        "{machine} at {site} is down. I opened {code} for it, to be closed by {written} at the "
        "latest; the line will stand still for {hours} hours. {haste}",
    ))  # fmt: skip
    if tier != "easy":
        properties["contact"], value["contact"] = _TEXT, person
        text += " The contact on site is {person}."
    if tier == "hard":
        other, _ = _day(draw)
        text += (
            f" An earlier order for the same machine, {_code(draw, 'WO')}, was closed on {other}."
        )
    facts = {"code": code, "site": site, "machine": machine, "written": written, "hours": hours,
             "haste": haste, "person": person}  # fmt: skip
    return _ask(text.format(**facts), _object(properties), value, cluster="repair-order")


def _flat_parcel(draw: Draw, tier: str) -> Fields:
    sender, receiver = draw.sample(_FIRMS, 2)
    written, day = _day(draw)
    grams, insured = draw.integer(2, 90) * 100, draw.chance(0.5)
    price, amount = _money(draw, 4, 60)
    code = _code(draw, "PX")
    properties = {"tracking": _TEXT, "sender": _TEXT, "receiver": _TEXT,
                  "weight_kg": _NUMBER, "insured": _FLAG, "delivered": _DATE}  # fmt: skip
    value: Fields = {"tracking": code, "sender": sender, "receiver": receiver,
                     "weight_kg": grams / 1000, "insured": insured, "delivered": day}  # fmt: skip
    cover = "with" if insured else "without"
    weight = f"{grams / 1000:g} kg" if tier == "easy" else f"{grams:,} grams"
    text = draw.choice((
        f"Parcel {code} from {sender} reached {receiver} on {written}. It weighed {weight} and "
        f"travelled {cover} insurance.",
        f"{receiver} confirmed on {written} that a parcel of {weight} had arrived, sent by "
        f"{sender} {cover} insurance under the tracking number {code}.",
    ))  # fmt: skip
    if tier == "hard":
        properties["postage"], value["postage"] = _NUMBER, amount
        text += f" {sender} had paid {price} euros of postage and 2.00 euros for the label roll."
    return _ask(text, _object(properties), value, cluster="parcel")


def _flat_badge(draw: Draw, tier: str) -> Fields:
    person, boss = draw.sample(_PEOPLE, 2)
    written, day = _day(draw)
    team = draw.choice(("logistics", "payroll", "facilities", "field service"))
    floor, parking = draw.integer(2, 14), draw.chance(0.5)
    properties = {"name": _TEXT, "team": _choice("facilities", "field service", "logistics",
                                                 "payroll"),
                  "starts": _DATE, "floor": _WHOLE, "parking": _FLAG}  # fmt: skip
    value: Fields = {"name": person, "team": team, "starts": day, "floor": floor,
                     "parking": parking}  # fmt: skip
    place = "gets a parking space" if parking else "comes by train and needs no parking space"
    text = draw.choice((
        f"{person} joins {team} on {written}. The desk is on floor {floor}; {person.split()[0]} "
        f"{place}.",
        f"Badge request: {person}, first day {written}, {team} team, floor {floor}. "
        f"{person.split()[0]} {place}.",
    ))  # fmt: skip
    if tier != "easy":
        properties["phone"], value["phone"] = {"type": ["string", "null"]}, None
        if tier == "medium" or draw.chance(0.5):
            value["phone"] = _phone(draw)
            text += f" Reachable under {value['phone']}."
        else:
            text += " A phone number is not known yet; give null for it."
        text += f" Requested by {boss}, extension {draw.integer(110, 190)}."
    return _ask(text, _object(properties), value, cluster="badge")


# --- arrays, enums, optional fields --------------------------------------------------------------


def _arrays_order(draw: Draw, tier: str) -> Fields:
    count = {"easy": 2, "medium": 3, "hard": 4}[tier]
    goods = draw.sample(_GOODS, count)
    amounts = [draw.integer(2, 40) for _ in goods]
    prices = [_money(draw, 3, 900) for _ in goods]
    firm, priority = draw.choice(_FIRMS), draw.choice(("low", "normal", "high"))
    has_note = tier == "hard" and draw.chance(0.5)
    item = _object({"name": _TEXT, "quantity": {"type": "integer", "minimum": 1},
                    "unit_price": _NUMBER})  # fmt: skip
    schema = _object(
        {"customer": _TEXT, "priority": _choice("low", "normal", "high"),
         "items": _list(item), "note": _TEXT},
        optional=("note",),
    )  # fmt: skip
    lines = [
        draw.choice((f"{n} x {g} at {p} euros", f"{n} pieces of {g} for {p} euros each"))
        for n, g, (p, _) in zip(amounts, goods, prices, strict=True)
    ]
    text = (
        f"{firm} orders " + ", ".join(lines[:-1]) + f" and {lines[-1]}. The priority is {priority}."
    )
    value: Fields = {
        "customer": firm,
        "priority": priority,
        "items": [
            {"name": g, "quantity": n, "unit_price": p}
            for n, g, (_, p) in zip(amounts, goods, prices, strict=True)
        ],
    }
    if has_note:
        value["note"] = f"deliver to gate {draw.integer(2, 9)}"
        text += f" Note of the customer: {value['note']}"
    else:
        text += " There is no note; leave that field out. Keep the order of the items."
    return _ask(text, schema, value, absent=() if has_note else ("note",), cluster="order")


def _arrays_profile(draw: Draw, tier: str) -> Fields:
    person, site = draw.choice(_PEOPLE), draw.choice(_SITES)
    has = draw.sample(_SKILLS, {"easy": 2, "medium": 3, "hard": 4}[tier])
    lacking = draw.choice([skill for skill in _SKILLS if skill not in has])
    shift = draw.choice(("early", "late", "night"))
    years = draw.integer(2, 25)
    schema = _object(
        {"name": _TEXT, "site": _TEXT, "shift": _choice("early", "late", "night"),
         "years": _WHOLE, "skills": _list(_TEXT, uniqueItems=True), "phone": _TEXT},
        optional=("phone",),
    )  # fmt: skip
    listed = ", ".join(has[:-1]) + f" and {has[-1]}"
    text = draw.choice((
        f"{person} works the {shift} shift at {site} and has served for {years} years. Proven "
        f"skills: {listed}. The course on {lacking} was cancelled, so it does not count.",
        f"At {site}, {person} ({years} years of service, {shift} shift) is qualified in {listed} "
        f"but not in {lacking}.",
    ))  # fmt: skip
    value: Fields = {"name": person, "site": site, "shift": shift, "years": years, "skills": has}
    has_phone = tier != "easy" and draw.chance(0.5)
    if has_phone:
        value["phone"] = _phone(draw)
        text += f" Phone: {value['phone']}."
    else:
        text += " No phone number is on file; leave the field out."
    return _ask(
        text,
        schema,
        value,
        absent=() if has_phone else ("phone",),
        unordered=("skills",),
        right=[{**value, "skills": has[::-1]}],
        cluster="profile",
    )


def _arrays_checks(draw: Draw, tier: str) -> Fields:
    count = {"easy": 2, "medium": 3, "hard": 5}[tier]
    rooms = draw.sample(("hall A", "hall B", "cold store", "loading dock", "paint shop", "archive",
                         "canteen"), count)  # fmt: skip
    results = [draw.choice(("ok", "defect", "not_checked")) for _ in rooms]
    degrees = [draw.integer(2, 31) for _ in rooms]
    written, day = _day(draw)
    inspector = draw.choice(_PEOPLE)
    words = {"ok": "everything was fine", "defect": "a defect was found",
             "not_checked": "nobody could check it"}  # fmt: skip
    entry = _object(
        {"place": _TEXT, "result": _choice("ok", "defect", "not_checked"),
         "celsius": {"type": ["integer", "null"]}}
    )  # fmt: skip
    parts, checks = [], []
    for room, result, degree in zip(rooms, results, degrees, strict=True):
        is_known = result != "not_checked"
        reading = f" at {degree} degrees Celsius" if is_known else ", so there is no temperature"
        parts.append(f"{room}: {words[result]}{reading}")
        checks.append({"place": room, "result": result, "celsius": degree if is_known else None})
    schema = _object({"date": _DATE, "inspector": _TEXT, "rooms": _WHOLE, "checks": _list(entry)})
    text = (
        f"Round of {written} by {inspector}. " + "; ".join(parts) + ". Keep this order; "
        "'rooms' is the number of entries."
    )
    value: Fields = {"date": day, "inspector": inspector, "rooms": count, "checks": checks}
    return _ask(text, schema, value, cluster="inspection")


# --- three levels, with definitions, alternatives and patterns -----------------------------------


def _nested_claim(draw: Draw, tier: str) -> Fields:
    person, boss = draw.sample(_PEOPLE, 2)
    code = f"EX{draw.integer(100000, 999999)}"
    count = {"easy": 1, "medium": 2, "hard": 3}[tier]
    lines, texts, total = [], [], 0.0
    for kind in draw.sample(("mileage", "meal", "mileage", "meal", "hotel"), count):
        written, day = _day(draw)
        if kind == "mileage":
            km = draw.integer(12, 480)
            lines.append({"date": day, "cost": {"kind": "mileage", "km": km}})
            texts.append(f"on {written} a drive of {km} km")
        else:
            price, amount = _money(draw, 8, 240)
            total += amount
            lines.append({"date": day, "cost": {"kind": kind, "amount": amount}})
            texts.append(f"on {written} a {kind} for {price} euros")
    paid = draw.chance(0.5)
    cost = {
        "oneOf": [
            _object({"kind": {"const": "mileage"}, "km": _WHOLE}),
            _object({"kind": _choice("hotel", "meal"), "amount": _NUMBER}),
        ]
    }
    schema = _object(
        {
            "claim": {"type": "string", "pattern": "^EX[0-9]{6}$"},
            "employee": {"$ref": "#/$defs/person"},
            "lines": _list({"$ref": "#/$defs/line"}, minItems=1),
            "paid": _FLAG,
        },
    )
    schema["$defs"] = {
        "person": _object({"name": _TEXT, "manager": _object({"name": _TEXT})}),
        "line": _object({"date": _DATE, "cost": cost}),
    }
    state = "has been paid out" if paid else "has not been paid out yet"
    text = (
        f"Expense claim {code} of {person}, whose manager is {boss}: "
        + "; ".join(texts)
        + f". The "
        f"claim {state}. Keep the order of the lines."
    )
    value: Fields = {
        "claim": code,
        "employee": {"name": person, "manager": {"name": boss}},
        "lines": lines,
        "paid": paid,
    }
    return _ask(text, schema, value, cluster="expense-claim")


def _nested_shipment(draw: Draw, tier: str) -> Fields:
    firm, start, end = draw.choice(_FIRMS), *draw.sample(_SITES, 2)
    count = {"easy": 1, "medium": 2, "hard": 3}[tier]
    code = f"{draw.choice('ABCDEF')}{draw.choice('GHJKLM')}{draw.integer(100, 999)}"
    by_truck = draw.chance(0.5)
    crates, texts = [], []
    for number, good in enumerate(draw.sample(_GOODS, count), 1):
        pieces, kilos, fragile = draw.integer(2, 80), draw.integer(3, 95), draw.chance(0.4)
        crates.append(
            {"number": number, "content": {"good": good, "pieces": pieces, "fragile": fragile},
             "kg": kilos}
        )  # fmt: skip
        care = "fragile" if fragile else "not fragile"
        texts.append(f"crate {number} holds {pieces} x {good} ({care}), {kilos} kg")
    if by_truck:
        plate = f"KR {draw.integer(100, 999)}"
        carrier: Fields = {"mode": "truck", "plate": plate}
        how = f"by truck with the plate {plate}"
    else:
        wagon = draw.integer(11, 88)
        carrier = {"mode": "rail", "wagon": wagon}
        how = f"by rail in wagon {wagon}"
    schema = _object(
        {
            "shipment": {"type": "string", "pattern": "^[A-F][G-M][0-9]{3}$"},
            "route": _object({"from": {"$ref": "#/$defs/place"}, "to": {"$ref": "#/$defs/place"}}),
            "carrier": {
                "oneOf": [
                    _object({"mode": {"const": "truck"}, "plate": _TEXT}),
                    _object({"mode": {"const": "rail"}, "wagon": _WHOLE}),
                ]
            },
            "crates": _list({"$ref": "#/$defs/crate"}),
        }
    )
    schema["$defs"] = {
        "place": _object({"site": _TEXT}),
        "crate": _object(
            {
                "number": _WHOLE,
                "content": _object({"good": _TEXT, "pieces": _WHOLE, "fragile": _FLAG}),
                "kg": _WHOLE,
            }
        ),
    }
    text = (
        f"{firm} sends shipment {code} from {start} to {end}, {how}. Contents: "
        + "; ".join(texts)
        + "."
    )
    value: Fields = {
        "shipment": code,
        "route": {"from": {"site": start}, "to": {"site": end}},
        "carrier": carrier,
        "crates": crates,
    }
    return _ask(text, schema, value, cluster="shipment")


def _nested_project(draw: Draw, tier: str) -> Fields:
    firm, lead = draw.choice(_FIRMS), draw.choice(_PEOPLE)
    count = {"easy": 2, "medium": 2, "hard": 3}[tier]
    names = draw.sample(("survey", "design", "build", "test", "handover"), count)
    phases, texts = [], []
    for name in names:
        people = draw.sample(_PEOPLE, 2 if tier == "easy" else draw.integer(1, 3))
        written, day = _day(draw)
        is_done = draw.chance(0.5)
        state: Fields = {"done": True, "on": day} if is_done else {"done": False, "planned": day}
        phases.append({"name": name, "state": state, "team": {"size": len(people)}})
        ended = "finished on" if is_done else "still open, planned for"
        texts.append(f"phase '{name}' ({', '.join(people)}), {ended} {written}")
    written, day = _day(draw)
    budget = draw.integer(12, 95) * 1000
    schema = _object(
        {
            "client": _TEXT,
            "lead": _TEXT,
            "budget": _object({"euros": _WHOLE, "approved": _DATE}),
            "phases": _list({"$ref": "#/$defs/phase"}),
        }
    )
    schema["$defs"] = {
        "phase": _object(
            {
                "name": _TEXT,
                "state": {
                    "oneOf": [
                        _object({"done": {"const": True}, "on": _DATE}),
                        _object({"done": {"const": False}, "planned": _DATE}),
                    ]
                },
                "team": _object({"size": {**_WHOLE, "description": "people named"}}),
            }
        )
    }
    text = (
        f"Project for {firm}, led by {lead}. The budget of {budget:,} euros was approved on "
        f"{written}. " + "; ".join(texts) + ". List the phases in this order."
    )
    value: Fields = {
        "client": firm,
        "lead": lead,
        "budget": {"euros": budget, "approved": day},
        "phases": phases,
    }
    return _ask(text, schema, value, cluster="project")


_MAKERS: Mapping[str, Sequence[Callable[[Draw, str], Fields]]] = {
    "flat": (_flat_repair, _flat_parcel, _flat_badge),
    "arrays": (_arrays_order, _arrays_profile, _arrays_checks),
    "nested": (_nested_claim, _nested_shipment, _nested_project),
}


# --- written by hand -----------------------------------------------------------------------------


def _written() -> list[Fields]:
    return [
        *({"family": "flat", **case} for case in _written_flat()),
        *({"family": "arrays", **case} for case in _written_arrays()),
        *({"family": "nested", **case} for case in _written_nested()),
    ]


def _written_flat() -> list[Fields]:
    return [
        _ask(
            """Invoice header, please. Penrith Valves billed us under number 2031-0448 on 3 February
            2031; the total is 1,480.20 euros and it falls due thirty days later, on 5 March. The
            number on the envelope (77120) is the postal one.""",
            _object({"vendor": _TEXT, "number": _TEXT, "issued": _DATE, "due": _DATE,
                     "total": _NUMBER, "days_to_pay": _WHOLE}),
            {"vendor": "Penrith Valves", "number": "2031-0448", "issued": "2031-02-03",
             "due": "2031-03-05", "total": 1480.2, "days_to_pay": 30},
            tier="medium",
            cluster="invoice-header",
        ),
        _ask(
            """Meter reading from the plant room: meter WM-20 shows 10482 cubic metres. Last month
            it showed 10391. The seal is intact. Read by Hana Kobori.""",
            _object({"meter": _TEXT, "reading": _WHOLE, "previous": _WHOLE, "used": _WHOLE,
                     "seal_intact": _FLAG, "read_by": _TEXT}),
            {"meter": "WM-20", "reading": 10482, "previous": 10391, "used": 91,
             "seal_intact": True, "read_by": "Hana Kobori"},
            tier="medium",
            cluster="meter",
        ),
        _ask(
            """A guest left feedback at the front desk: four of five stars, would come again, room
            312, language Polish. She left no e-mail address.""",
            _object({"stars": {"type": "integer", "minimum": 1, "maximum": 5},
                     "would_return": _FLAG, "room": _WHOLE, "language": _TEXT,
                     "email": {"type": ["string", "null"]}}),
            {"stars": 4, "would_return": True, "room": 312, "language": "Polish", "email": None},
            tier="easy",
            cluster="feedback",
        ),
        _ask(
            """Please turn this voicemail into a callback ticket: "Hello, this is Maeve Corrigan of
            Bramwick Foods, it's about the cooling unit you sold us. Call me on 555-0148, and not
            before two in the afternoon. Oh, and it is not a complaint." """,
            _object({"caller": _TEXT, "company": _TEXT, "phone": _TEXT,
                     "earliest": {"type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]$",
                                  "description": "24 hours, HH:MM"},
                     "complaint": _FLAG}),
            {"caller": "Maeve Corrigan", "company": "Bramwick Foods", "phone": "555-0148",
             "earliest": "14:00", "complaint": False},
            tier="hard",
            cluster="voicemail",
        ),
        _ask(
            """Job posting: warehouse planner at Saltmere, permanent, 38 hours a week, from 1 June
            2032. The salary is 3,350 euros a month; the old posting said 3,100.""",
            _object({"title": _TEXT, "site": _TEXT, "permanent": _FLAG, "hours_per_week": _WHOLE,
                     "start": _DATE, "monthly_salary": _WHOLE}),
            {"title": "warehouse planner", "site": "Saltmere", "permanent": True,
             "hours_per_week": 38, "start": "2032-06-01", "monthly_salary": 3350},
            tier="medium",
            cluster="posting",
        ),
        _ask(
            """Press note: On 9 October 2033 Quillon Paper closed its mill in Kirrow for three days
            after a pump had failed. Nobody was hurt. Half of the 240 workers were sent home.""",
            _object({"company": _TEXT, "site": _TEXT, "date": _DATE, "days_closed": _WHOLE,
                     "cause": _TEXT, "injured": _WHOLE, "sent_home": _WHOLE}),
            {"company": "Quillon Paper", "site": "Kirrow", "date": "2033-10-09", "days_closed": 3,
             "cause": "pump failure", "injured": 0, "sent_home": 120},
            alternatives={"cause": ["pump failure", "a pump failure", "pump failed",
                                    "failed pump", "a pump had failed", "a failed pump",
                                    "a pump failed", "failure of a pump", "pump had failed",
                                    "the failure of a pump"]},
            tier="hard",
            cluster="press",
        ),
        _ask(
            """Coffee machine log: cleaned on 30 April 2031 by Jonas Weidt, 212 cups since the last
            cleaning, descaled: yes.""",
            _object({"date": _DATE, "by": _TEXT, "cups": _WHOLE, "descaled": _FLAG}),
            {"date": "2031-04-30", "by": "Jonas Weidt", "cups": 212, "descaled": True},
            tier="easy",
            cluster="coffee",
        ),
    ]  # fmt: skip


def _written_arrays() -> list[Fields]:
    entry = _object({"task": _TEXT, "owner": _TEXT, "due": {"type": ["string", "null"]}})
    return [
        _ask(
            """Minutes of the toolbox meeting: Owen Tallis orders new gloves, due 12 May 2031. Priya
            Raman checks the eyewash station; no date was agreed. Attendance: nine people. List the
            tasks as 'order new gloves' and 'check the eyewash station'; dates as YYYY-MM-DD, null
            where none was agreed.""",
            _object({"attendance": _WHOLE, "tasks": _list(entry)}),
            {"attendance": 9, "tasks": [
                {"task": "order new gloves", "owner": "Owen Tallis", "due": "2031-05-12"},
                {"task": "check the eyewash station", "owner": "Priya Raman", "due": None}]},
            tier="medium",
            cluster="toolbox",
        ),
        _ask(
            """The canteen at Hollin Bridge serves lentil soup (vegan), fish stew, and cheese
            dumplings (vegetarian) on Thursday. 85 portions are planned.""",
            _object({"day": _choice("Monday", "Tuesday", "Wednesday", "Thursday", "Friday"),
                     "portions": _WHOLE,
                     "dishes": _list(_object({"name": _TEXT,
                                              "diet": _choice("vegan", "vegetarian", "none")}))}),
            {"day": "Thursday", "portions": 85, "dishes": [
                {"name": "lentil soup", "diet": "vegan"},
                {"name": "fish stew", "diet": "none"},
                {"name": "cheese dumplings", "diet": "vegetarian"}]},
            tier="easy",
            cluster="canteen",
        ),
        _ask(
            """Release note to be filed: version 4.2.0 of the rota planner. Fixed: BUG-311 and
            BUG-298. BUG-305 was postponed to 4.3.0. No known issues, so that list is empty. Not a
            breaking release.""",
            _object({"version": _TEXT, "breaking": _FLAG, "fixed": _list(_TEXT),
                     "postponed": _list(_TEXT), "known_issues": _list(_TEXT)}),
            {"version": "4.2.0", "breaking": False, "fixed": ["BUG-311", "BUG-298"],
             "postponed": ["BUG-305"], "known_issues": []},
            unordered=("fixed",),
            right=[{"version": "4.2.0", "breaking": False, "fixed": ["BUG-298", "BUG-311"],
                    "postponed": ["BUG-305"], "known_issues": []}],
            tier="medium",
            cluster="release",
        ),
        _ask(
            """Temperature alarm in the cold store: at 01:10 it was -12 degrees, at 02:10 -9 and at
            03:10 -14. The limit is -10. Severity: warning, as it passed by itself. 'over_limit'
            counts the readings that were too warm.""",
            _object({"severity": _choice("info", "warning", "critical"), "limit": _WHOLE,
                     "readings": _list(_object({"time": _TEXT, "celsius": _WHOLE})),
                     "over_limit": _WHOLE, "resolved": _FLAG}),
            {"severity": "warning", "limit": -10, "readings": [
                {"time": "01:10", "celsius": -12}, {"time": "02:10", "celsius": -9},
                {"time": "03:10", "celsius": -14}], "over_limit": 1, "resolved": True},
            tier="hard",
            cluster="alarm",
        ),
        _ask(
            """Survey of the IT desk, 41 answers. Liked: opening hours, friendliness. Disliked:
            waiting time. Channel used most: chat. Nobody left a comment, so omit that field.""",
            _object({"answers": _WHOLE, "liked": _list(_TEXT), "disliked": _list(_TEXT),
                     "top_channel": _choice("phone", "mail", "chat", "counter"),
                     "comment": _TEXT}, optional=("comment",)),
            {"answers": 41, "liked": ["opening hours", "friendliness"],
             "disliked": ["waiting time"], "top_channel": "chat"},
            absent=("comment",),
            unordered=("liked",),
            tier="easy",
            cluster="survey",
        ),
        _ask(
            """Which vehicles may leave? The van (plate KR 201) is fuelled and inspected. The lorry
            (plate KR 388) is fuelled, but its inspection has run out. The trailer (plate KR 512)
            takes no fuel - use null - and is inspected. 'ready' lists the plates that may leave:
            inspected, and fuelled where they take fuel.""",
            _object({"vehicles": _list(_object({
                "plate": {"type": "string", "pattern": "^KR [0-9]{3}$"},
                "kind": _choice("van", "lorry", "trailer"),
                "fuelled": {"type": ["boolean", "null"]}, "inspected": _FLAG})),
                "count": _WHOLE, "ready": _list(_TEXT)}),
            {"vehicles": [
                {"plate": "KR 201", "kind": "van", "fuelled": True, "inspected": True},
                {"plate": "KR 388", "kind": "lorry", "fuelled": True, "inspected": False},
                {"plate": "KR 512", "kind": "trailer", "fuelled": None, "inspected": True}],
             "count": 3, "ready": ["KR 201", "KR 512"]},
            unordered=("ready",),
            tier="hard",
            cluster="vehicles",
        ),
        _ask(
            """Training day on 17 September 2032. Slots: 9:00 ladder safety, 10:30 manual handling,
            13:00 fire extinguishers. Twelve seats each. Registration is mandatory.""",
            _object({"date": _DATE, "seats": _WHOLE, "registration": _choice("mandatory",
                                                                            "optional"),
                     "slots": _list(_object({
                         "start": {"type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]$"},
                         "topic": _TEXT}), minItems=1)}),
            {"date": "2032-09-17", "seats": 12, "registration": "mandatory", "slots": [
                {"start": "09:00", "topic": "ladder safety"},
                {"start": "10:30", "topic": "manual handling"},
                {"start": "13:00", "topic": "fire extinguishers"}]},
            tier="medium",
            cluster="training",
        ),
    ]  # fmt: skip


def _with(definitions: Fields, properties: Fields) -> Fields:
    return {**_object(properties), "$defs": definitions}


def _written_nested() -> list[Fields]:
    def defined(name: str) -> Fields:
        return {"$ref": f"#/$defs/{name}"}

    contact = {"oneOf": [_object({"type": {"const": "mail"}, "address": _TEXT}),
                         _object({"type": {"const": "phone"}, "number": _TEXT})]}  # fmt: skip
    return [
        _ask(
            """Supplier card: Ostrava Looms, supplier number S-0917. Sales is Dario Venturi, best
            reached by mail at dario@ostrava-looms.example. Service is Nadia Brykova, by phone
            only: 555-0171. Rating 4.""",
            _with(
                {"contact": contact, "person": _object({"name": _TEXT,
                                                        "reach": defined("contact")})},
                {"name": _TEXT, "number": {"type": "string", "pattern": "^S-[0-9]{4}$"},
                 "rating": _WHOLE,
                 "people": _object({"sales": defined("person"), "service": defined("person")})},
            ),
            {"name": "Ostrava Looms", "number": "S-0917", "rating": 4, "people": {
                "sales": {"name": "Dario Venturi", "reach": {
                    "type": "mail", "address": "dario@ostrava-looms.example"}},
                "service": {"name": "Nadia Brykova", "reach": {
                    "type": "phone", "number": "555-0171"}}}},
            tier="medium",
            cluster="supplier",
        ),
        _ask(
            """Recipe of the test kitchen, batch TK07, 24 servings. Dough: 1200 grams flour, 700
            millilitres water. Topping: 400 grams onions. Bake for 35 minutes.""",
            _with(
                {"amount": _object({"value": _WHOLE, "unit": _choice("g", "ml")}),
                 "part": _object({"name": _TEXT, "ingredients": _list(_object(
                     {"name": _TEXT, "amount": defined("amount")}))})},
                {"batch": {"type": "string", "pattern": "^TK[0-9]{2}$"}, "servings": _WHOLE,
                 "parts": _list(defined("part")), "bake_minutes": _WHOLE},
            ),
            {"batch": "TK07", "servings": 24, "parts": [
                {"name": "dough", "ingredients": [
                    {"name": "flour", "amount": {"value": 1200, "unit": "g"}},
                    {"name": "water", "amount": {"value": 700, "unit": "ml"}}]},
                {"name": "topping", "ingredients": [
                    {"name": "onions", "amount": {"value": 400, "unit": "g"}}]}],
             "bake_minutes": 35},
            tier="medium",
            cluster="recipe",
        ),
        _ask(
            """Incident INC-2207. Opened by the monitoring on 2 July 2031. Service: badge doors.
            Cause: an expired certificate. Action taken by Felix Ambrose on 2 July, lasting 45
            minutes. Follow-up: renew the remaining 6 certificates, not done yet. Nobody from
            outside was affected.""",
            _with(
                {"source": {"oneOf": [
                    _object({"kind": {"const": "monitoring"}}),
                    _object({"kind": {"const": "person"}, "name": _TEXT})]},
                 "action": _object({"by": _TEXT, "on": _DATE, "minutes": _WHOLE})},
                {"id": {"type": "string", "pattern": "^INC-[0-9]{4}$"}, "opened": _object(
                    {"on": _DATE, "source": defined("source")}), "service": _TEXT,
                 "action": defined("action"), "follow_up": _object(
                     {"certificates": _WHOLE, "done": _FLAG}), "external_impact": _FLAG},
            ),
            {"id": "INC-2207", "opened": {"on": "2031-07-02", "source": {"kind": "monitoring"}},
             "service": "badge doors", "action": {"by": "Felix Ambrose", "on": "2031-07-02",
                                                   "minutes": 45},
             "follow_up": {"certificates": 6, "done": False}, "external_impact": False},
            tier="hard",
            cluster="incident",
        ),
        _ask(
            """Lease: Marrow & Finch rents hall B in Tamberly from 1 January 2032 for 36 months.
            Rent is 2,900 euros a month plus 310 euros for heating. The deposit, three rents without
            heating, has been paid.""",
            _with(
                {"money": _object({"rent": _WHOLE, "heating": _WHOLE,
                                   "deposit": _object({"amount": _WHOLE, "paid": _FLAG})})},
                {"tenant": _TEXT, "object": _object({"hall": {"type": "string",
                                                              "pattern": "^[A-Z]$"},
                                                     "site": _TEXT}),
                 "term": _object({"start": _DATE, "months": _WHOLE}), "money": defined("money")},
            ),
            {"tenant": "Marrow & Finch", "object": {"hall": "B", "site": "Tamberly"},
             "term": {"start": "2032-01-01", "months": 36},
             "money": {"rent": 2900, "heating": 310, "deposit": {"amount": 8700, "paid": True}}},
            tier="hard",
            cluster="lease",
        ),
        _ask(
            """Quiz night, two teams. The Ferrets: Ines Varga and Samir Haddou, 31 points. The
            Gulls: Greta Solheim, Tariq Belmont and Lucie Armand, 27 points. Played in Pinemoor.""",
            _with(
                {"team": _object({"name": _TEXT, "score": _object({"points": _WHOLE}),
                                  "members": _list(defined("member"))}),
                 "member": _object({"name": _TEXT})},
                {"site": _TEXT, "teams": _list(defined("team"))},
            ),
            {"site": "Pinemoor", "teams": [
                {"name": "Ferrets", "score": {"points": 31}, "members": [
                    {"name": "Ines Varga"}, {"name": "Samir Haddou"}]},
                {"name": "Gulls", "score": {"points": 27}, "members": [
                    {"name": "Greta Solheim"}, {"name": "Tariq Belmont"},
                    {"name": "Lucie Armand"}]}]},
            alternatives={"Ferrets": ["Ferrets", "The Ferrets"], "Gulls": ["Gulls", "The Gulls"]},
            tier="easy",
            cluster="quiz",
        ),
        _ask(
            """Please file the return: order ORD-55012, customer Paulo Seixas. Two items come back:
            a desk lamp, broken, to be refunded with 39.90 euros; and a monitor arm, wrong size, to
            be exchanged for size L. Return label sent: no.""",
            _with(
                {"item": _object({"name": _TEXT, "reason": _choice("broken", "wrong size", "other"),
                                  "remedy": {"oneOf": [
                                      _object({"kind": {"const": "refund"}, "euros": _NUMBER}),
                                      _object({"kind": {"const": "exchange"},
                                               "size": _choice("S", "M", "L")})]}})},
                {"order": {"type": "string", "pattern": "^ORD-[0-9]{5}$"}, "customer": _object(
                    {"name": _TEXT}), "items": _list(defined("item")), "label_sent": _FLAG},
            ),
            {"order": "ORD-55012", "customer": {"name": "Paulo Seixas"}, "items": [
                {"name": "desk lamp", "reason": "broken",
                 "remedy": {"kind": "refund", "euros": 39.9}},
                {"name": "monitor arm", "reason": "wrong size",
                 "remedy": {"kind": "exchange", "size": "L"}}], "label_sent": False},
            tier="medium",
            cluster="return",
        ),
    ]  # fmt: skip


EXAMPLES = examples(
    "structured", _made, (("flat", "easy"), ("arrays", "medium"), ("nested", "easy"))
)


if __name__ == "__main__":
    main("structured")
