"""Function calling: which tool, with what, how often, and when not.

A request is written from arguments that were drawn first, so the right calls are known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from ..draw import Draw
from . import words
from .shipped import flat, main, woven

CASES = 72
FAMILIES = {
    "one": 12,
    "choice": 12,
    "parallel": 12,
    "nested": 8,
    "typed": 8,
    "no_call": 8,
    "missing": 4,
    "awkward": 4,
    "second_round": 4,
}


@dataclass(frozen=True)
class Slot:
    """A parameter: its schema, and values as (what is said, what is meant)."""

    schema: Mapping[str, Any]
    values: tuple[Any, ...] = ()  # a plain value is said as it is
    kind: str = "exact"  # "exact", "text", "number", "day" or "clock"
    default: Any = None  # of an optional one
    optional: bool = False

    def drawn(self, draw: Draw) -> tuple[str, Any]:
        """What is said, and the argument."""
        if self.kind == "day":
            day, month, year = draw.integer(1, 28), draw.integer(1, 12), draw.integer(2031, 2033)
            name = words.MONTHS[month - 1]
            said = draw.choice(
                (f"{day} {name} {year}", f"{name} {day}, {year}", f"{year}-{month:02d}-{day:02d}")
            )
            return said, f"{year}-{month:02d}-{day:02d}"
        if self.kind == "clock":
            hour, minute = draw.integer(7, 21), draw.choice((0, 15, 30, 45))
            half = "am" if hour < 12 else "pm"
            said = draw.choice(
                (f"{hour:02d}:{minute:02d}", f"{(hour - 1) % 12 + 1}:{minute:02d} {half}")
            )
            return said, f"{hour:02d}:{minute:02d}"
        value = draw.choice(self.values)
        return (value[0], value[1]) if isinstance(value, tuple) else (str(value), value)

    def pattern(self, value: Any) -> Any:
        """What takes the argument."""
        if self.kind == "day":
            return {"$date": value}
        return {f"${self.kind}": value} if self.kind in ("text", "number") else value


@dataclass(frozen=True)
class ToolFamily:
    """A tool, how it is asked for, and what is asked back where something is missing."""

    description: str
    slots: Mapping[str, Slot]
    says: tuple[str, ...]
    lacks: tuple[str, tuple[str, ...]] | None = None  # a request, words for what is not in it


def _text(description: str, *values: Any, **more: Any) -> Slot:
    return Slot({"type": "string", "description": description}, values, kind="text", **more)


def _code(description: str, *values: Any, **more: Any) -> Slot:
    return Slot({"type": "string", "description": description}, values, **more)


def _whole(description: str, *values: Any, **more: Any) -> Slot:
    return Slot({"type": "integer", "description": description}, values, **more)


def _number(description: str, *values: Any, **more: Any) -> Slot:
    schema = {"type": "number", "description": description}
    return Slot(schema, values, kind="number", **more)


def _one_of(description: str, *values: Any, **more: Any) -> Slot:
    names = [value[1] if isinstance(value, tuple) else value for value in values]
    schema = {"type": "string", "description": description, "enum": list(dict.fromkeys(names))}
    return Slot(schema, values, **more)


def _flag(description: str, *values: Any, **more: Any) -> Slot:
    return Slot({"type": "boolean", "description": description}, values, **more)


def _day(description: str) -> Slot:
    return Slot({"type": "string", "description": f"{description}, as YYYY-MM-DD"}, kind="day")


def _clock(description: str) -> Slot:
    text = f"{description}, as HH:MM, 24 hours"
    return Slot({"type": "string", "description": text}, kind="clock")


CITIES = (
    "Lisbon",
    "Bergen",
    "Graz",
    "Porto",
    "Tartu",
    "Ghent",
    "Aarhus",
    "Bilbao",
    "Cork",
    "Turin",
)
CURRENCIES = (
    *(("euros", "EUR"), ("Swiss francs", "CHF"), ("pounds sterling", "GBP")),
    *(("US dollars", "USD"), ("Japanese yen", "JPY"), ("Danish crowns", "DKK")),
)
TOOLS: dict[str, ToolFamily] = {
    "get_weather": ToolFamily(
        "Weather forecast of a city.",
        {
            "city": _text("Name of the city", *CITIES),
            "days": _whole("Days ahead; default 1", 2, 3, 5, 7, default=1, optional=True),
            "unit": _one_of(
                "Degrees; default celsius", ("degrees Fahrenheit", "fahrenheit"),
                ("degrees Celsius", "celsius"), default="celsius", optional=True,
            ),
        },
        (
            "What will the weather be like in {city} over the next {days} days?",
            "I fly to {city} tomorrow. Do I need a coat? I think in {unit}.",
            "Show me the {days}-day forecast for {city}, in {unit} please.",
        ),
        ("Will it rain for the whole week?", ("city", "where", "location", "place")),
    ),
    "book_table": ToolFamily(
        "Books a table in a restaurant.",
        {
            "restaurant": _text("Its name", "Casa Verdal", "The Blue Heron", "Ostra", "Lindenhof"),
            "date": _day("Day of the visit"),
            "time": _clock("When the guests arrive"),
            "guests": _whole("Number of people", 2, 3, 4, 5, 6, 8),
        },
        (
            "Please reserve a table for {guests} at {restaurant} on {date} at {time}.",
            "There will be {guests} of us. Get us into {restaurant}, {date}, {time}.",
            "My boss wants to eat at {restaurant} on {date}; we are {guests} people and would come "
            "at {time}.",
        ),
        ("Get me a table at Ostra on 3 May 2031 at 19:30.", 
         ("how many", "number of", "guests", "people", "party")),
    ),
    "convert_currency": ToolFamily(
        "Converts an amount between currencies at today's rate.",
        {
            "amount": _number("How much", 12.5, 80, 149.95, 320, 1200, 4750.25),
            "source": _one_of("Currency of the amount", *CURRENCIES[:3]),
            "target": _one_of("Currency wanted", *CURRENCIES[3:]),
        },
        (
            "How much are {amount} {source} in {target}?",
            "Convert {amount} {source} to {target}, please.",
            "A supplier quoted me {amount} {source}. What is that in {target}?",
        ),
        ("Convert 250 euros for me, please.", 
         ("which currency", "what currency", "target currency", "currency", "into what")),
    ),
    "create_ticket": ToolFamily(
        "Opens a ticket for the facility team.",
        {
            "title": _text("What is wrong", "Broken window blind", "Leaking radiator",
                           "Blocked fire door", "Flickering ceiling light"),
            "floor": _whole("Number of the floor", 1, 2, 3, 4, 5, 11),
            "priority": _one_of("How urgent", ("it can wait", "low"), ("a normal matter", "normal"),
                                ("really urgent", "urgent")),
        },
        (
            "Open a ticket with the title '{title}' for floor {floor}. It is {priority}: set the "
            "priority accordingly.",
            "Facility ticket please: '{title}', floor {floor}, {priority}.",
        ),
    ),
    "find_trains": ToolFamily(
        "Finds train connections.",
        {
            "origin": _text("Station of departure", *CITIES[:5]),
            "destination": _text("Station of arrival", *CITIES[5:]),
            "date": _day("Day of travel"),
            "fare_class": _one_of("Class; default second", ("first class", "first"),
                                  ("second class", "second"), default="second", optional=True),
        },
        (
            "Which trains go from {origin} to {destination} on {date}?",
            "I have to be in {destination} on {date}, starting from {origin}. {fare_class} only.",
            "Look up rail connections {origin} to {destination} for {date}, {fare_class}.",
        ),
        ("I need a train from Graz to Ghent.", ("date", "when", "day")),
    ),
    "set_reminder": ToolFamily(
        "Sets a reminder for the user.",
        {
            "text": _text("What to remember", "call the notary", "water the ferns",
                          "renew the parking permit", "send the tax form"),
            "date": _day("Day"),
            "time": _clock("Time of day"),
        },
        (
            "Remind me on {date} at {time} to {text}.",
            "I must not forget to {text}. Ping me on {date}, {time}.",
            "At {time} on {date} I should {text}; put that into my reminders.",
        ),
        ("Remind me to call the notary on 9 March 2031.", ("time", "when", "hour")),
    ),
    "translate_text": ToolFamily(
        "Translates a short text.",
        {
            "text": _text("The text", "The meeting is moved to Friday", "Keep away from heat",
                          "Your parcel is ready", "No smoking on the terrace"),
            "language": _one_of("Language wanted", ("Polish", "pl"), ("Turkish", "tr"),
                                ("Finnish", "fi"), ("Greek", "el")),
        },
        (
            "Use the translator to put '{text}' into {language}.",
            "I need this in {language} for a sign: '{text}'",
        ),
        ("Use the translator on this: 'Keep away from heat'", 
         ("language", "into what")),
    ),
    "get_stock": ToolFamily(
        "Pieces of an article in a warehouse.",
        {
            "sku": _code("Number of the article", "KX-2210", "BR-0417", "TT-9083", "LM-5561"),
            "warehouse": _one_of("Which one; default main", ("the north warehouse", "north"),
                                 ("the harbour warehouse", "harbour"),
                                 ("the main warehouse", "main"),
                                 default="main", optional=True),
        },
        (
            "How many pieces of {sku} do we have in {warehouse}?",
            "Check the stock of article {sku}, please.",
            "A customer wants 40 of {sku}. What is on the shelf in {warehouse}?",
        ),
        ("How many pieces are left in the north warehouse?", 
         ("article", "sku", "product", "item", "which")),
    ),
    "cancel_order": ToolFamily(
        "Cancels an order that is not shipped.",
        {
            "order_number": _code("Seven digits, as text", "4410982", "4417305", "4420671"),
            "reason": _one_of("Why", ("it was ordered twice", "duplicate"),
                              ("it takes too long", "too_slow"),
                              ("we changed our mind", "changed_mind")),
        },
        (
            "Please cancel order {order_number}: {reason}.",
            "We do not need {order_number} any more, since {reason}. Take it out of the system.",
        ),
        ("Cancel my order, it was ordered twice.", 
         ("order number", "which order", "number of the order", "number")),
    ),
    "send_message": ToolFamily(
        "Sends a chat message to a colleague.",
        {
            "recipient": _text("Name of the colleague", "Tomke", "Anselm", "Yaren", "Ilka"),
            "body": _text("The message", "Lunch at one?", "The printer works again",
                          "Please bring the blue folder", "I am ten minutes late"),
        },
        (
            "Tell {recipient}: {body}",
            "Write to {recipient} in the chat: '{body}'",
            "Message for {recipient}, exactly these words: {body}",
        ),
    ),
    "start_timer": ToolFamily(
        "Starts a kitchen timer.",
        {
            "minutes": _whole("Length", 4, 9, 12, 25, 40, 55),
            "label": _text("What it is for", "eggs", "bread", "rice", "lentils", default="",
                           optional=True),
        },
        (
            "Start a timer of {minutes} minutes.",
            "The {label} need watching: set a {minutes}-minute timer with the label '{label}'.",
        ),
    ),
    "set_thermostat": ToolFamily(
        "Sets the temperature of a room.",
        {
            "room": _one_of("Which room", "kitchen", "bedroom", "office", "hall"),
            "degrees": _number("Degrees Celsius", 17, 18.5, 19, 20.5, 21, 22.5),
        },
        (
            "Set the {room} to {degrees} degrees.",
            "It should be {degrees} degrees in the {room}.",
            "Could you bring the {room} to {degrees} °C?",
        ),
        ("Set the kitchen to a comfortable temperature that I tell you.", 
         ("temperature", "degrees", "how warm")),
    ),
    "find_recipe": ToolFamily(
        "Finds recipes for an ingredient.",
        {
            "ingredient": _text("Main ingredient", "leek", "pumpkin", "trout", "fennel"),
            "max_minutes": _whole("Longest preparation", 15, 20, 30, 45, optional=True),
            "diet": _one_of("Diet; default any", "vegan", "vegetarian", "any", default="any",
                            optional=True),
        },
        (
            "What can I cook with {ingredient} in at most {max_minutes} minutes?",
            "Find me a recipe with {ingredient}.",
            "I have {ingredient} at home and {max_minutes} minutes. Recipes, please.",
        ),
    ),
    "track_parcel": ToolFamily(
        "Where a parcel is.",
        {"tracking_id": _code("As printed on the label", "PX88-104", "PX91-377", "PX64-019")},
        (
            "Where is my parcel {tracking_id}?",
            "The label says {tracking_id}. Has it left the depot?",
            "Any news of shipment {tracking_id}?",
        ),
        ("Where is my parcel?", ("tracking", "label", "number", "id")),
    ),
    "book_room": ToolFamily(
        "Books a meeting room.",
        {
            "room": _text("Name of the room", "Birch", "Harbour", "Atlas", "Juniper"),
            "date": _day("Day"),
            "start": _clock("Begin"),
            "hours": _number("Length in hours", 1, 1.5, 2, 3),
        },
        (
            "Book room {room} on {date} from {start} for {hours} hours.",
            "We need {room} for {hours} hours on {date}, starting at {start}.",
        ),
        ("Book room Atlas from 10:00 for 2 hours.", ("date", "day", "when")),
    ),
    "get_invoice": ToolFamily(
        "Fetches an invoice.",
        {
            "invoice_id": _code("Number with its letters", "INV-7731", "INV-8040", "INV-6092"),
            "format": _one_of("File type; default pdf", "xml", "csv", "pdf", default="pdf",
                              optional=True),
        },
        (
            "I need invoice {invoice_id}.",
            "Send me {invoice_id} as {format}.",
            "Our auditors ask for {invoice_id}, in {format} form.",
        ),
    ),
    "search_documents": ToolFamily(
        "Full-text search in the company's documents.",
        {
            "query": _text("Words to look for", "fire drill", "travel policy", "paint supplier",
                           "parental leave"),
            "folder": _one_of("Where", ("the HR folder", "hr"), ("the legal folder", "legal"),
                              ("the purchasing folder", "purchasing")),
            "limit": _whole("Most results; default 10", 3, 5, 20, default=10, optional=True),
        },
        (
            "Search {folder} for '{query}'.",
            "Find at most {limit} documents about '{query}' in {folder}.",
            "What do we have on '{query}' in {folder}? {limit} hits are enough, not more.",
        ),
    ),
    "play_music": ToolFamily(
        "Plays music of an artist.",
        {
            "artist": _text("Name", "Orla Venn", "The Paper Kites of Oum", "Dorn Trio", "Mirele"),
            "volume": _whole("0 to 100", 20, 35, 50, 70, optional=True),
            "shuffle": _flag("Random order; default false", ("in random order", True),
                             ("in the order of the album", False), default=False, optional=True),
        },
        (
            "Play {artist} {shuffle}.",
            "Put on {artist} at volume {volume}.",
            "I would like to hear {artist}, {shuffle}, volume {volume}.",
        ),
    ),
    "loan_payment": ToolFamily(
        "Monthly payment of a loan.",
        {
            "principal": _number("Amount borrowed", 8000, 15000, 42500, 120000),
            "years": _whole("Years to repay", 3, 5, 8, 15, 20),
            "rate_percent": _number("Interest a year, in percent", 2.9, 3.75, 4.1, 5.25),
        },
        (
            "What would I pay a month for {principal} euros over {years} years at {rate_percent} "
            "percent?",
            "A loan of {principal}, {years} years, interest {rate_percent} %: what is the monthly "
            "payment?",
        ),
        ("What would a loan of 15000 euros cost me a month at 4 percent?", 
         ("years", "how long", "term", "period", "duration")),
    ),
    "find_pharmacy": ToolFamily(
        "Pharmacies near a postcode.",
        {
            "postcode": _code("As text, zeros included", "04109", "10245", "00921", "80331"),
            "open_now": _flag("Only those that are open", ("that is open right now", True),
                              ("whether open or not", False)),
        },
        (
            "Find a pharmacy near {postcode} {open_now}.",
            "My postcode is {postcode}. I look for a pharmacy, {open_now}.",
        ),
    ),
    "rent_vehicle": ToolFamily(
        "Rents a vehicle from the city fleet.",
        {
            "kind": _one_of("What", ("a cargo bike", "cargo_bike"), ("a van", "van"),
                            ("a small car", "small_car")),
            "days": _whole("For how long", 1, 2, 3, 4, 10),
            "city": _text("Where", *CITIES),
        },
        (
            "I need {kind} in {city}, number of days: {days}.",
            "Rent {kind} for me in {city} (days: {days}).",
        ),
        ("I want to rent a van for 3 days.", ("city", "where", "location", "place")),
    ),
    "record_expense": ToolFamily(
        "Records an expense.",
        {
            "amount": _number("Euros", 7.4, 18.9, 64, 129.5, 310),
            "category": _one_of("Kind", ("a taxi", "travel"), ("a lunch with clients", "meals"),
                                ("printer paper", "office"), ("a hotel night", "lodging")),
            "date": _day("Day of payment"),
        },
        (
            "Book {amount} euros for {category} on {date} under expenses, in the category it "
            "belongs to.",
            "On {date} I paid {amount} euros for {category}. Please record it.",
        ),
    ),
    "plan_route": ToolFamily(
        "Plans a route.",
        {
            "start": _text("From", *CITIES[:5]),
            "destination": _text("To", *CITIES[5:]),
            "mode": _one_of("How; default car", ("by bike", "bike"), ("on foot", "foot"),
                            ("by car", "car"), default="car", optional=True),
            "avoid_tolls": _flag("No toll roads; default false", ("without toll roads", True),
                                 default=False, optional=True),
        },
        (
            "Plan a route from {start} to {destination} {mode}.",
            "How do I get from {start} to {destination} {avoid_tolls}?",
            "Route {start} to {destination}, {mode}, {avoid_tolls}.",
        ),
    ),
    "check_hours": ToolFamily(
        "Opening hours of a public office.",
        {
            "office": _one_of("Which", ("the registry office", "registry"),
                              ("the vehicle office", "vehicles"), ("the city library", "library")),
            "date": _day("Day"),
        },
        (
            "When is {office} open on {date}?",
            "Can I go to {office} on {date}? Look up the hours.",
        ),
    ),
}  # fmt: skip
TYPED = (
    *("convert_currency", "find_trains", "create_ticket", "find_pharmacy", "record_expense"),
    *("loan_payment", "check_hours", "set_thermostat", "book_room", "get_weather", "plan_route"),
)
JOINS = ("{0} {1}", "{0} And one more thing: {1}", "Two things, please. {0} {1}", "{0}\n{1}")
JOINS_3 = ("{0} {1} {2}", "Three things for you:\n- {0}\n- {1}\n- {2}", "{0} Also: {1} And: {2}")
POLITE = (
    "", "", "", "Hi! ", "Good morning. ", "I am in a hurry. ", "One more for you: ",
    "Before I forget: ", "My screen is tiny, so keep it short. ",
)  # fmt: skip


def declared(name: str) -> dict[str, Any]:
    """The tool in OpenAI's form."""
    return _declared(name, TOOLS[name].description, TOOLS[name].slots)


