"""Summaries: a passage of 8 to 14 facts, a limit of words, and a reader who needs some of them.

Facts are drawn first and told in one of several ways each. Every reader needs one with a direction
(rose or fell, approved or rejected), which a careless summary turns round.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..draw import Draw
from .shipped import examples, flat, main, woven
from .words import FIRMS, MONTHS, PEOPLE, TOWNS

CASES = 60
FAMILIES = {"figures": 15, "decision": 15, "recall": 15, "study": 15}

UP = ("rose", "grew", "climbed", "increased", "went up")
DOWN = ("fell", "dropped", "shrank", "declined", "went down")
SAID_UP = (*UP, "rise", "growth", "increase", "up", "higher", "rising", "growing", "gained")
SAID_DOWN = (*DOWN, "drop", "decline", "decrease", "decreased", "down", "lower", "falling", "lost")
YES = ("approved", "accepted")
NO = ("rejected", "refused", "turned down")
SAID_YES = (*YES, "granted", "adopted", "agreed", "passed", "approval")
SAID_NO = (
    *(*NO, "declined", "denied", "rejection"),
    *("not approved", "not accepted", "not granted", "not adopted", "not agreed", "not passed"),
)


@dataclass(frozen=True)
class Fact:
    """One thing that a passage says: ways to say it, and two short ones."""

    kind: str  # "share", "verdict", "count", "price", "sum", "day", "person", "firm", "town"
    says: tuple[str, ...]
    short: tuple[str, str]
    about: str = ""  # of a verdict: what it is of


def _share(subject: str, *says: str) -> Fact:
    """Something that rose or fell by so many per cent."""
    ways = (
        f"{subject} {{verb}} by {{value}}.",
        f"Compared with the year before, {subject[0].lower()}{subject[1:]} {{verb}} by {{value}}.",
        *says,
    )
    return Fact(
        "share", ways, (f"{subject} {{verb}} by {{value}}.", f"{subject} {{verb}} {{value}}.")
    )


def _verdict(subject: str, *says: str) -> Fact:
    """Something that was approved or rejected."""
    short = (f"The {subject} was {{verb}}.", f"They {{verb}} the {subject}.")
    return Fact("verdict", says, short, subject)


@dataclass(frozen=True)
class Scene:
    """What passages of a family are about."""

    opening: tuple[str, ...]
    facts: Mapping[str, Fact]
    readers: tuple[tuple[str, tuple[str, ...]], ...]  # and the facts that they need
    fillers: tuple[str, ...]


SCENES = {
    "figures": Scene(
        (
            "{firm} has published its figures for the year.",
            "The annual report of {firm} is out, 80 pages long and printed on grey paper.",
            "At a press conference in its canteen {firm} looked back on the year.",
        ),
        {
            "revenue": _share(
                "Revenue",
                "What {firm} sold brought in a revenue that {verb} by {value}.",
                "Over twelve months revenue {verb} by {value}, the report says.",
            ),
            "profit": _share(
                "Profit",
                "After tax, profit {verb} by {value}.",
                "The line that owners read first, profit, {verb} by {value}.",
            ),
            "orders": _share(
                "The order book",
                "The order book, a look into the future, {verb} by {value}.",
                "As for new work, the order book {verb} by {value}.",
            ),
            "debt": _share(
                "Debt",
                "Debt, which had worried the banks, {verb} by {value}.",
                "On the other side of the balance sheet debt {verb} by {value}.",
            ),
            "dividend": Fact("sum", (
                "Owners will receive a dividend of {value} euros in all.",
                "The board proposes to pay out {value} euros.",
                "{value} euros are to be handed to the owners.",
                "A payout of {value} euros is planned, subject to the meeting in May."),
                ("The dividend is {value} euros.", "{value} euros are paid out.")),
            "staff": Fact("count", (
                "At the end of the year {value} people worked there.",
                "The staff now numbers {value}.",
                "{value} people are on the payroll.",
                "Counting trainees, {value} people are employed."),
                ("The firm employs {value} people.", "Staff: {value}.")),
            "plant": Fact("town", (
                "A second plant is being built in {value}.",
                "The shell of a second plant stands in {value}.",
                "For its second plant the firm has chosen {value}.",
                "In {value} the ground was broken for a second plant."),
                ("A second plant is being built in {value}.", "The next plant is in {value}.")),
            "chief": Fact("person", (
                "{value} takes over as managing director.",
                "The new managing director is {value}.",
                "From spring on the firm is led by {value}.",
                "The board has chosen {value} to lead the firm."),
                ("{value} becomes managing director.", "The firm will be led by {value}.")),
            "opening": Fact("day", (
                "The first machines there start on {value}.",
                "Work at the new site begins on {value}.",
                "Its gates open on {value}.",
                "The date for the first shift is {value}."),
                ("Work there begins on {value}.", "The new site opens on {value}.")),
            "strike": Fact("count", (
                "Strikes cost {value} hours.",
                "{value} hours were lost to strikes.",
                "The report counts {value} hours of strike.",
                "Because of strikes the lines stood still for {value} hours."),
                ("Strikes took {value} hours.", "{value} hours were lost to strikes.")),
        },
        (
            ("an owner who must decide whether to sell the shares",
             ("revenue", "profit", "debt", "dividend")),
            ("a supplier who must decide whether to deliver on credit",
             ("debt", "orders", "profit", "chief")),
            ("an engineer who must decide whether to apply for a post there",
             ("orders", "staff", "plant", "opening", "chief")),
        ),
        (
            "The canteen was praised for its soups.",
            "Pictures show smiling people with helmets.",
            "Questions about the weather were answered with a shrug.",
            "The report ends with a poem by a retired foreman.",
            "A choir of apprentices sang at the end.",
            "The auditors had nothing to add.",
        ),
    ),
    "decision": Scene(
        (
            "The council of {town} met for five hours.",
            "In a long session the council of {town} dealt with the old bridge.",
            "There was not a free chair when the council of {town} met.",
        ),
        {
            "plan": _verdict(
                "plan", "After a debate the plan for a new bridge was {verb}.",
                "The plan for a new bridge, on the table since autumn, was {verb}.",
                "Shortly before midnight the plan for a new bridge was {verb}.",
                "With this the plan for a new bridge has been {verb}."),
            "grant": _verdict(
                "grant", "The province has {verb} the grant that the town had asked for.",
                "The grant of the province, asked for in March, has been {verb}.",
                "Word came that the grant was {verb} by the province.",
                "As to the grant, it was {verb} by the province last week."),
            "cost": Fact("sum", (
                "It is expected to cost {value} euros.",
                "The costs are put at {value} euros.",
                "{value} euros stand in the budget for it.",
                "The engineers reckon with {value} euros."),
                ("It costs {value} euros.", "The costs are {value} euros.")),
            "taxes": _share(
                "The property tax",
                "To pay for it, the property tax {verb} by {value}.",
                "Householders noted that the property tax {verb} by {value}.",
            ),
            "start": Fact("day", (
                "Diggers are to arrive on {value}.",
                "Work is to begin on {value}.",
                "The first day of work would be {value}.",
                "A start on {value} was named."),
                ("Work begins on {value}.", "The start is on {value}.")),
            "weeks": Fact("count", (
                "The main street would be closed for {value} days.",
                "For {value} days no car gets through the main street.",
                "A closure of the main street of {value} days comes with it.",
                "Traders were told of {value} days without traffic in the main street."),
                ("The main street is closed for {value} days.", "The closure takes {value} days.")),
            "builder": Fact("firm", (
                "The best offer is that of {value}.",
                "{value} has made the best offer.",
                "Of all bidders {value} is in front.",
                "The work would go to {value}."),
                ("The builder is {value}.", "{value} would build it.")),
            "trees": Fact("count", (
                "{value} trees have to be felled.",
                "The axe would fall on {value} trees.",
                "Conservationists counted {value} trees in the way.",
                "For the ramps {value} trees must go."),
                ("{value} trees are felled.", "{value} trees must go.")),
            "shops": _share(
                "Trade in the main street",
                "Since the last closure trade in the main street {verb} by {value}.",
                "The traders' own count shows that trade in the main street {verb} by {value}.",
            ),
            "critic": Fact("person", (
                "The loudest critic was {value}.",
                "{value} spoke against it for half an hour.",
                "Against it stood above all {value}.",
                "{value} announced a petition."),
                ("{value} is against it.", "The main critic is {value}.")),
        },
        (
            ("a taxpayer who must decide whether to sign a petition",
             ("plan", "cost", "taxes", "grant")),
            ("a shopkeeper of the main street who must decide about a long holiday",
             ("plan", "start", "weeks", "shops")),
            ("a lender who must decide about a credit for the works",
             ("plan", "grant", "cost", "builder", "start")),
        ),
        (
            "The microphone failed twice.",
            "Somebody had brought a dog, which slept.",
            "The mayor thanked all who had stayed.",
            "Coffee ran out before the vote on the minutes.",
            "The old bridge dates from the time of carts.",
            "A school class watched from the gallery.",
        ),
    ),
    "recall": Scene(
        (
            "{firm} calls back one of its kettles.",
            "A kettle made by {firm} has to go back.",
            "Bad news for {firm}: a kettle that sold well can become dangerous.",
        ),
        {
            "units": Fact("count", (
                "{value} pieces are affected.",
                "The recall is about {value} pieces.",
                "In all, {value} pieces were sold before the fault was noticed.",
                "{value} pieces are thought to be in kitchens."),
                ("{value} kettles are affected.", "The recall covers {value} pieces.")),
            "burns": Fact("count", (
                "{value} people have reported burns.",
                "So far burns of {value} people are known.",
                "The firm knows of {value} people with burns.",
                "{value} people burnt their hands."),
                ("{value} people were burnt.", "There are {value} reports of burns.")),
            "deadline": Fact("day", (
                "Kettles can be handed in until {value}.",
                "The last day for returns is {value}.",
                "Returns are accepted up to {value}.",
                "After {value} nothing is taken back."),
                ("Returns end on {value}.", "Kettles are taken back until {value}.")),
            "refund": Fact("price", (
                "Buyers get {value} euros back.",
                "{value} euros are paid for each kettle.",
                "The sum of {value} euros is refunded without a receipt.",
                "For every kettle {value} euros are returned."),
                ("{value} euros are refunded.", "Each kettle brings {value} euros.")),
            "claim": _verdict(
                "claim", "The claim that the firm made on its own supplier was {verb}.",
                "A claim against the maker of the switch has been {verb}.",
                "Its claim against the maker of the switch was {verb} by an arbiter.",
                "On Monday the claim against the maker of the switch was {verb}."),
            "licence": _verdict(
                "licence", "The safety office has {verb} the licence for the repaired model.",
                "For the repaired model the licence was {verb}.",
                "The licence that the repaired model needs was {verb} by the safety office.",
                "As for the repaired model, its licence has been {verb}."),
            "sales": _share(
                "Sales of other kettles",
                "In the shops sales of other kettles {verb} by {value}.",
                "Dealers say that sales of other kettles {verb} by {value}.",
            ),
            "premium": _share(
                "The insurance premium",
                "As a result the insurance premium {verb} by {value}.",
                "It was also learnt that the insurance premium {verb} by {value}.",
            ),
            "switch": Fact("firm", (
                "The faulty switch was made by {value}.",
                "{value} had delivered the switch.",
                "At fault is a switch from {value}.",
                "Inside sits a switch by {value}."),
                ("The switch came from {value}.", "{value} made the switch.")),
            "speaker": Fact("person", (
                "{value} answers questions for the firm.",
                "Questions go to {value}.",
                "{value} apologised on behalf of the firm.",
                "The firm speaks through {value}."),
                ("{value} speaks for the firm.", "Questions go to {value}.")),
        },
        (
            ("a buyer who must decide what to do with the kettle",
             ("burns", "deadline", "refund", "licence")),
            ("an insurer who must decide about the contract with the firm",
             ("units", "burns", "claim", "premium")),
            ("a dealer who must decide what to put on the shelf",
             ("licence", "sales", "units", "deadline")),
        ),
        (
            "The kettle comes in red and in cream.",
            "It had won a prize for its handle.",
            "A drawing shows where the number is printed.",
            "Parcels need not be wrapped in paper.",
            "The instructions are in nine languages.",
            "Tea drinkers took it with humour.",
        ),
    ),
    "study": Scene(
        (
            "{firm} let half of its people work four days a week for a year.",
            "The trial of the four-day week at {firm} is over.",
            "What happens when Friday is free? {firm} has tried it.",
        ),
        {
            "people": Fact("count", (
                "{value} people took part.",
                "The trial had {value} participants.",
                "{value} employees had put their names on the list.",
                "It was carried out with {value} volunteers."),
                ("{value} people took part.", "There were {value} participants.")),
            "output": _share(
                "Output",
                "To the surprise of many, output {verb} by {value}.",
                "Measured by the piece, output {verb} by {value}.",
            ),
            "sick": _share(
                "Sick leave",
                "Doctors had less or more to do: sick leave {verb} by {value}.",
                "In the same time sick leave {verb} by {value}.",
            ),
            "overtime": _share(
                "Overtime",
                "What was feared most, overtime, {verb} by {value}.",
                "The clocks at the gate say that overtime {verb} by {value}.",
            ),
            "complaints": _share(
                "Complaints of customers",
                "On the telephone one noticed that complaints of customers {verb} by {value}.",
                "Complaints of customers, counted by hand, {verb} by {value}.",
            ),
            "cost": Fact("sum", (
                "The trial cost {value} euros.",
                "{value} euros were spent on it.",
                "For planning and advice {value} euros were paid.",
                "The bill for it came to {value} euros."),
                ("The trial cost {value} euros.", "It cost {value} euros.")),
            "extension": _verdict(
                "extension", "The works council has {verb} an extension to all departments.",
                "An extension to all departments was {verb} on Thursday.",
                "The extension to all departments, which the young had hoped for, was {verb}.",
                "In the end the extension to all departments was {verb}."),
            "review": Fact("day", (
                "All this will be looked at again on {value}.",
                "The next review is on {value}.",
                "On {value} there will be a second look.",
                "A final judgement is promised for {value}."),
                ("The next review is on {value}.", "It is reviewed on {value}.")),
            "leader": Fact("person", (
                "The trial was led by {value}.",
                "{value} was in charge of it.",
                "Responsible for the numbers is {value}.",
                "{value} wrote the final report."),
                ("{value} led the trial.", "It was led by {value}.")),
            "next": Fact("firm", (
                "{value} wants to try the same.",
                "The next to try it is {value}.",
                "A similar trial is planned at {value}.",
                "{value} has asked for the data."),
                ("{value} wants to try it too.", "{value} is next.")),
        },
        (
            ("a director of another firm who must decide whether to try it",
             ("output", "sick", "cost", "extension")),
            ("a union that must decide whether to ask for it elsewhere",
             ("overtime", "sick", "extension", "people")),
            ("the head of customer service, who must decide about Fridays",
             ("complaints", "output", "overtime", "review")),
        ),
        (
            "Many said they had learnt to bake.",
            "The car park was empty on Fridays, and birds came.",
            "Two engaged couples came out of it.",
            "The questionnaire had a page for drawings.",
            "Some missed the Friday soup.",
            "A few went on coming in out of habit.",
        ),
    ),
}  # fmt: skip
LAYOUTS = (
    "Summarise the passage in at most {words} words, as plain prose, for {reader}. Use nothing but "
    "what the passage says.\n\nPassage:\n{passage}",
    "{passage}\n\n---\nWrite a summary of the text above for {reader}: at most {words} words, one "
    "paragraph, no heading, nothing that is not in the text.",
    "Reader: {reader}.\nTask: from the text below, tell this reader what matters for that decision "
    "in at most {words} words and in whole sentences. Add nothing of your own.\n\nText:\n{passage}",
)
OUTSIDE = (
    "This resembles what happened in Paris.",
    "The European Union supports this.",
    "One thinks of Shakespeare here.",
)


def cases(seed: int = 0, n: int = CASES) -> list[dict[str, Any]]:
    """The suite in its one order; see `shipped.woven`."""
    return woven(
        "summarisation", FAMILIES, written(), _made, seed=seed, n=n, max_tokens=512,
        grader="faithful",
    )  # fmt: skip


@dataclass(frozen=True)
class _Value:
    """A drawn value: as it is said, its forms, and the verb and its direction where it has one."""

    said: str
    forms: tuple[str, ...]
    verb: str = ""
    turned: str = ""  # a verb of the other direction
    is_up: bool = False


def _drawn(fact: Fact, draw: Draw, used: set[str]) -> _Value:
    """A value that nothing else in the passage has."""
    while True:
        value = _any(fact, draw)
        parts = set(re.findall(r"\d+|[A-Z][a-z]+", value.said)) - set(MONTHS)
        if not parts & used or fact.kind == "verdict":
            used |= parts
            return value


def _any(fact: Fact, draw: Draw) -> _Value:
    is_up = draw.chance(0.5)
    if fact.kind == "share":
        number = draw.integer(3, 39)
        verb, turned = draw.choice(UP if is_up else DOWN), draw.choice(DOWN if is_up else UP)
        said = draw.choice((f"{number}%", f"{number} %", f"{number} percent"))
        return _Value(said, (f"{number}%", f"{number} percent"), verb, turned, is_up)
    if fact.kind == "verdict":
        verb, turned = draw.choice(YES if is_up else NO), draw.choice(NO if is_up else YES)
        words = SAID_YES if is_up else SAID_NO
        return _Value("", tuple(f"{fact.about} + {w}" for w in words[:6]), verb, turned, is_up)
    if fact.kind == "day":
        day, month, year = draw.integer(4, 20), draw.choice(MONTHS), draw.integer(2032, 2039)
        forms = (f"{day} {month}", f"{month} {day}", f"{day}th of {month}", f"{day}th {month}")
        return _Value(f"{day} {month} {year}", (*forms, f"{month} {day}th"))
    if fact.kind in ("count", "price"):
        number = draw.integer(41, 990) if fact.kind == "count" else draw.integer(40, 89)
        return _Value(str(number), (str(number),))
    if fact.kind == "sum":
        number = draw.integer(41, 990)
        return _Value(f"{number},000", (f"{number},000", f"{number} thousand", f"{number}k"))
    name = draw.choice({"person": PEOPLE, "firm": FIRMS, "town": TOWNS}[fact.kind])
    return _Value(name, (name, name.split()[-1] if fact.kind == "person" else name.split()[0]))


def _expected(fact: Fact, value: _Value) -> dict[str, Any]:
    """What the grader looks for."""
    found: dict[str, Any] = {"forms": list(dict.fromkeys(value.forms))}
    if fact.kind == "share":
        up, down = list(SAID_UP), list(SAID_DOWN)
    elif fact.kind == "verdict":
        up, down = list(SAID_YES), list(SAID_NO)
    else:
        return found
    found["about"] = [fact.about] if fact.about else list(value.forms)
    found["says"], found["flips"] = (up, down) if value.is_up else (down, up)
    return found


def _say(text: str, value: _Value, **names: str) -> str:
    said = text.format(value=value.said, verb=value.verb, **names)
    return said[0].upper() + said[1:]


def _made(
    family: str, tier: str, draw: Draw, so_far: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    scene = SCENES[family]
    firm, town = draw.choice(FIRMS), draw.choice(TOWNS)
    used = {*firm.split(), *town.split()}
    values = {key: _drawn(fact, draw, used) for key, fact in scene.facts.items()}
    reader, needed = draw.choice(scene.readers)
    count = {"easy": 8, "medium": 9, "hard": 10}[tier]
    others = draw.sample([key for key in values if key not in needed], count - len(needed))
    # The last fact is one that the reader needs, so that the beginning is no summary.
    last, rest = needed[-1], draw.shuffled([*needed[:-1], *others])
    names = {"firm": firm, "town": town}
    told = [_say(draw.choice(scene.facts[key].says), values[key], **names) for key in rest]
    fillers = draw.shuffled(scene.fillers)
    final = _say(draw.choice(scene.facts[last].says), values[last], **names)
    opening = draw.choice(scene.opening).format(**names)
    body = [opening, *told, final]
    while fillers and len(" ".join(body).split()) < 152 + 14 * (tier == "hard"):
        body.insert(draw.integer(1, len(body) - 1), fillers.pop())
    extra = list(PADDING)
    while len(" ".join(body).split()) < 152:
        body.insert(draw.integer(1, len(body) - 1), extra.pop(0))
    half = len(body) // 2
    passage = " ".join(body[:half]) + draw.choice((" ", "\n\n")) + " ".join(body[half:])
    facts = [(scene.facts[key], values[key]) for key in needed]
    turn = next(index for index, (fact, value) in enumerate(facts) if value.verb)
    ideals = [[_say(fact.short[way], value) for fact, value in facts] for way in (0, 1)]
    fact, value = facts[turn]
    turned = list(ideals[0])
    turned[turn] = fact.short[0].format(value=value.said, verb=value.turned)
    return _case(
        passage, reader, draw.choice((45, 50, 60)) if tier != "hard" else 40,
        [_expected(fact, value) for fact, value in facts],
        [" ".join(sentences) for sentences in ideals],
        " ".join(turned), " ".join(ideals[0][:-1]), draw, cluster=f"{family}-{needed[0]}",
    )  # fmt: skip


PADDING = (
    "More details are kept at the front desk, where anybody may read them during the usual hours.",
    "Those present took notes, asked short questions and received answers that were not much "
    "longer.",
    "Photographs were allowed before the beginning and after the end, and nobody took any.",
    "Whoever wants to know more is free to write a letter, which will be answered in due course.",
    "A version in plain language is being prepared and will be sent to all who ask for it.",
)


def _case(
    passage: str,
    reader: str,
    words: int,
    facts: Sequence[Mapping[str, Any]],
    ideals: Sequence[str],
    flipped: str,
    short: str,
    draw: Draw,
    *,
    cluster: str,
) -> dict[str, Any]:
    """A case; flipped: a summary with a direction turned round; short: one that lacks a fact."""
    # The longest number that is no year.
    listed = [n for n in re.findall(r"\d[\d,.]*\d|\d", ideals[0]) if not re.match(r"20\d\d$", n)]
    number = max(listed or re.findall(r"\d+", ideals[0]), key=len)
    known = set(re.findall(r"\d+", passage.replace(",", "")))
    stem = number[:-1] or number  # 1 to 12 may be months
    changed = next(stem + digit for digit in "7946832150" if stem + digit not in known)
    altered = ideals[0].replace(number, changed, 1)
    return {
        "cluster_id": f"summarisation-{cluster}",
        "prompt": draw.choice(LAYOUTS).format(words=words, reader=reader, passage=passage),
        "expected": {"words": words, "passage": passage, "facts": [dict(fact) for fact in facts]},
        "ideal": list(dict.fromkeys(ideals)),
        "wrong": [
            [altered, "unsupported_number"],
            [flipped, "flipped_fact"],
            [" ".join(passage.split()[:words]), "missing_fact"],
            [passage, "too_long"],
            [f"{ideals[0]} {draw.choice(OUTSIDE)}", "unsupported_name"],
            [short, "missing_fact"],
            ["", "no_answer"],
        ],
    }


# --- written by hand -----------------------------------------------------------------------------

QUARTER = """
    Hestrup Dairy has had an odd third quarter. It sold more milk than ever, 41 million litres, and
    earned less with it: revenue rose by 6 percent to 58.2 million euros, profit fell by 31 percent.
    The reason is the price of glass. Osterlin Glass, which makes all its bottles, asked for a
    quarter more from July on, and Hestrup could not pass that on to the shops before October.
    Chief executive Mira Katz called it "the last expensive summer". A plant of its own for
    returnable cups is being built in Lunvik; it costs 9.4 million euros, is paid for with a loan
    over twelve years and opens on 5 May 2032.

    The staff will notice little at first. 1,140 people work for the dairy, twenty of them will move
    to Lunvik, and nobody is dismissed before the end of 2033, which the works council has in
    writing. The union had asked for 4 percent more pay; management rejected this and offered 2.
    Both sides meet again on 20 November. Farmers, who own two thirds of the company, receive no
    dividend this year, for the first time since 2019. The price that they are paid for a litre
    stays at 47 cents. A yoghurt with rhubarb, introduced in August, was withdrawn after three weeks
    because nobody bought it a second time."""
MILL = """
    For eleven years Niraj Looms lost money, and for eleven years somebody said that next year would
    be different. This year it was. The mill in Tessaro made a profit of 310,000 euros, its debt
    fell by 18 percent, and orders from hotels, which want heavy curtains again, rose by 44 percent.
    Exports, on the other hand, dropped by 9 percent, mostly because a customer in the north went
    bankrupt and left a bill of 126,000 euros unpaid.

    The turn is put down to Sofie Lund, who has run the weaving hall since 2029. She sold 14 of the
    60 looms, and the remaining 46 now run in two shifts instead of three. What people thank her for
    most is the noise: new shuttles have made the hall so quiet that ear protection is no longer
    compulsory. Her contract ends in June, and she has let it be known that she would like to sail
    round the world. The board has offered her five more years; an answer is expected by 31 January.

    The bank remains careful. It has extended the credit line of 2 million euros, though only until
    September, and it wants to see the books every month. A request to use the old dye house as a
    guarantee was refused, since the ground below it has to be cleaned first. The cleaning is
    estimated at 700,000 euros and cannot begin before the swallows have left."""
POOL = """
    After three evenings Pellworth has made up its mind about the swimming pool. The council
    approved the renovation by 19 votes to 12; a proposal to build a new pool at the motorway was
    rejected. The old hall of 1974 will get a new roof, new pipes and a basin of steel in place of
    the tiles. That costs 6.8 million euros, of which the province pays 40 percent. The rest is
    borrowed, so the fee for a swim rises from 4.50 to 6 euros, for children from 2 to 2.50 euros.

    The pool closes on 1 March 2032 and opens again, if nothing goes wrong, on 15 September 2033.
    During this time schools are taken by bus to Marnholm, where 22 hours a week have been reserved.
    Clubs get nothing of that: the swimming club with its 380 members has to look after itself, and
    its chairman, Hugo Stellan, spoke of "a lost generation of butterflies". The club's application
    for 50,000 euros towards the rent of another hall was turned down.

    Seven of the eleven people who work at the pool stay on, as caretakers of sports halls; the four
    lifeguards are on contracts that end with the closure. Builders from the region are to be
    preferred. Councillor Wilma Oster, who had fought for the motorway, said that she would swim in
    the river until then, and invited everyone."""
SHUTTLE = """
    Veldhaven tries out a bus without a driver. From 2 April 2032 it will go between the station and
    the hospital every twelve minutes, from six in the morning to ten at night, at no more than 25
    kilometres an hour. The trial lasts eighteen months. It costs 1.9 million euros, and the makers,
    Tolva Cranes, who want to get into something other than cranes, bear half. For the passengers it
    is free.

    A person will be on board all the same, to press the red button. On the test ground this was
    necessary nine times in 4,000 kilometres, five times because of gulls. The taxi drivers fear for
    the ride to the hospital, which brings them a third of their takings. Their request for a
    compensation was rejected by the council, unanimously. A request of the blind to have the stops
    announced aloud, on the other hand, was accepted, and so the bus speaks, with the voice of the
    local weather reader.

    The hospital hopes to get rid of cars. Its car park, 640 places, is full by eight; after the
    opening of the new maternity wing, visits rose by 17 percent. Night nurses are disappointed,
    since their shift ends at half past five, before the first bus. The lane for the bus takes away
    58 places to park in Harbour Street. Ines Calder, who has a bakery there, has collected 900
    signatures against it. A report is to be ready on 30 November 2033."""
HELMET = """
    Quillmark recalls its bicycle helmet Sorrel. In helmets made between January and June 2031 the
    buckle can open in the cold. 7,300 pieces were sold in four countries. Two falls are known in
    which the helmet came off; one rider broke a collarbone, the other was not hurt. The number of
    the batch stands inside, under the foam at the back: everything from S-210 to S-236 is affected,
    in red, grey and white. The black ones come from another factory and are safe.

    Owners should stop using the helmet at once. They can have the strap replaced by any dealer,
    which takes ten minutes and costs nothing, or they get 64 euros back. A receipt is not needed.
    The offer ends on 31 August 2032. Those who bought online ask for a box at
    helmets@quillmark.example and should not send anything before it has come.

    The buckles were delivered by Ardo Locks. The two firms do not agree on who pays: a claim of
    1.1 million euros was rejected by Ardo Locks in April, and a court will have to decide. The
    repaired strap was tested at minus 20 degrees, and the inspectors approved it on 9 May 2032.
    Since the news came out, sales of Quillmark helmets have fallen by 23 percent, also of those
    that have no fault. Dealers receive 8 euros for each strap that they change. A new model with a
    magnet is planned for 2033."""
CHEESE = """
    Because of a mould that does not belong there, Saltery Nord takes back its sea cheese in the
    packet of 200 grams. The lots 51 to 58 are concerned, best before 12 to 19 February; whole
    wheels and the packet of 500 grams are not. A laboratory in Ilmsund found the mould on 21
    January in three of forty samples. It is not dangerous for healthy people, but may be for those
    whose immune system is weak. Nobody has fallen ill so far.

    Of 26,000 packets about 9,000 had been sold when the shops cleared their shelves. They can be
    taken back to any shop, opened or not, for 3.20 euros. The cause was found quickly: a filter in
    the ripening cellar had been put in the wrong way round by an outside firm. It has been
    replaced, the cellar has been washed twice, and the veterinary office approved the restart on 28
    January. Deliveries to hospitals, on which the office decides separately, were not approved.

    For the firm it comes at a bad time. The sea cheese brings a fifth of its revenue, and exports
    had just risen by 13 percent. The insurer covers up to 150,000 euros; the damage is estimated
    at 210,000. Head of production Tadeo Marsh has eaten a piece from lot 53 in front of a camera,
    which the veterinary office called unnecessary. From March on every lot will be tested twice and
    not once. The price stays the same."""
MEETINGS = """
    Do fewer meetings make better work? Brandel Pumps wanted to know. From February to July half of
    its 520 office workers had no meetings before noon; the other half went on as ever. What came
    out was counted by the university of Gravenne. Drawings were finished 12 percent faster in the
    first group. The number of mails, however, rose by 35 percent, and on two mornings the server
    gave up. Overtime fell by 8 percent.

    People liked it, though not all. Of the first group 71 percent want to keep it, among heads of
    department only 38. Ines Calder, who is responsible for purchasing, says that suppliers could
    not be reached in the afternoon and that two contracts were lost. Complaints from customers
    neither rose nor fell. Sick days fell in both groups, which is put down to a mild winter.

    The trial cost 45,000 euros, above all for the counting. A proposal to extend it to the assembly
    hall was rejected, since a shift cannot wait for noon. For the offices the board has approved it
    for another year, with one exception: Monday, when everything may be talked about at any hour.
    A second count follows in July 2033. The professor who led the study, Olof Brandt, warns against
    haste, because those who took part had come forward themselves. His wife's department, he adds,
    has tried to copy it and failed within a week."""
GARDEN = """
    On the roof of the Corrabeck clinic there is a garden, and for two years it has been measured
    whether it does anything. 214 patients with a broken hip took part. Those whose room looked on
    the garden went home after 9.5 days on average, the others after 11. They asked for painkillers
    16 percent less often. Blood pressure was the same in both groups. Among patients over eighty
    there was no difference at all in the days.

    The nurses were asked too. In the wing on the garden side the number who gave notice fell by
    half, from 12 to 6; the head of the clinic, Petra Vinke, calls this the true result. Visits to
    patients grew longer and rose in number by 22 percent. What did not work was the pond: it drew
    mosquitoes and was filled in after one summer.

    The garden cost 380,000 euros, and its care takes 27,000 a year. A request to the health fund to
    pay for the care was refused, with the remark that flowers are no therapy. The town, however,
    approved a grant of 15,000 euros a year until 2036. A second roof, over the children's ward, is
    to be planted by 18 April 2032 if the engineers allow it; the ceiling there has to be
    strengthened first. Critics say that the rooms on the garden side are also the quieter ones. The
    authors admit it and want to repeat the study with windows shut."""


def _has(*ways: str) -> dict[str, Any]:
    return {"forms": list(ways)}


def _moved(is_up: bool, about: Sequence[str], *ways: str) -> dict[str, Any]:
    says, flips = (SAID_UP, SAID_DOWN) if is_up else (SAID_DOWN, SAID_UP)
    return {"forms": list(ways), "about": list(about), "says": list(says), "flips": list(flips)}


def _decided(is_yes: bool, about: Sequence[str]) -> dict[str, Any]:
    says, flips = (SAID_YES, SAID_NO) if is_yes else (SAID_NO, SAID_YES)
    ways = [f"{about[0]} + {word}" for word in says[:6]]
    return {"forms": ways, "about": list(about), "says": list(says), "flips": list(flips)}


def _hand(
    family: str,
    tier: str,
    passage: str,
    reader: str,
    words: int,
    facts: Sequence[Mapping[str, Any]],
    ideal: str,
    turn: tuple[str, str],
) -> dict[str, Any]:
    """turn: what of the ideal says the direction, and the other direction. The ideal says the last
    fact in its last sentence alone."""
    text, right = flat(passage), flat(ideal)
    reader = flat(reader)
    draw = Draw("summarisation", "written", reader)
    name = "-".join(text.lower().split()[:3])
    cluster = "".join(c for c in name if c.isalnum() or c == "-")
    short = right[: right.rstrip(".").rindex(". ") + 1]
    assert turn[0] in right, turn
    made = _case(
        text, reader, words, facts, [right], right.replace(*turn, 1), short, draw, cluster=cluster
    )
    return {"family": family, "tier": tier, **made}


def written() -> list[dict[str, Any]]:
    """A third of the suite: eight passages, each for two or three readers."""
    return [
        _hand("figures", "easy", QUARTER, """
               a farmer who must decide whether to remain an owner of the dairy """, 60,
              [_moved(False, ["31 percent"], "31 percent", "31%"),
               _has("no dividend", "dividend + without", "dividend + not"),
               _has("47 cents", "0.47"), _has("9.4 million", "9,400,000")],
              """Profit fell by 31 percent. There is no dividend this year, and the price for a
              litre stays at 47 cents. The dairy is building a plant for 9.4 million euros.""",
              ("fell", "rose")),
        _hand("figures", "medium", QUARTER, """
              a member of the union who must decide about the pay offer""", 50,
              [_decided(False, ["4 percent"]), _has("2"), _has("2033"),
               _has("20 November", "November 20", "20th of November", "20th November")],
              """The 4 percent that the union asked for were rejected, 2 were offered. Nobody is
              dismissed before the end of 2033. The next meeting is on 20 November.""",
              ("rejected", "accepted")),
        _hand("figures", "medium", QUARTER, """
              a maker of cups who must decide whether to bid for work at the new plant""", 50,
              [_has("Lunvik"), _has("9.4 million", "9,400,000"),
               _has("5 May", "May 5", "5th of May", "5th May"),
               _moved(True, ["6 percent"], "6 percent", "6%")],
              """A plant for returnable cups is being built in Lunvik for 9.4 million euros and
              opens on 5 May 2032. Revenue rose by 6 percent.""", ("rose", "fell")),
        _hand("figures", "medium", MILL, """
              a bank that must decide about a loan to the mill""", 60,
              [_has("310,000", "310 thousand"), _moved(False, ["18 percent"], "18 percent", "18%"),
               _decided(False, ["guarantee"]), _has("700,000", "700 thousand")],
              """The mill made a profit of 310,000 euros, and debt fell by 18 percent. The dye house
              was refused as a guarantee. Cleaning the ground costs 700,000 euros.""",
              ("fell", "rose")),
        _hand("figures", "hard", MILL, """
              a recruiter who must decide whom to approach as head of a weaving hall""", 40,
              [_has("Sofie Lund", "Lund"), _has("June"), _has("five", "5"),
               _moved(True, ["44 percent"], "44 percent", "44%"),
               _has("31 January", "January 31", "31st of January")],
              """Sofie Lund turned the mill round; orders from hotels rose by 44 percent. Her
              contract ends in June. The board offers five more years and expects an answer by 31
              January.""", ("rose", "fell")),
        _hand("decision", "easy", POOL, """
              a parent who must decide where a child learns to swim""", 60,
              [_decided(True, ["renovation"]), _has("1 March", "March 1", "1st of March"),
               _has("15 September", "September 15", "15th of September"),
               _has("2.50", "2.5", "2,50")],
              """The renovation was approved. The pool closes on 1 March 2032 and opens again on 15
              September 2033. Then a swim costs children 2.50 euros.""", ("approved", "rejected")),
        _hand("decision", "medium", POOL, """
              the swimming club, which must decide about its next two years""", 50,
              [_has("1 March", "March 1", "1st of March"), _decided(False, ["50,000"]),
               _has("15 September", "September 15", "15th of September"),
               _has("6 euros", "six euros", "6.00")],
              """From 1 March 2032 to 15 September 2033 the pool is closed. The application for
              50,000 euros was turned down. Afterwards a swim costs 6 euros.""",
              ("turned down", "approved")),
        _hand("decision", "hard", POOL, """
              a lifeguard of the pool who must decide whether to look for other work""", 40,
              [_decided(True, ["renovation"]), _has("1 March", "March 1", "1st of March"),
               _has("seven", "7"),
               _has("lifeguards + end", "lifeguards + ends", "lifeguards + four",
                    "lifeguards + 4", "lifeguards + expire")],
              """The renovation was approved and the pool closes on 1 March 2032. Seven people stay
              on as caretakers. The contracts of the lifeguards end.""", ("approved", "rejected")),
        _hand("decision", "medium", SHUTTLE, """
              a taxi driver who must decide whether to give up the hospital rank""", 50,
              [_has("2 April", "April 2", "2nd of April"),
               _has("eighteen months", "18 months"), _decided(False, ["compensation"]),
               _has("free", "nothing", "no fare", "no charge")],
              """From 2 April 2032 a bus without a driver serves the hospital for eighteen months.
              A compensation for taxi drivers was rejected. Passengers ride for free.""",
              ("rejected", "approved")),
        _hand("decision", "medium", SHUTTLE, """
              the hospital, which must decide about more room for cars""", 60,
              [_has("640"), _moved(True, ["17 percent"], "17 percent", "17%"),
               _has("twelve minutes", "12 minutes"), _has("30 November", "November 30")],
              """The car park with its 640 places is full by eight, and visits rose by 17 percent.
              The bus goes every twelve minutes. A report follows on 30 November 2033.""",
              ("rose", "fell")),
        _hand("recall", "easy", HELMET, """
              an owner of a red Sorrel helmet who must decide what to do""", 60,
              [_has("stop", "not use", "not wear", "no longer"), _has("64"),
               _decided(True, ["strap"]), _has("31 August", "August 31", "31st of August")],
              """Stop using the helmet if its batch is from S-210 to S-236. A dealer puts in a new
              strap, which was approved, or you get 64 euros back. The offer ends on 31 August
              2032.""", ("approved", "rejected")),
        _hand("recall", "medium", HELMET, """
              a dealer who must decide how many straps to order""", 50,
              [_has("7,300"), _has("8 euros", "8.00", "eight euros"),
               _has("ten minutes", "10 minutes"),
               _moved(False, ["23 percent"], "23 percent", "23%")],
              """7,300 helmets were sold. A change takes ten minutes and brings the dealer 8 euros.
              Sales of helmets have fallen by 23 percent.""",
              ("have fallen", "went up")),
        _hand("recall", "hard", HELMET, """
              an insurer of Ardo Locks who must decide how much to put aside""", 40,
              [_has("1.1 million", "1,100,000"), _decided(False, ["claim"]), _has("court"),
               _has("7,300")],
              """Ardo Locks rejected a claim of 1.1 million euros over its buckles, so a court will
              decide. 7,300 helmets were sold.""", ("rejected", "accepted")),
        _hand("recall", "medium", CHEESE, """
              a hospital kitchen that must decide whether to order sea cheese""", 60,
              [_decided(True, ["restart"]), _has("51 to 58", "51-58", "51 through 58"),
               _has("hospitals + not", "hospital + not", "hospitals + no"),
               _has("immune", "weak")],
              """Lots 51 to 58 had mould, which may harm people with a weak immune system. The
              restart was approved. Deliveries to hospitals were not.""",
              ("approved", "rejected")),
        _hand("recall", "medium", CHEESE, """
              an owner of the firm who must decide whether to add money""", 50,
              [_has("210,000"), _has("150,000"), _moved(True, ["13 percent"], "13 percent", "13%"),
               _has("fifth", "20%")],
              """The damage is estimated at 210,000 euros, the insurer covers 150,000. Exports had
              risen, they were up by 13 percent. The cheese brings a fifth of revenue.""",
              ("risen, they were up", "fallen, they were down")),
        _hand("study", "easy", MEETINGS, """
              the head of another office who must decide whether to try mornings without
              meetings""", 60,
              [_has("12 percent", "12%"), _moved(True, ["35 percent"], "35 percent", "35%"),
               _moved(False, ["8 percent"], "8 percent", "8%"), _has("71 percent", "71%")],
              """Drawings were finished 12 percent faster, overtime fell by 8 percent, and mails
              rose by 35 percent. Of those who took part 71 percent want to keep it.""",
              ("fell", "rose")),
        _hand("study", "medium", MEETINGS, """
              the foreman of the assembly hall, who must decide about his shifts""", 50,
              [_decided(False, ["assembly hall"]),
               _decided(True, ["offices"]), _has("July 2033"), _has("Monday", "Mondays")],
              """An extension to the assembly hall was rejected. For the offices it was approved for
              another year, except on Monday. The next count is in July 2033.""",
              ("was rejected", "was approved")),
        _hand("study", "medium", GARDEN, """
              a clinic that must decide whether to plant a roof""", 60,
              [_has("9.5"), _moved(False, ["16 percent"], "16 percent", "16%"),
               _has("380,000"), _has("27,000")],
              """Patients on the garden side went home after 9.5 days and not 11; their use of
              painkillers was lower by 16 percent. The garden cost 380,000 euros. Its care takes
              27,000 a year.""", ("lower", "higher")),
        _hand("study", "hard", GARDEN, """
              a health fund that must decide about paying for such gardens""", 40,
              [_decided(False, ["request"]), _has("27,000"), _has("15,000"),
               _has("quieter", "quiet", "noise")],
              """A request to pay for the care, 27,000 euros a year, was refused. The town gives
              15,000. Critics say the rooms are quieter anyway.""", ("refused", "approved")),
        _hand("study", "hard", GARDEN, """
              a trade union of nurses that must decide where to send its members""", 40,
              [_has("half", "from 12 to 6", "12 to 6"),
               _moved(True, ["22 percent"], "22 percent", "22%"), _has("18 April", "April 18")],
              """The number of nurses who gave notice went from 12 to 6. Visits rose by 22 percent.
              A second roof is to be planted by 18 April 2032.""", ("rose", "fell")),
    ]  # fmt: skip


EXAMPLES = examples(
    "summarisation", _made, (("figures", "easy"), ("recall", "medium"), ("study", "medium"))
)

if __name__ == "__main__":
    main("summarisation")