def _declared(name: str, description: str, slots: Mapping[str, Slot]) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {key: dict(slot.schema) for key, slot in slots.items()},
        "required": [key for key, slot in slots.items() if not slot.optional],
    }
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def call_text(name: str, arguments: Mapping[str, Any]) -> str:
    """A call as models write it."""
    return f"<|tool_call>call:{name}{_value(arguments)}<tool_call|>"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_value, value)) + "]"
    return f'<|"|>{value}<|"|>' if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True)
class Call:
    """A request for one call: what is said, what is right, and the whole of it, defaults too."""

    name: str
    said: str
    arguments: Mapping[str, Any]
    pattern: Mapping[str, Any]
    full: Mapping[str, Any]


def _request(name: str, draw: Draw, *, prefers_long: bool = False) -> Call:
    family = TOOLS[name]
    says = sorted(family.says, key=len)[-2:] if prefers_long else family.says
    template = draw.choice(says)
    used = {key for _, key, _, _ in Formatter().parse(template) if key}
    said, arguments, pattern, full = {}, {}, {}, {}
    for key, slot in family.slots.items():
        if key in used:
            said[key], arguments[key] = slot.drawn(draw)
            full[key], pattern[key] = arguments[key], slot.pattern(arguments[key])
            if slot.optional and slot.default == arguments[key]:
                pattern[key] = {"$one_of": [{"$absent": True}, pattern[key]]}
        elif slot.default is not None and slot.default != "":
            full[key] = slot.default
            pattern[key] = {"$one_of": [{"$absent": True}, slot.default]}
    text = template.format(**said)
    return Call(name, text[0].upper() + text[1:], arguments, pattern, full)


def cases(seed: int = 0, n: int = CASES) -> list[dict[str, Any]]:
    """The suite in its one order; see `shipped.woven`."""
    return woven(
        "tools", FAMILIES, written(), _made, seed=seed, n=n, max_tokens=512, grader="calls"
    )


def _made(
    family: str, tier: str, draw: Draw, so_far: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    polite = draw.choice(POLITE)
    if family == "no_call":
        return _no_call(tier, draw)
    if family == "missing":
        return _missing(draw)
    if family == "awkward":
        return _awkward(draw)
    if family == "second_round":
        return _second_round(draw)
    if family == "nested":
        name = draw.choice(list(NESTED))
        text, arguments, pattern = NESTED[name][2](draw, tier)
        tools = [_nested_declared(name)]
        if tier == "hard":
            tools += [declared(other) for other in draw.sample(list(TOOLS), 2)]
        call = Call(name, text, arguments, pattern, arguments)
        return _case(polite + text, draw.shuffled(tools), [call], draw)
    if family == "parallel":
        count = 2 if tier == "easy" else draw.integer(2, 3)
        if draw.chance(0.4):  # the same tool several times
            names = [draw.choice(list(TOOLS))] * count
        else:
            names = draw.sample(list(TOOLS), count)
        calls = [_request(name, draw) for name in names]
        if len({call_text(call.name, call.arguments) for call in calls}) < count:
            calls = [_request(name, draw) for name in draw.sample(list(TOOLS), count)]
            names = [call.name for call in calls]
        joined = draw.choice(JOINS if count == 2 else JOINS_3).format(*(c.said for c in calls))
        extra = draw.sample([t for t in TOOLS if t not in names], 2 if tier == "hard" else 0)
        tools = [declared(name) for name in draw.shuffled([*dict.fromkeys(names), *extra])]
        return _case(joined, tools, calls, draw)
    names = list(TYPED if family == "typed" else TOOLS)
    name = draw.choice(names)
    call = _request(name, draw, prefers_long=tier == "hard")
    count = {"easy": 3, "medium": 5, "hard": 7}[tier] if family == "choice" else 0
    others = draw.sample([other for other in TOOLS if other != name], count)
    tools = [declared(other) for other in draw.shuffled([name, *others])]
    return _case(polite + call.said, tools, [call], draw)


def _case(
    text: str,
    tools: Sequence[Mapping[str, Any]],
    calls: Sequence[Call],
    draw: Draw,
    **more: Any,
) -> dict[str, Any]:
    """A case with calls, and what goes wrong with them."""
    texts = [call_text(call.name, call.arguments) for call in calls]
    first, rest = calls[0], "".join(texts[1:])
    turned = dict(reversed(list(first.full.items())))
    names = [tool["function"]["name"] for tool in tools]
    others = [name for name in names if name not in {call.name for call in calls}]
    fence = json.dumps(
        [{"name": call.name, "arguments": call.arguments} for call in calls], ensure_ascii=False
    )
    required = next(
        tool["function"]["parameters"]["required"]
        for tool in tools
        if tool["function"]["name"] == first.name
    )
    without = {key: value for key, value in first.arguments.items() if key != required[-1]}
    mistyped = {**first.arguments, required[0]: {"value": first.arguments[required[0]]}}
    extra = {**first.arguments, "comment": "as asked"}
    wrong = [
        [f"```json\n{fence}\n```", "call_in_text"],
        [call_text(f"{first.name}_now", first.arguments) + rest, "unknown_tool"],
        ["".join(texts) + texts[0], "extra_call"],
        [call_text(first.name, extra) + rest, "extra_argument"],
        [call_text(first.name, mistyped) + rest, "wrong_type"],
        [call_text(first.name, without) + rest, "missing_argument"],
        ["".join(texts) + "It is done: everything is confirmed.", "invented_result"],
    ]
    if (changed := _changed(first.arguments)) is not None:
        wrong.append([call_text(first.name, changed) + rest, "wrong_argument"])
    if others:
        wrong.append([call_text(draw.choice(others), {}) + rest, "wrong_tool"])
    if rest:
        wrong.append([texts[0], "missing_call"])
    return {
        "cluster_id": f"tools-{first.name}",
        "prompt": text,
        "tools": list(tools),
        "expected": {
            "calls": [{"name": call.name, "arguments": dict(call.pattern)} for call in calls]
        },
        "ideal": list(
            dict.fromkeys(
                [
                    "".join(texts),
                    call_text(first.name, turned) + rest,
                    "".join(reversed(texts)),
                    f"I will look after that.{''.join(texts)}",
                ]
            )
        ),
        "wrong": wrong,
        **more,
    }


def _changed(arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """Another value of the same type somewhere."""
    for key, value in arguments.items():
        if isinstance(value, bool):
            return {**arguments, key: not value}
        if isinstance(value, (int, float)):
            return {**arguments, key: value + 1}
    for key, value in arguments.items():
        if isinstance(value, str) and " " in value:
            return {**arguments, key: f"{value} too"}
    return None


# --- nested arguments ----------------------------------------------------------------------------

_STRING = {"type": "string"}


def _object(description: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": list(properties),
    }


def _list(description: str, items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "description": description, "items": dict(items)}


PEOPLE = words.PEOPLE[:6]
STREETS = ("Kiln Lane 4", "Old Quay 17", "Mill Row 9", "Orchard Way 22", "Foundry Street 3")
GOODS = ("AX-100", "AX-140", "BK-7", "CR-55", "DN-31", "EL-902")


def _order(draw: Draw, tier: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    goods = draw.sample(GOODS, {"easy": 2, "medium": 3, "hard": 4}[tier])
    items = [{"sku": sku, "quantity": draw.integer(1, 40)} for sku in goods]
    name, street = draw.choice(PEOPLE), draw.choice(STREETS)
    listed = ", ".join(f"{item['quantity']} x {item['sku']}" for item in items)
    text = draw.choice(
        (
            f"Order for {name}, {street}: {listed}.",
            f"{name} phoned and wants {listed}. Ship it all to {street}.",
            f"New order. Items: {listed}. Customer: {name}. Address: {street}.",
        )
    )
    arguments = {"customer": {"name": name, "street": street}, "items": items}
    pattern = {
        "customer": {"name": {"$text": name}, "street": {"$text": street}},
        "items": {"$set": items},
    }
    return text, arguments, pattern


def _meeting(draw: Draw, tier: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    people = draw.sample(PEOPLE, {"easy": 2, "medium": 3, "hard": 5}[tier])
    title = draw.choice(("Roof repair", "Budget review", "Launch of the spring line"))
    said, day = Slot({}, kind="day").drawn(draw)
    spoken, clock = Slot({}, kind="clock").drawn(draw)
    minutes = draw.choice((30, 45, 60, 90))
    names = ", ".join(people[:-1]) + f" and {people[-1]}"
    text = draw.choice(
        (
            f"Invite {names} to '{title}' on {said} at {spoken}, for {minutes} minutes.",
            f"I need a meeting called '{title}': {said}, {spoken}, {minutes} minutes long, with "
            f"{names}.",
        )
    )
    arguments = {
        "title": title,
        "when": {"date": day, "time": clock, "minutes": minutes},
        "attendees": people,
    }
    pattern = {
        "title": {"$text": title},
        "when": {"date": {"$date": day}, "time": clock, "minutes": minutes},
        "attendees": {"$set": [{"$text": person} for person in people]},
    }
    return text, arguments, pattern


def _survey(draw: Draw, tier: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    asked = (
        ("How was the food?", ("good", "fair", "poor")),
        ("Will you come again?", ("yes", "no")),
        ("Which day suits you?", ("Monday", "Thursday", "Sunday")),
        ("How loud was it?", ("quiet", "bearable", "too loud")),
    )
    chosen = draw.sample(asked, {"easy": 1, "medium": 2, "hard": 3}[tier])
    title = draw.choice(("Canteen", "Summer party", "Guest feedback"))
    listed = " ".join(
        f"Question {index}: '{text}' with the options {', '.join(options)}."
        for index, (text, options) in enumerate(chosen, 1)
    )
    text = f"Make a survey with the title '{title}'. {listed}"
    questions = [{"text": text, "options": list(options)} for text, options in chosen]
    pattern = {
        "title": {"$text": title},
        "questions": [
            {"text": {"$text": item["text"]}, "options": [{"$text": o} for o in item["options"]]}
            for item in questions
        ],
    }
    return text, {"title": title, "questions": questions}, pattern


def _shipment(draw: Draw, tier: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    a, b = draw.sample(PEOPLE, 2)
    street_a, street_b = draw.sample(STREETS, 2)
    weight = draw.choice((0.8, 2.5, 4, 11.25, 18))
    fragile = draw.chance(0.5)
    care = "The content is fragile." if fragile else "The content is not fragile."
    text = draw.choice(
        (
            f"Ship a box of {weight} kg from {a}, {street_a}, to {b}, {street_b}. {care}",
            f"{b} at {street_b} is to get a parcel of {weight} kg. Sender is {a}, {street_a}. "
            f"{care}",
        )
    )
    arguments = {
        "sender": {"name": a, "street": street_a},
        "receiver": {"name": b, "street": street_b},
        "parcel": {"weight_kg": weight, "fragile": fragile},
    }
    pattern = {
        "sender": {"name": {"$text": a}, "street": {"$text": street_a}},
        "receiver": {"name": {"$text": b}, "street": {"$text": street_b}},
        "parcel": {"weight_kg": {"$number": weight}, "fragile": fragile},
    }
    return text, arguments, pattern


_PERSON = {"name": _STRING, "street": _STRING}
NESTED: dict[str, tuple[str, dict[str, Any], Any]] = {
    "create_order": (
        "Enters an order of a customer.",
        {
            "customer": _object("Who gets it", **_PERSON),
            "items": _list(
                "What is ordered",
                _object("One line", sku=_STRING, quantity={"type": "integer"}),
            ),
        },
        _order,
    ),
    "schedule_meeting": (
        "Puts a meeting into everybody's calendar.",
        {
            "title": {"type": "string", "description": "What it is called"},
            "when": _object(
                "Date as YYYY-MM-DD, time as HH:MM in 24 hours, length in minutes",
                date=_STRING, time=_STRING, minutes={"type": "integer"},
            ),
            "attendees": _list("Full names", _STRING),
        },
        _meeting,
    ),
    "create_survey": (
        "Publishes a survey.",
        {
            "title": {"type": "string", "description": "Its title"},
            "questions": _list(
                "Questions in their order",
                _object("One question", text=_STRING, options=_list("Answers", _STRING)),
            ),
        },
        _survey,
    ),
    "ship_parcel": (
        "Orders a courier.",
        {
            "sender": _object("Where it is picked up", **_PERSON),
            "receiver": _object("Where it goes", **_PERSON),
            "parcel": _object(
                "The box", weight_kg={"type": "number"}, fragile={"type": "boolean"}
            ),
        },
        _shipment,
    ),
}  # fmt: skip


def _nested_declared(name: str) -> dict[str, Any]:
    description, properties, _ = NESTED[name]
    return _declared(name, description, {key: Slot(value) for key, value in properties.items()})


# --- no call, a question back, awkward text, a second round --------------------------------------


def _no_call(tier: str, draw: Draw) -> dict[str, Any]:
    kind = draw.integer(0, 4)
    if kind == 0:
        whole, percent = draw.integer(2, 30) * 40, draw.choice((5, 15, 25, 35, 45))
        value = whole * percent // 100
        text = draw.choice(
            (f"Quick sum: what is {percent} % of {whole}?",
             f"How much is {percent} percent of {whole}? Just the number, please.")
        )  # fmt: skip
        facts = [[str(value), f"{value:,}"]]
    elif kind == 1:
        hours, minutes = draw.integer(2, 9), draw.choice((10, 20, 25, 40, 50))
        text = f"How many minutes are {hours} hours and {minutes} minutes?"
        facts = [[str(hours * 60 + minutes)]]
    elif kind == 2:
        words = draw.sample(("walnut", "cedar", "maple", "birch", "elm", "poplar", "larch"), 4)
        text = f"Which of these words comes first in the alphabet: {', '.join(words)}?"
        facts = [[min(words)]]
    elif kind == 3:
        left, right = draw.integer(110, 980), draw.integer(110, 980)
        text = f"Add {left} and {right} for me. I have no paper at hand."
        facts = [[str(left + right), f"{left + right:,}"]]
    else:
        word = draw.choice(("ledger", "garden", "pencil", "window", "bottle"))
        text = f"Spell the word '{word}' backwards."
        facts = [[word[::-1], "-".join(word[::-1]), " ".join(word[::-1])]]
    names = draw.sample(list(TOOLS), {"easy": 1, "medium": 3, "hard": 6}[tier])
    return _answered(text, [declared(name) for name in names], facts, "no_call", draw)


ASKS = ["?", "please provide", "please tell", "let me know", "i need"]


def _missing(draw: Draw) -> dict[str, Any]:
    name = draw.choice([name for name, family in TOOLS.items() if family.lacks])
    lacks = TOOLS[name].lacks
    assert lacks is not None
    text, words = lacks
    text = draw.choice(("", "Hello. ", "Hi, me again. ", "Next one: ", "Please help me. ")) + text
    facts = [list(words), ASKS]
    tools = [declared(name)]
    if draw.chance(0.5):
        tools += [declared(draw.choice([other for other in TOOLS if other != name]))]
    made = call_text(name, _request(name, draw).arguments)
    found = _answered(text, tools, facts, name, draw, ideal=f"Which {words[0]} do you mean?")
    found["wrong"] = [
        [made, "unneeded_call"],
        ["I have done that for you.", "missing_fact"],
        ["", "no_answer"],
    ]
    return found


def _answered(
    text: str,
    tools: Sequence[Mapping[str, Any]],
    facts: Sequence[Sequence[str]],
    cluster: str,
    draw: Draw,
    *,
    ideal: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A case without calls."""
    name = draw.choice(tools)["function"]["name"]
    said = ideal or "It is " + " and ".join(forms[0] for forms in facts) + "."
    made = call_text(name, {})
    return {
        "cluster_id": f"tools-{cluster}",
        "prompt": text,
        "tools": list(tools),
        "expected": {"calls": [], "facts": [list(forms) for forms in facts]},
        "ideal": [said],
        "wrong": [
            [made, "unneeded_call"],
            [f"{said}{made}", "unneeded_call"],
            ["Something else altogether.", "missing_fact"],
            [f'```json\n{{"name": "{name}", "arguments": {{}}}}\n```', "call_in_text"],
            ["", "no_answer"],
        ],
        **more,
    }


SAVE_NOTE = _declared(
    "save_note",
    "Saves a note, word for word.",
    {"title": _text("Title"), "body": _code("The text of the note, unchanged")},
)
AWKWARD = (
    'He wrote "never, {ever}" and left.',
    '{"retries": 3, "hosts": ["a", "b"]}',
    "first line\nsecond line, with a comma",
    "C:\\temp\\new folder\\*.txt",
    "if (x > 0) { return [x, y]; }",
    "it's 5 o'clock: call `stop()`",
    'call:save_note{title:"x"}',
    "100 % sure? (yes|no) #tag",
    "line one\n\tindented: [1, 2, {3}]",
    'SELECT name FROM staff WHERE note = "{}";',
    'She said: "bring 2\\" pipes"',
    "a=1, b=2; c:{d}",
)


def _awkward(draw: Draw) -> dict[str, Any]:
    body = draw.choice(AWKWARD)
    if draw.chance(0.5):
        body = f"{body}\n{draw.choice(AWKWARD)}"
    title = draw.choice(("log", "for Ilka", "snippet 4", "to check", "draft"))
    text = draw.choice(
        (
            f"Save this as a note with the title '{title}', without changing a character:\n{body}",
            f"Note, title '{title}', everything below the line is its body:\n---\n{body}",
        )
    )
    arguments = {"title": title, "body": body}
    call = Call("save_note", text, arguments, {"title": {"$text": title}, "body": body}, arguments)
    made = _case(text, [SAVE_NOTE], [call], draw)
    cut = {"title": title, "body": body.splitlines()[0][:-1]}
    made["wrong"].append([call_text("save_note", cut), "wrong_argument"])
    return made


FIND_CUSTOMER = _declared(
    "find_customer", "Finds customers by name.", {"name": _text("Full name or a part of it")}
)
LIST_ORDERS = _declared(
    "list_orders", "Open orders of a customer.", {"customer_id": _code("From find_customer")}
)


def _asked_and_answered(
    text: str, name: str, arguments: Mapping[str, Any], result: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """A question, the call of the model, and the tool's result."""
    call = {"name": name, "arguments": dict(arguments)}
    return [
        {"role": "user", "content": text},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": "call_1", "name": name, "content": json.dumps(result)},
    ]


def _second_round(draw: Draw) -> dict[str, Any]:
    if draw.chance(0.5):
        person, number = draw.choice(PEOPLE), f"C-{draw.integer(1000, 9999)}"
        text = draw.choice(
            (f"Does {person} have open orders with us?", f"Look up what {person} has on order.")
        )
        result = {"customers": [{"id": number, "name": person, "city": draw.choice(CITIES)}]}
        messages = _asked_and_answered(text, "find_customer", {"name": person}, result)
        arguments = {"customer_id": number}
        call = Call("list_orders", text, arguments, arguments, arguments)
        made = _case(text, [FIND_CUSTOMER, LIST_ORDERS], [call], draw)
        del made["prompt"]
        repeated = call_text("find_customer", {"name": person})
        made["wrong"].append([repeated, "wrong_tool"])
        return {**made, "messages": messages}
    call = _request("get_stock", draw)
    pieces = draw.integer(13, 480)
    messages = _asked_and_answered(
        call.said, "get_stock", call.arguments, {"pieces": pieces, "as_of": "08:40"}
    )
    facts = [[str(pieces)]]
    made = _answered("", [declared("get_stock")], facts, "get_stock", draw)
    del made["prompt"]
    return {**made, "messages": messages}


# --- written by hand -----------------------------------------------------------------------------


def _hand(
    family: str,
    tier: str,
    text: str,
    calls: Sequence[tuple[str, Mapping[str, Any]]],
    others: Sequence[str] = (),
    *,
    index: int = 0,
    patterns: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A case with calls; the first has `patterns` where there is more than one way to say it."""
    said = flat(text)
    read = []
    for number, (name, arguments) in enumerate(calls):
        slots = TOOLS[name].slots if name in TOOLS else {}
        pattern = {
            key: slots[key].pattern(value) if key in slots else value
            for key, value in arguments.items()
        }
        full = dict(arguments)
        for key, slot in slots.items():
            if slot.default not in (None, "") and arguments.get(key, slot.default) == slot.default:
                pattern[key] = {"$one_of": [{"$absent": True}, slot.default]}
                full[key] = slot.default
        if number == 0:
            pattern.update(patterns or {})
        read.append(Call(name, said, arguments, pattern, full))
    draw = Draw("tools", "written", family, said)
    names = draw.shuffled([*dict.fromkeys(name for name, _ in calls), *others])
    tools = [_nested_declared(name) if name in NESTED else declared(name) for name in names]
    return {"family": family, "tier": tier, **_case(said, tools, read, draw)}


def _asks(
    family: str,
    tier: str,
    text: str,
    names: Sequence[str],
    facts: Sequence[Sequence[str]],
    ideal: str,
) -> dict[str, Any]:
    """A case without calls."""
    draw = Draw("tools", "written", family, text)
    tools = [declared(name) for name in names]
    made = _answered(flat(text), tools, facts, names[0], draw, ideal=ideal)
    return {"family": family, "tier": tier, **made}


def written() -> list[dict[str, Any]]:
    """A third of the suite."""
    marks = flat("""
        Our parser prints the marks <|"|> once more, nobody knows why. Keep a note with the title
        'parser' for me. Its body is what stands between the arrows, character by character:
        >>>{"open": 2, "closed": 1}, see line "42"<<<""")
    body = '{"open": 2, "closed": 1}, see line "42"'
    note = {"title": "parser", "body": body}
    note_call = Call("save_note", marks, note, {"title": {"$text": "parser"}, "body": body}, note)
    forecast = _asked_and_answered(
        "Will it be warm enough in Cork on Saturday to eat outside? Under 20 degrees I stay in.",
        "get_weather",
        {"city": "Cork", "days": 3},
        {"friday": {"max_c": 22}, "saturday": {"max_c": 17}, "sunday": {"max_c": 21}},
    )
    outside = _asks(
        "second_round", "medium", "", ["get_weather"],
        [["no", "not", "stay in", "inside", "too cold", "below", "under"], ["17"]],
        "No, only 17 degrees are forecast for Saturday.",
    )  # fmt: skip
    del outside["prompt"]
    eklind = {"name": "Runa Eklind", "street": "Foundry Street 3"}
    oster = {"name": "Wilma Oster", "street": "Old Quay 17"}
    people = ["Marek Dolan", "Sofie Lund", "Tadeo Marsh", "Kenji Abara"]
    return [
        _hand("one", "easy", """
            The courier left a card without a name on it, only a sticker that says PX70-552. Could
            you see where the thing is now?""",
            [("track_parcel", {"tracking_id": "PX70-552"})]),
        _hand("one", "medium", """
            We owe the workshop in Odense one thousand two hundred euros, and they would rather have
            it in Danish crowns. How many would that be today?""",
            [("convert_currency", {"amount": 1200, "source": "EUR", "target": "DKK"})]),
        _hand("one", "medium", """
            The bakery needs an oven, and the oven costs 42,500. The bank says 4.1 per cent over
            eight years; all I care about is what leaves our account each month.""",
            [("loan_payment", {"principal": 42500, "years": 8, "rate_percent": 4.1})]),
        _hand("one", "hard", """
            My sister marries in Turin on Saturday, the third of April 2032. I want to be there the
            day before and start in Lisbon. With my knees I need the good seats, so first class.
            What goes?""",
            [("find_trains", {"origin": "Lisbon", "destination": "Turin", "date": "2032-04-02",
                              "fare_class": "first"})]),
        _hand("choice", "easy", """
            The bread goes into the oven now. Forty minutes, please, and put 'bread' on it so that
            nobody takes it for the eggs.""",
            [("start_timer", {"minutes": 40, "label": "bread"})],
            ["set_reminder", "set_thermostat", "find_recipe"]),
        _hand("choice", "medium", """
            The auditors again. This time it is INV-6092, and a PDF is no use to them, their machine
            wants XML.""",
            [("get_invoice", {"invoice_id": "INV-6092", "format": "xml"})],
            ["search_documents", "record_expense", "cancel_order", "send_message"]),
        _hand("choice", "medium", """
            I will walk, the doctor insists. From the old mill to the harbour office, what is the
            best way?""",
            [("plan_route", {"start": "the old mill", "destination": "the harbour office",
                             "mode": "foot"})],
            ["get_weather", "find_trains", "rent_vehicle", "check_hours"],
            patterns={"start": {"$text": ["the old mill", "old mill"]},
                      "destination": {"$text": ["the harbour office", "harbour office"]}}),
        _hand("choice", "hard", """
            In my room on the fourth floor the blind has come off its rail. There are curtains too,
            so it can wait as long as it likes. Would you put that in, under 'Blind off its rail'?
            Do not write to anyone about it, they make fun of me already.""",
            [("create_ticket", {"title": "Blind off its rail", "floor": 4, "priority": "low"})],
            ["send_message", "set_reminder", "book_room", "search_documents", "check_hours"]),
        _hand("parallel", "easy", """
            Is it going to be nicer in Ghent or in Tartu tomorrow? I can still change my ticket.""",
            [("get_weather", {"city": "Ghent"}), ("get_weather", {"city": "Tartu"})]),
        _hand("parallel", "medium", """
            We are off for the weekend. 17 degrees will do for the hall and for the bedroom, but the
            office stays at 18.5 because of the orchids.""",
            [("set_thermostat", {"room": "hall", "degrees": 17}),
             ("set_thermostat", {"room": "bedroom", "degrees": 17}),
             ("set_thermostat", {"room": "office", "degrees": 18.5})]),
        _hand("parallel", "medium", """
            4410982 was entered twice, get rid of it. And so that she hears it from us first, send
            Ilka exactly this: Order 4410982 is cancelled""",
            [("cancel_order", {"order_number": "4410982", "reason": "duplicate"}),
             ("send_message", {"recipient": "Ilka", "body": "Order 4410982 is cancelled"})],
            ["get_invoice"]),
        _hand("parallel", "hard", """
            For the fair I have to know what we could load: KX-2210 from the north warehouse and
            from the harbour, and LM-5561 from the main one. Three numbers, that is all.""",
            [("get_stock", {"sku": "KX-2210", "warehouse": "north"}),
             ("get_stock", {"sku": "KX-2210", "warehouse": "harbour"}),
             ("get_stock", {"sku": "LM-5561"})],
            ["cancel_order", "track_parcel"]),
        _hand("nested", "medium", """
            Runa Eklind came by in person. She takes a dozen of CR-55 and, because they were on
            offer, thirty DN-31 as well. It should go to her workshop at Foundry Street 3.""",
            [("create_order", {"customer": eklind,
                               "items": [{"sku": "CR-55", "quantity": 12},
                                         {"sku": "DN-31", "quantity": 30}]})],
            patterns={"customer": {key: {"$text": value} for key, value in eklind.items()},
                      "items": {"$set": [{"sku": "CR-55", "quantity": 12},
                                         {"sku": "DN-31", "quantity": 30}]}}),
        _hand("nested", "hard", """
            Could you get Marek Dolan, Sofie Lund, Tadeo Marsh and Kenji Abara into one room? It is
            about the roof, so call it 'Roof repair'. The builder can do 9 September 2031, half past
            eight in the morning, and three quarters of an hour should be plenty.""",
            [("schedule_meeting", {"title": "Roof repair", "attendees": people,
                                   "when": {"date": "2031-09-09", "time": "08:30",
                                            "minutes": 45}})],
            patterns={"title": {"$text": "Roof repair"},
                      "attendees": {"$set": [{"$text": person} for person in people]}}),
        _hand("nested", "hard", """
            Wilma Oster, Old Quay 17, is getting the vase back. Take care, it is glass and breaks
            when you look at it: 3.2 kilos with the straw. It leaves from Runa Eklind, Foundry
            Street 3. Please have it collected.""",
            [("ship_parcel", {"sender": eklind, "receiver": oster,
                              "parcel": {"weight_kg": 3.2, "fragile": True}})],
            ["track_parcel"],
            patterns={"sender": {key: {"$text": value} for key, value in eklind.items()},
                      "receiver": {key: {"$text": value} for key, value in oster.items()}}),
        _hand("typed", "medium", """
            I need Juniper on the last day of February 2031, from a quarter past two in the
            afternoon, for an hour and a half.""",
            [("book_room", {"room": "Juniper", "date": "2031-02-28", "start": "14:15",
                            "hours": 1.5})]),
        _hand("typed", "medium", """
            My daughter has a fever and it is past ten at night. We live in 00921. Which pharmacy
            could I walk to at this hour? It is no use to me if it is shut.""",
            [("find_pharmacy", {"postcode": "00921", "open_now": True})]),
        _hand("typed", "hard", """
            Today is 1 March 2032. Yesterday evening I took a taxi home from the client, eighteen
            euros ninety on the receipt. Put it on my expenses, please.""",
            [("record_expense", {"amount": 18.9, "category": "travel", "date": "2032-02-29"})]),
        _asks("no_call", "easy", """
            I am writing a card and my hand stops every time: is it 'recieve' or 'receive'?""",
            ["translate_text", "send_message"], [["receive"]], "It is 'receive': e before i."),
        _asks("no_call", "medium", """
            At how many degrees Celsius does water boil at sea level, and at how many does it
            freeze? It is for my son's homework, not for travelling.""",
            ["get_weather", "set_thermostat", "convert_currency"],
            [["100", "hundred"], ["0", "zero"]], "It boils at 100 degrees and freezes at 0."),
        _asks("no_call", "hard", """
            From here to the station it is 3.5 km, I know the way, no need to plan anything. If I go
            there and back, how many metres have I walked?""",
            ["plan_route", "find_trains", "rent_vehicle", "get_weather", "start_timer"],
            [["7000", "7,000", "7 000", "seven thousand"]], "You have walked 7,000 metres."),
        _asks("missing", "medium", """
            Six of us want to celebrate at Casa Verdal on 14 June 2031. Book it, please, before
            somebody else does.""",
            ["book_table"], [["time", "when", "what hour", "o'clock"], ASKS],
            "Gladly. At what time will you arrive?"),
        {"family": "awkward", "tier": "hard", **_case(
            marks, [SAVE_NOTE], [note_call], Draw("tools", "written", "awkward"))},
        {**outside, "messages": forecast, "wrong": [
            [call_text("get_weather", {"city": "Cork"}), "unneeded_call"],
            ["Yes, 22 degrees are forecast.", "missing_fact"],
            ["Yes.", "missing_fact"]]},
    ]  # fmt: skip


# --- examples ------------------------------------------------------------------------------------

# The tools that examples call stand in the prompt before those of the case; no case has one of
# these names, so who calls one where a case is asked calls an unknown tool.
EXAMPLE_TOOLS = (
    _declared(
        "water_garden",
        "Waters one bed of the garden.",
        {"bed": _text("Name of the bed"), "minutes": _whole("How long")},
    ),
    _declared(
        "find_book",
        "Looks whether the library has a book.",
        {"title": _text("Its title"), "author": _text("Who wrote it", optional=True)},
    ),
)


def _called(*calls: tuple[str, dict[str, Any], str], answer: str) -> list[dict[str, Any]]:
    """Calls (name, arguments, result) in one turn, their results, and what is said then."""
    made = [
        {"id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": given}}
        for index, (name, given, _) in enumerate(calls)
    ]
    results = [
        {"role": "tool", "tool_call_id": f"call_{index}", "name": name, "content": result}
        for index, (name, _, result) in enumerate(calls)
    ]
    last = {"role": "assistant", "content": answer}
    return [{"role": "assistant", "content": "", "tool_calls": made}, *results, last]


EXAMPLES: tuple[dict[str, Any], ...] = (
    {
        "messages": [{"role": "user", "content": "Twelve minutes of water for the roses, please."}],
        "answer": _called(
            ("water_garden", {"bed": "roses", "minutes": 12}, "started"),
            answer="The roses get water for 12 minutes.",
        ),
    },
    {
        "messages": [
            {
                "role": "user",
                "content": "Does the library have 'The Salt Road', and 'Nine Lanterns' by "
                "Ilse Varga?",
            }
        ],
        "answer": _called(
            ("find_book", {"title": "The Salt Road"}, "not there"),
            ("find_book", {"title": "Nine Lanterns", "author": "Ilse Varga"}, "there"),
            answer="'Nine Lanterns' is there, 'The Salt Road' is not.",
        ),
    },
    {
        "messages": [{"role": "user", "content": "Please water the herbs."}],
        "answer": "Gladly. For how many minutes?",
    },
)


if __name__ == "__main__":
    main("tools")
