"""Extraction: entities and relations of six kinds of documents, as lists of JSON.

Facts are drawn first and written in one of several ways each; every document also has something
that looks like an answer and is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..draw import Draw
from .shipped import examples, flat, main, woven
from .words import FIRMS, PEOPLE, TOWNS, date

CASES = 60
FAMILIES = dict.fromkeys(("invoice", "contract", "incident", "cv", "shipping", "minutes"), 10)
_FEWEST_WORDS = 82

# Types and relations of each family, with what the prompt says of them.
TYPES: dict[str, dict[str, str]] = {
    "invoice": {
        "supplier": "the firm that is to be paid",
        "customer": "the firm that pays",
        "invoice_number": "the number of this invoice",
        "due_date": "the day by which it is to be paid",
        "total": "the amount to pay in the end, as written",
        "discount": "a discount that applies, in percent, as written",
    },
    "contract": {
        "provider": "the party that does the work",
        "client": "the party that pays for it",
        "start_date": "the day on which the contract begins",
        "notice_period": "the time that either party must give before it ends",
        "fee": "what is paid now, as written",
        "penalty": "what is owed for delay, as written",
    },
    "incident": {
        "system": "the system or machine that failed",
        "cause": "what made it fail, as found in the end",
        "start_time": "when it failed",
        "duration": "how long it was out of use",
        "repairer": "the person who repaired it",
        "injured": "a person who was hurt",
    },
    "cv": {
        "person": "whose CV it is",
        "employer": "the firm that employs the person now",
        "position": "what the person is there now",
        "school": "where the person took a degree",
        "degree": "a degree that was completed",
        "language": "a language that the person speaks",
    },
    "shipping": {
        "sender": "the firm that sends",
        "receiver": "the firm that gets the goods",
        "tracking_number": "the number that is valid now",
        "delivery_date": "the day of delivery that is valid now",
        "goods": "what is in the shipment",
        "insurance": "the insured value, as written",
    },
    "minutes": {
        "present": "a person who took part",
        "task": "a task that was given to somebody, as written between quotation marks",
        "deadline": "the day by which a task is to be done",
        "budget": "a budget that was approved, as written",
    },
}
RELATIONS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "invoice": (("supplier", "bills", "customer"), ("invoice_number", "due_on", "due_date")),
    "contract": (("provider", "works_for", "client"), ("client", "pays", "fee")),
    "incident": (("cause", "stopped", "system"), ("repairer", "repaired", "system")),
    "cv": (("person", "works_for", "employer"), ("person", "studied_at", "school")),
    "shipping": (
        ("sender", "ships_to", "receiver"),
        ("tracking_number", "arrives_on", "delivery_date"),
    ),
    "minutes": (("present", "does", "task"), ("task", "due_on", "deadline")),
}  # fmt: skip
PROMPTS = (
    "Extract entities and relations from the document below.\n\nEntity types:\n{types}\n\n"
    "Relations, as [head, relation, tail]:\n{relations}\n\n{rule}\n\nDocument:\n{document}",
    "<document>\n{document}\n</document>\n\nList what the document says of these types:\n{types}\n"
    "\nand of these relations:\n{relations}\n\n{rule}",
)
RULE = (
    "Answer with one JSON object and nothing else, no code fence: "
    '{"entities": [["type", "value"], ...], "relations": [["head", "relation", "tail"], ...]}. '
    "Every value is a string, copied exactly as the document has it, without a, an or the in "
    "front. Name each entity and each relation once. A type that the document has nothing for is "
    "left out."
)


@dataclass
class Document:
    """Sentences, and what they say."""

    sentences: list[str] = field(default_factory=list)
    entities: list[tuple[str, str]] = field(default_factory=list)
    relations: list[tuple[str, str, str]] = field(default_factory=list)
    decoys: list[tuple[str, str]] = field(default_factory=list)  # as (type, value) they look like

    def say(self, draw: Draw, ways: Sequence[str], **values: str) -> None:
        """One of several ways to say something."""
        text = draw.choice(ways).format(**values)
        self.sentences.append(text[0].upper() + text[1:])

    def has(self, **values: str) -> None:
        """Entities by type."""
        self.entities += values.items()


def cases(seed: int = 0, n: int = CASES) -> list[dict[str, Any]]:
    """The suite in its one order; see `shipped.woven`."""
    return woven(
        "extraction", FAMILIES, written(), _made, seed=seed, n=n, max_tokens=512, grader="f1"
    )


def _made(
    family: str, tier: str, draw: Draw, so_far: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    document = Document()
    MAKERS[family](document, draw, tier)
    opening, *rest = document.sentences
    fillers = draw.shuffled(FILLERS[family])
    least = {"easy": 0, "medium": 2, "hard": 4}[tier]
    while fillers and (least > 0 or _words([opening, *rest]) < _FEWEST_WORDS):
        rest.insert(draw.integer(0, len(rest)), fillers.pop())
        least -= 1
    document.sentences = [opening, *rest]
    layout = draw.choice(("flow", "flow", "lines", "two"))
    if layout == "lines":
        text = "\n".join(document.sentences)
    elif layout == "two":
        half = len(document.sentences) // 2
        text = " ".join(document.sentences[:half]) + "\n\n" + " ".join(document.sentences[half:])
    else:
        text = " ".join(document.sentences)
    return _case(family, text, document, draw, cluster=family)


def _words(sentences: Sequence[str]) -> int:
    return sum(len(sentence.split()) for sentence in sentences)


def _money(draw: Draw) -> str:
    whole, cents = draw.integer(180, 9800), draw.choice(("00", "40", "75", "95"))
    return draw.choice((f"{whole:,}.{cents} EUR", f"EUR {whole:,}.{cents}", f"{whole:,} euros"))


def _invoice(document: Document, draw: Draw, tier: str) -> None:
    supplier, customer = draw.sample(FIRMS, 2)
    number, quote = f"R-{draw.integer(1000, 9999)}", f"Q-{draw.integer(1000, 9999)}"
    issued, due = date(draw, 2031), date(draw, 2032)
    total, net = _money(draw), f"EUR {draw.integer(100, 900)}.10"
    document.say(
        draw,
        (
            "Invoice {number} of {supplier} to {customer}.",
            "{supplier} sends this invoice, {number}, to {customer}.",
            "To {customer}: your invoice {number}. Yours, {supplier}.",
            "For goods received {supplier} bills {customer} under number {number}.",
        ),
        number=number,
        supplier=supplier,
        customer=customer,
    )
    document.say(
        draw,
        (
            "It was written on {issued} and follows our quotation {quote}.",
            "Date of issue: {issued}. Our quotation had the number {quote}.",
            "We refer to quotation {quote}; this paper is dated {issued}.",
            "Issued on {issued}, based on the quotation {quote} that you signed.",
        ),
        issued=issued,
        quote=quote,
    )
    document.say(
        draw,
        (
            "Please pay by {due}.",
            "Payment is due on {due}.",
            "The amount must be on our account no later than {due}.",
            "We expect the transfer until {due}.",
        ),
        due=due,
    )
    document.say(
        draw,
        (
            "With tax that makes {total}, after {net} for the goods alone.",
            "The goods come to {net}; the amount to pay is {total}.",
            "Total to pay: {total} (goods: {net}).",
            "In the end {total} are owed, of which {net} is the price without freight.",
        ),
        total=total,
        net=net,
    )
    document.has(
        supplier=supplier, customer=customer, invoice_number=number, due_date=due, total=total
    )
    if draw.chance(0.7):
        percent = f"{draw.choice((2, 3, 5, 8))} %"
        document.say(
            draw,
            (
                "A discount of {percent} is included.",
                "As agreed, {percent} have been taken off.",
                "Your discount of {percent} has been applied already.",
            ),
            percent=percent,
        )
        document.has(discount=percent)
    else:
        document.sentences.append("No discount applies this time.")
    document.relations += [(supplier, "bills", customer), (number, "due_on", due)]
    document.decoys += [("invoice_number", quote), ("due_date", issued), ("total", net)]


def _contract(document: Document, draw: Draw, tier: str) -> None:
    provider, client, other = draw.sample(FIRMS, 3)
    start, signed = date(draw, 2032), date(draw, 2031)
    notice = draw.choice(("three months", "six weeks", "30 days", "one quarter"))
    fee, old = _money(draw), f"{draw.integer(90, 170)} crowns"
    document.say(
        draw,
        (
            "{provider} cleans and repairs the machines of {client}.",
            "The parties agree that {provider} maintains all presses of {client}.",
            "{client} entrusts {provider} with the care of its boilers.",
            "Under this contract {provider} takes over the guard service for {client}.",
        ),
        provider=provider,
        client=client,
    )
    document.say(
        draw,
        (
            "It takes effect on {start}, although both signed on {signed}.",
            "Signed on {signed}, it enters into force on {start}.",
            "The signatures are of {signed}; work begins under it on {start}.",
            "Its first day is {start}. It was signed on {signed}.",
        ),
        start=start,
        signed=signed,
    )
    document.say(
        draw,
        (
            "{client} pays {fee} a month; the {old} of the draft are void.",
            "The monthly fee, {old} in the draft, is now {fee} and is paid by {client}.",
            "For this {client} owes {fee} each month, not {old} as was planned at first.",
            "A fee of {fee} is due from {client} monthly, in place of {old}.",
        ),
        client=client,
        fee=fee,
        old=old,
    )
    document.say(
        draw,
        (
            "Either party may end it with a notice of {notice}.",
            "The period of notice is {notice} for both sides.",
            "Who wants to leave says so {notice} ahead.",
            "Notice must be given {notice} before the end.",
        ),
        notice=notice,
    )
    document.say(
        draw,
        (
            "{other}, which did the work before, is not a party to it.",
            "The former contract with {other} has ended and is not touched.",
            "Nothing in it binds {other}, the previous partner.",
        ),
        other=other,
    )
    document.has(provider=provider, client=client, start_date=start, notice_period=notice, fee=fee)
    if draw.chance(0.7):
        penalty = f"{draw.integer(2, 9) * 50} euros"
        document.say(
            draw,
            (
                "For each day of delay {penalty} are owed.",
                "Should the work be late, the penalty is {penalty} a day.",
                "Delay costs {penalty} a day.",
            ),
            penalty=penalty,
        )
        document.has(penalty=penalty)
    else:
        document.sentences.append("A penalty for delay was discussed and dropped.")
    document.relations += [(provider, "works_for", client), (client, "pays", fee)]
    document.decoys += [("provider", other), ("start_date", signed), ("fee", old)]


def _incident(document: Document, draw: Draw, tier: str) -> None:
    system, spared = draw.sample(
        (
            "mail server",
            "booking desk",
            "cold store",
            "north gate",
            "label printer",
            "pump hall",
            "ticket app",
        ),
        2,
    )
    cause, suspected = draw.sample(
        (
            "a worn belt",
            "a full disk",
            "a power cut",
            "a wrong setting",
            "water in the cable duct",
            "an expired certificate",
        ),
        2,
    )
    hour, later = draw.integer(6, 12), draw.integer(13, 20)
    start, noted = f"{hour:02d}:{draw.choice((10, 25, 40))}", f"{later:02d}:{draw.choice((5, 35))}"
    duration = draw.choice(("47 minutes", "two hours", "95 minutes", "three and a half hours"))
    repairer, caller, hurt = draw.sample(PEOPLE, 3)
    document.say(
        draw,
        (
            "At {start} the {system} failed; this note was entered at {noted}.",
            "The {system} stopped working at {start}. (Entered: {noted}.)",
            "Report of {noted}: since {start} in the morning the {system} had been down.",
            "It was {start} when the {system} gave up, and {noted} when somebody wrote it down.",
        ),
        start=start,
        system=system,
        noted=noted,
    )
    document.say(
        draw,
        (
            "{caller} noticed it first and suspected {suspected}.",
            "It was reported by {caller}, who thought of {suspected}.",
            "{caller} raised the alarm. The first guess was {suspected}.",
            "The call came from {caller}, with {suspected} as a first idea.",
        ),
        caller=caller,
        suspected=suspected,
    )
    document.say(
        draw,
        (
            "That was not it: the cause turned out to be {cause}.",
            "In fact {cause} was to blame, as the inspection showed.",
            "The inspection found {cause} instead.",
            "The true reason was {cause}.",
        ),
        cause=cause,
    )
    document.say(
        draw,
        (
            "{repairer} repaired the {system}, which had been out of use for {duration}.",
            "After {duration} it ran again, thanks to {repairer}.",
            "{repairer} put it right; in all it stood still for {duration}.",
            "It took {duration} until {repairer} had it running again.",
        ),
        repairer=repairer,
        system=system,
        duration=duration,
    )
    document.say(
        draw,
        (
            "The {spared} was not affected.",
            "The {spared} went on working throughout.",
            "Nothing happened to the {spared}.",
        ),
        spared=spared,
    )
    document.has(system=system, cause=cause, start_time=start, duration=duration, repairer=repairer)
    if draw.chance(0.6):
        document.sentences.append("Nobody was hurt.")
    else:
        document.say(
            draw,
            (
                "{hurt} cut a finger and was bandaged on the spot.",
                "{hurt} slipped on the way and hurt a knee.",
            ),
            hurt=hurt,
        )
        document.has(injured=hurt)
    document.relations += [(cause, "stopped", system), (repairer, "repaired", system)]
    document.decoys += [("cause", suspected), ("system", spared), ("repairer", caller)]


def _cv(document: Document, draw: Draw, tier: str) -> None:
    person, (employer, former) = draw.choice(PEOPLE), draw.sample(FIRMS, 2)
    school, dropped = (f"{town} College" for town in draw.sample(TOWNS, 2))
    position, before = draw.sample(
        (
            "head of purchasing",
            "test engineer",
            "payroll clerk",
            "plant manager",
            "sales planner",
            "safety officer",
        ),
        2,
    )
    degree, unfinished = draw.sample(
        (
            "a diploma in mechanics",
            "a degree in law",
            "a diploma in accounting",
            "a degree in chemistry",
        ),
        2,
    )
    document.say(
        draw,
        (
            "Curriculum vitae of {person}.",
            "{person}, a short account of a working life.",
            "Application papers: {person}.",
            "About {person}.",
        ),
        person=person,
    )
    document.say(
        draw,
        (
            "Until 2030 the firm was {former}, where the job was {before}.",
            "The first years were spent at {former} as {before}.",
            "{former} was the first employer, from 2024 to 2030, in the role of {before}.",
            "From 2025 on: {before} with {former}, a post given up in 2030.",
        ),
        former=former,
        before=before,
    )
    document.say(
        draw,
        (
            "Since then {employer} has been the employer; the post there is {position}.",
            "Today it is {employer}, in the post of {position}.",
            "At present: {position} with {employer}.",
            "The present employer is {employer}, which needed somebody as {position}.",
        ),
        employer=employer,
        position=position,
    )
    document.say(
        draw,
        (
            "{school} awarded {degree}.",
            "Studies at {school} ended with {degree}.",
            "There is {degree} from {school}.",
            "What came out of four years at {school} was {degree}.",
        ),
        school=school,
        degree=degree,
    )
    document.say(
        draw,
        (
            "An attempt at {unfinished} at {dropped} was given up after a year.",
            "{dropped} was left without {unfinished}, for want of money.",
            "Evening courses at {dropped} did not lead to {unfinished}.",
        ),
        unfinished=unfinished,
        dropped=dropped,
    )
    document.has(person=person, employer=employer, position=position, school=school, degree=degree)
    if draw.chance(0.7):
        spoken, unknown = draw.sample(("Finnish", "Polish", "Turkish", "Greek", "Danish"), 2)
        document.say(
            draw,
            (
                "Speaks {spoken}, but no {unknown}.",
                "{spoken} is spoken fluently; {unknown} was never learnt.",
                "Languages: {spoken}. A course in {unknown} was cancelled before it began.",
            ),
            spoken=spoken,
            unknown=unknown,
        )
        document.has(language=spoken)
        document.decoys.append(("language", unknown))
    document.relations += [(person, "works_for", employer), (person, "studied_at", school)]
    document.decoys += [("employer", former), ("position", before), ("school", dropped)]


def _shipping(document: Document, draw: Draw, tier: str) -> None:
    sender, receiver, carrier = draw.sample(FIRMS, 3)
    number, old = (f"TR{draw.integer(100000, 999999)}" for _ in range(2))
    arrives, planned = date(draw, 2031), date(draw, 2031)
    while planned == arrives:
        planned = date(draw, 2031)
    goods, left = draw.sample(
        (
            "twelve crates of bolts",
            "two pallets of tiles",
            "a lathe",
            "nine rolls of felt",
            "forty oak doors",
            "a drum of varnish",
        ),
        2,
    )
    document.say(
        draw,
        (
            "Shipping notice: {sender} sends {goods} to {receiver}.",
            "{receiver} will receive {goods} from {sender}.",
            "{goods} are on their way from {sender} to {receiver}.",
            "Dear colleagues at {receiver}, {sender} has sent you {goods}.",
        ),
        sender=sender,
        goods=goods,
        receiver=receiver,
    )
    document.say(
        draw,
        (
            "The number {old} on the first label is void; please use {number}.",
            "Follow it under {number}. The older number {old} leads nowhere.",
            "It was relabelled from {old} to {number}.",
            "Tracking: {number}, which replaces {old}.",
        ),
        old=old,
        number=number,
    )
    document.say(
        draw,
        (
            "Delivery has been moved from {planned} to {arrives}.",
            "It arrives on {arrives} and not, as we wrote, on {planned}.",
            "Expect it on {arrives}; the date of {planned} could not be kept.",
            "The lorry comes on {arrives}. Forget about {planned}.",
        ),
        planned=planned,
        arrives=arrives,
    )
    document.say(
        draw,
        (
            "{carrier} only does the driving and owns none of it.",
            "The lorry belongs to {carrier}.",
            "The driver is employed by {carrier}, our carrier.",
        ),
        carrier=carrier,
    )
    document.say(
        draw,
        (
            "Not part of it: {left}, which will follow later.",
            "What is missing, {left}, comes in spring.",
            "We could not load {left} this time.",
        ),
        left=left,
    )
    document.has(
        sender=sender, receiver=receiver, tracking_number=number, delivery_date=arrives, goods=goods
    )
    if draw.chance(0.65):
        value = _money(draw)
        document.say(
            draw,
            (
                "The load is insured for {value}.",
                "Insurance covers {value}.",
                "It has been insured; the value stated is {value}.",
            ),
            value=value,
        )
        document.has(insurance=value)
    else:
        document.sentences.append("The load is not insured, as you wished.")
    document.relations += [(sender, "ships_to", receiver), (number, "arrives_on", arrives)]
    document.decoys += [("tracking_number", old), ("delivery_date", planned), ("sender", carrier)]


def _minutes(document: Document, draw: Draw, tier: str) -> None:
    people = draw.sample(PEOPLE, {"easy": 3, "medium": 4, "hard": 5}[tier])
    *present, absent = people
    tasks = draw.sample(
        (
            "order new chairs",
            "call the insurer",
            "repaint the hall",
            "test the sirens",
            "update the price list",
            "clear the attic",
            "hire a trainee",
            "sort the keys",
        ),
        len(present) + 1,
    )
    *given, refused = tasks
    listed = ", ".join(present[:-1]) + f" and {present[-1]}" if len(present) > 1 else present[0]
    document.say(
        draw,
        (
            "Present were {listed}. {absent} had sent apologies.",
            "{listed} took part; {absent} was ill.",
            "Round the table: {listed}. The chair of {absent} stayed empty.",
            "Meeting of {listed}, without {absent}, who was travelling.",
        ),
        listed=listed,
        absent=absent,
    )
    document.entities += [("present", person) for person in present]
    for person, task in zip(present[:3], given, strict=False):
        day = date(draw, 2032)
        document.say(
            draw,
            (
                "{person} is to '{task}' by {day}.",
                "The task '{task}' goes to {person} and ends on {day}.",
                "By {day} {person} will '{task}'.",
                "'{task}' was taken on by {person}, with {day} as the last day.",
            ),
            person=person,
            task=task,
            day=day,
        )
        document.entities += [("task", task), ("deadline", day)]
        document.relations += [(person, "does", task), (task, "due_on", day)]
    document.say(
        draw,
        (
            "The wish to '{refused}' was voted down.",
            "Nobody wanted to '{refused}', so this was dropped.",
            "It was decided not to '{refused}' this year.",
        ),
        refused=refused,
    )
    asked, next_time = _money(draw), date(draw, 2033)
    document.say(
        draw,
        (
            "The next meeting is on {next_time}.",
            "All meet again on {next_time}.",
            "See you on {next_time}.",
        ),
        next_time=next_time,
    )
    if draw.chance(0.5):
        document.say(
            draw,
            (
                "A budget of {asked} was approved.",
                "For all this {asked} were granted.",
            ),
            asked=asked,
        )
        document.has(budget=asked)
    else:
        document.say(
            draw,
            (
                "A budget of {asked} was asked for and refused.",
                "The request for {asked} found no majority.",
            ),
            asked=asked,
        )
        document.decoys.append(("budget", asked))
    document.decoys += [("present", absent), ("task", refused), ("deadline", next_time)]


MAKERS: Mapping[str, Callable[[Document, Draw, str], None]] = {
    "invoice": _invoice,
    "contract": _contract,
    "incident": _incident,
    "cv": _cv,
    "shipping": _shipping,
    "minutes": _minutes,
}
FILLERS: dict[str, tuple[str, ...]] = {
    "invoice": (
        "The goods remain ours until they are paid for.",
        "Please state the number with your transfer, otherwise we cannot match it.",
        "Our office is closed between the holidays, but the mailbox is read every day.",
        "Packaging is taken back free of charge if you fold it and tie it up.",
        "If anything is broken, tell us within a week and keep the box.",
        "Thank you for your trust; we are glad that the new colour was liked.",
        "Questions are answered at accounts@office.example or at 555-0142.",
    ),
    "contract": (
        "Changes need the written form, and so does a change of this sentence.",
        "Should one clause be void, the others stay in force.",
        "Tools and overalls are brought along by those who do the work.",
        "Keys are handed out against a signature and may not be copied.",
        "Both sides keep to themselves what they learn about each other.",
        "The place of jurisdiction is the seat of the party that is sued.",
        "Annex A has the floor plans and annex B the list of substances in use.",
    ),
    "incident": (
        "Customers were told by a notice at the door and on the website.",
        "The spare part was in the cabinet, where it belongs.",
        "A photograph of the damage is attached to the paper copy.",
        "The last inspection had been without any finding.",
        "It rained heavily on that morning, which may or may not matter.",
        "The emergency lamps came on as they should.",
        "A check of similar machines is planned for the coming week.",
    ),
    "cv": (
        "In spare time there is a choir, a bicycle and an allotment with far too many beans.",
        "Driving licence for cars and small lorries.",
        "References are available from two former superiors.",
        "Military service was not required; a year at a hospital took its place.",
        "Travel is no problem, moving house would be.",
        "A course in first aid is refreshed every two years.",
        "The earliest day to begin a new post would be the first of a quarter.",
    ),
    "shipping": (
        "Please have a fork-lift ready, since the lorry has no tail lift.",
        "The gate is too low for vehicles above four metres, so use the yard.",
        "The papers travel in a green envelope fixed to the first item.",
        "Empty pallets are taken back on the same day if they are dry.",
        "Damage must be noted on the slip before the driver leaves.",
        "Our dispatch team can be reached at 555-0117 from seven to four.",
        "The weight has been checked twice and fits the bridge at your gate.",
    ),
    "minutes": (
        "The minutes of the last meeting were accepted without changes.",
        "There was a long talk about parking, without a result.",
        "The window was opened and closed several times, as always.",
        "Coffee is now brought by whoever comes last.",
        "A guest from the fire service explained the new alarm tones.",
        "The room is to be left earlier in future, because of the cleaning.",
        "Somebody asked for shorter meetings, which was noted with applause.",
    ),
}


def _case(
    family: str, text: str, document: Document, draw: Draw, *, cluster: str
) -> dict[str, Any]:
    """A case of a document, with what goes wrong."""
    entities = [[kind, _bare(value)] for kind, value in dict.fromkeys(document.entities)]
    relations = [[_bare(head), name, _bare(tail)] for head, name, tail in document.relations]
    decoys = [[kind, _bare(value)] for kind, value in document.decoys]
    types = "\n".join(f"- {name}: {meaning}" for name, meaning in TYPES[family].items())
    lines = "\n".join(f"- [{a}, {relation}, {b}]" for a, relation, b in RELATIONS[family])
    right = _json(entities, relations)
    parts = re.split(r"(?<=[.:])\s", text)
    index, sentence = next(
        (index, part)
        for index, (_, value) in enumerate(entities)
        for part in parts
        if value in part and len(part) > len(value) + 10
    )
    spanned = [[kind, sentence if i == index else v] for i, (kind, v) in enumerate(entities)]
    words = list(dict.fromkeys(re.findall(r"\b[A-Z][A-Za-z]+", text)))
    decoy = draw.choice(decoys)
    head, relation, tail = relations[0]
    wrong = [
        [_json(spanned, relations), "wrong_span"],
        [_json([["person", word] for word in words] + entities, []), "too_many_items"],
        [_json([*entities, decoy], relations), "decoy"],
        [_json(entities, [[tail, relation, head], *relations[1:]]), "reversed_relation"],
        [_json([[entities[0][0], [entities[0][1]]], *entities[1:]], relations), "malformed_item"],
        [_json([*entities, entities[0]], relations), "repeated_item"],
        [_json(entities[:-1], relations), "missing_item"],
        [f"```json\n{right}\n```", "in_text"],
        ["The document names " + entities[0][1] + ".", "not_json"],
        [json.dumps(entities), "wrong_shape"],
    ]
    return {
        "family": family,
        "cluster_id": f"extraction-{cluster}",
        "prompt": draw.choice(PROMPTS).format(
            types=types, relations=lines, rule=RULE, document=text
        ),
        "expected": {
            "entities": entities,
            "relations": relations,
            "decoys": [value for _, value in decoys],
        },
        "ideal": [
            right,
            json.dumps(
                {"relations": relations[::-1], "entities": entities[::-1]},
                indent=2,
                ensure_ascii=False,
            ),
        ],
        "wrong": wrong,
    }


def _bare(value: str) -> str:
    """Without an article: what the prompt asks for."""
    return re.sub(r"^(?:a|an|the) ", "", value)


def _json(entities: Sequence[Any], relations: Sequence[Any]) -> str:
    return json.dumps({"entities": entities, "relations": relations}, ensure_ascii=False)


# --- written by hand -----------------------------------------------------------------------------


def _written(
    family: str,
    tier: str,
    text: str,
    entities: Mapping[str, str | list[str]],
    relations: Sequence[tuple[str, str, str]],
    decoys: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    listed = [
        (kind, value)
        for kind, values in entities.items()
        for value in ([values] if isinstance(values, str) else values)
    ]
    document = Document([], listed, list(relations), list(decoys))
    body = flat(text)
    number = "-".join(body.lower().split()[:3]).strip(".,:")
    draw = Draw("extraction", "written", family, body)
    return {"tier": tier, **_case(family, body, document, draw, cluster=f"{family}-{number}")}


def written() -> list[dict[str, Any]]:
    """A third of the suite."""
    return [
        _written("invoice", "easy", """
            Hestrup Dairy, Veldhaven. Invoice M-2044 for the Quillmark canteen, 6 June 2031.

            We delivered 40 crates of yoghurt on 2 June and took back 38 empty ones; two are still
            with you, which is no trouble. Your order had the number B-2039, please do not use that
            one when you pay. For the yoghurt and the two deposits we ask for 312.60 EUR by 20 June
            2031. As a friend of the house you know that there is no discount on milk, however often
            your chef asks us about it on the telephone. With kind regards from the cool side of the
            harbour.""",
            {"supplier": "Hestrup Dairy", "customer": "Quillmark", "invoice_number": "M-2044",
             "due_date": "20 June 2031", "total": "312.60 EUR"},
            [("Hestrup Dairy", "bills", "Quillmark"), ("M-2044", "due_on", "20 June 2031")],
            [("invoice_number", "B-2039"), ("due_date", "6 June 2031"), ("due_date", "2 June")]),
        _written("invoice", "medium", """
            Dear Ms Calder,

            you asked for a corrected paper, here it is. Please put our invoice 77-118 of last week
            through the shredder; this one, 77-121, takes its place. The difference is the crane,
            which stood still on Tuesday because of the wind, so Tolva Cranes does not charge
            Osterlin Glass for that day. What remains is 4,480 euros, from which we have already
            taken the 4 % that were agreed when the yard was built. Since the correction was our
            fault you have a little longer than usual, namely until 30 September 2031 and not until
            the 15th.""",
            {"supplier": "Tolva Cranes", "customer": "Osterlin Glass", "invoice_number": "77-121",
             "due_date": "30 September 2031", "total": "4,480 euros", "discount": "4 %"},
            [("Tolva Cranes", "bills", "Osterlin Glass"),
             ("77-121", "due_on", "30 September 2031")],
            [("invoice_number", "77-118"), ("customer", "Ms Calder"), ("due_date", "the 15th")]),
        _written("invoice", "medium", """
            Mireau Inks
            Invoice 2031/0915
            To: Saltery Nord, print room

            Pos. 1: black, 12 litres, 198.00 EUR. Pos. 2: cyan, 4 litres, 84.00 EUR. Pos. 3: roller
            cleaner, a gift. Sum of the goods: 282.00 EUR. You pay on account as always, and those
            who have paid nine times on time get 3 % off the tenth, so congratulations: the amount
            to pay is 273.54 EUR. Our bank books on working days alone, therefore please send it so
            that it is with us on 28 October 2031. The goods left our house on 14 October 2031 with
            our own van.""",
            {"supplier": "Mireau Inks", "customer": "Saltery Nord", "invoice_number": "2031/0915",
             "due_date": "28 October 2031", "total": "273.54 EUR", "discount": "3 %"},
            [("Mireau Inks", "bills", "Saltery Nord"),
             ("2031/0915", "due_on", "28 October 2031")],
            [("total", "282.00 EUR"), ("due_date", "14 October 2031"), ("total", "198.00 EUR")]),
        _written("invoice", "hard", """
            Ardo Locks to Kovat Bearings, a reminder and, because the first paper seems to have gone
            astray, the paper itself once more.

            On 3 March 2031 we changed 61 cylinders in your east wing under offer A-550. Zeveny
            Boats, who share the stairs with you, pay for their nine doors themselves and have
            nothing to do with this. Invoice number: L-8106. You will see that it shows 2,745.00 EUR
            with the note 'less 10 % if paid within a week'. That week is long over, so the note no
            longer applies and the full 2,745.00 EUR are owed. The last day on which we accept it
            without a fee is 9 May 2031.""",
            {"supplier": "Ardo Locks", "customer": "Kovat Bearings", "invoice_number": "L-8106",
             "due_date": "9 May 2031", "total": "2,745.00 EUR"},
            [("Ardo Locks", "bills", "Kovat Bearings"), ("L-8106", "due_on", "9 May 2031")],
            [("customer", "Zeveny Boats"), ("invoice_number", "A-550"), ("discount", "10 %"),
             ("due_date", "3 March 2031")]),
        _written("contract", "easy", """
            Agreement between Niraj Looms and Brandel Pumps.

            Brandel Pumps looks after the four wells of Niraj Looms. It sends somebody on the first
            Monday of each month who measures, cleans and writes down. Niraj Looms pays 640 euros a
            month for it. The agreement begins on 1 April 2032; the talks about it began as early as
            5 November 2031. Whoever wants to end it has to say so two months ahead, in writing.
            Nothing is agreed about penalties, since both have known one another for twenty years
            and prefer to use the telephone when something is late.""",
            {"provider": "Brandel Pumps", "client": "Niraj Looms", "start_date": "1 April 2032",
             "notice_period": "two months", "fee": "640 euros"},
            [("Brandel Pumps", "works_for", "Niraj Looms"), ("Niraj Looms", "pays", "640 euros")],
            [("start_date", "5 November 2031"), ("start_date", "first Monday")]),
        _written("contract", "medium", """
            Clause 2. Quillmark, hereinafter the agency, writes and lays out the house journal of
            Saltery Nord, hereinafter the customer, four times a year. Clause 3. In place of the
            1,900 euros of the contract of 2028 the customer pays the agency 2,150 euros an issue.
            Clause 4. Should an issue come late by more than ten working days, the agency forfeits
            300 euros. Clause 5. The contract is valid from 1 January 2032 and runs on until it is
            ended by one of the two with a notice of six months; before 31 December 2033 this right
            is excluded. Printing is done by others and is not part of it.""",
            {"provider": "Quillmark", "client": "Saltery Nord", "start_date": "1 January 2032",
             "notice_period": "six months", "fee": "2,150 euros", "penalty": "300 euros"},
            [("Quillmark", "works_for", "Saltery Nord"),
             ("Saltery Nord", "pays", "2,150 euros")],
            [("fee", "1,900 euros"), ("start_date", "31 December 2033"),
             ("notice_period", "ten working days")]),
        _written("contract", "medium", """
            Between Zeveny Boats and Hestrup Dairy the following is agreed about the winter storage
            of the milk ferry. From 15 October 2031 until it is wanted back, the ferry lies in the
            large shed of Zeveny Boats, who keep it dry, turn the engine over once a week and chase
            away the martens. Hestrup Dairy pays 95 euros a week; the 80 euros that were named at
            the regatta were a slip of the tongue. A fortnight is enough as notice on either side.
            If the ferry is not in the water on the day that was announced, 120 euros are owed for
            every day that follows. Tolva Cranes lifts it, at the expense of whoever ordered it.""",
            {"provider": "Zeveny Boats", "client": "Hestrup Dairy",
             "start_date": "15 October 2031", "notice_period": "a fortnight", "fee": "95 euros",
             "penalty": "120 euros"},
            [("Zeveny Boats", "works_for", "Hestrup Dairy"),
             ("Hestrup Dairy", "pays", "95 euros")],
            [("fee", "80 euros"), ("provider", "Tolva Cranes"), ("start_date", "the regatta")]),
        _written("contract", "hard", """
            Letter of amendment. The contract of 11 May 2029, by which Kovat Bearings took over the
            night watch at Osterlin Glass from Ardo Locks, is changed as follows. The watch is
            extended to the sand yard. For this the sum that Osterlin Glass pays rises from 3,300
            euros to 3,975 euros a month. The period of notice, which had been one month and was
            felt by both to be too short, becomes one quarter. All this holds from 1 July 2032. The
            passage on penalties in the old contract is struck out and nothing takes its place; what
            was forfeited under it before that day stays forfeited.""",
            {"provider": "Kovat Bearings", "client": "Osterlin Glass", "start_date": "1 July 2032",
             "notice_period": "one quarter", "fee": "3,975 euros"},
            [("Kovat Bearings", "works_for", "Osterlin Glass"),
             ("Osterlin Glass", "pays", "3,975 euros")],
            [("start_date", "11 May 2029"), ("fee", "3,300 euros"), ("provider", "Ardo Locks"),
             ("notice_period", "one month")]),
        _written("incident", "easy", """
            Night shift, 14 to 15 February. At 02:50 the dough mixer stopped in the middle of a
            batch. The fuses were fine and so was the mains. Olof Brandt opened the cover, found a
            spoon in the gear and took it out; after 35 minutes the mixer was turning again. The
            bread slicer next to it had been running all the time, nobody touched it. Jonas Aldo
            burnt his hand on the cover when he helped, and the first-aid box was used. The batch
            was thrown away. Whose spoon it was has not been found out and, as we all know each
            other here, perhaps it should stay that way.""",
            {"system": "dough mixer", "cause": "a spoon in the gear", "start_time": "02:50",
             "duration": "35 minutes", "repairer": "Olof Brandt", "injured": "Jonas Aldo"},
            [("a spoon in the gear", "stopped", "dough mixer"),
             ("Olof Brandt", "repaired", "dough mixer")],
            [("system", "bread slicer"), ("cause", "fuses")]),
        _written("incident", "medium", """
            Subject: why nobody could book a desk yesterday

            Hello all, short and honest. From 08:05 the desk planner showed an empty page. We first
            blamed the browser update of the evening before and sent you all to clear your caches,
            for which I apologise, because it was of no use. At 11:20 Mira Katz looked at the server
            instead and saw that an unpaid domain had taken the planner down. She paid it from her
            own card and after three hours and a half all was as before. The room planner runs on
            another machine and never noticed. No data were lost and no person came to harm.""",
            {"system": "desk planner", "cause": "an unpaid domain", "start_time": "08:05",
             "duration": "three hours and a half", "repairer": "Mira Katz"},
            [("an unpaid domain", "stopped", "desk planner"),
             ("Mira Katz", "repaired", "desk planner")],
            [("cause", "browser update"), ("system", "room planner"), ("start_time", "11:20")]),
        _written("incident", "hard", """
            Statement on the standstill in hall 2. I, Hugo Stellan, had the watch but did not repair
            anything myself and would like that to be written down. The paint line went quiet at
            16:42; the clock in the hall said 16:50, which is wrong as it always is. I thought of
            the compressor, since it had coughed at noon. The compressor was innocent. Sofie Lund
            came over from hall 1 and found a jammed valve within minutes, but the spare was at the
            other end of the site, hence 80 minutes. While it was being fetched, Kenji Abara walked
            into the open hatch and sprained an ankle. Ines Calder drove him to the doctor.""",
            {"system": "paint line", "cause": "a jammed valve", "start_time": "16:42",
             "duration": "80 minutes", "repairer": "Sofie Lund", "injured": "Kenji Abara"},
            [("a jammed valve", "stopped", "paint line"),
             ("Sofie Lund", "repaired", "paint line")],
            [("repairer", "Hugo Stellan"), ("start_time", "16:50"), ("system", "compressor"),
             ("injured", "Ines Calder")]),
        _written("cv", "easy", """
            Petra Vinke. I grew up above a bakery and can still tell flour types apart by touch. For
            six years I was a clerk at Saltery Nord and learnt what I know about customs there. I
            have been with Tolva Cranes since 2029, first for a trial month and now as head of
            exports. My certificate in foreign trade I got from Sibury College, in evening classes,
            next to the job. I speak Danish at home and have started Portuguese twice, without
            getting past the greetings. On weekends you will find me in a boat that leaks, or
            next to it with a brush in my hand.""",
            {"person": "Petra Vinke", "employer": "Tolva Cranes", "position": "head of exports",
             "school": "Sibury College", "degree": "certificate in foreign trade",
             "language": "Danish"},
            [("Petra Vinke", "works_for", "Tolva Cranes"),
             ("Petra Vinke", "studied_at", "Sibury College")],
            [("employer", "Saltery Nord"), ("position", "clerk"), ("language", "Portuguese")]),
        _written("cv", "medium", """
            Name: Marek Dolan
            Wanted: a post in which I can plan

            2031 to today: Niraj Looms, shift planner. 2026 to 2031: Quillmark, driver, later deputy
            head of the depot. 2025: half a year at Ilmsund Academy, nautical studies, left because
            of seasickness, without a certificate. 2021 to 2024: Gravenne College, which gave me a
            diploma in logistics. Other things: I can drive whatever has wheels. I understand that
            languages are asked for in the advertisement; to be honest, apart from my own I have
            none that I would call one. My present chief, Wilma Oster, knows about this letter and
            will speak well of me.""",
            {"person": "Marek Dolan", "employer": "Niraj Looms", "position": "shift planner",
             "school": "Gravenne College", "degree": "diploma in logistics"},
            [("Marek Dolan", "works_for", "Niraj Looms"),
             ("Marek Dolan", "studied_at", "Gravenne College")],
            [("employer", "Quillmark"), ("school", "Ilmsund Academy"), ("person", "Wilma Oster"),
             ("degree", "nautical studies")]),
        _written("cv", "hard", """
            Reference. Runa Eklind asked me, as her superior of many years at Mireau Inks, for a few
            lines, although she left us for Osterlin Glass in 2030 and we have missed her since. At
            Osterlin Glass she has meanwhile risen from laboratory assistant to furnace engineer. I
            am not surprised. When she came to us she had a degree in chemistry from Lunvik College
            in her bag and an offer from Pellworth College for a doctorate in her pocket. The offer
            she turned down, which some called foolish. Visitors from abroad were always sent to
            her, since she speaks Finnish as you and I speak about the weather. Her colleague Tadeo
            Marsh took the other half of them, in Greek. Signed: Jonas Aldo.""",
            {"person": "Runa Eklind", "employer": "Osterlin Glass",
             "position": "furnace engineer", "school": "Lunvik College",
             "degree": "degree in chemistry", "language": "Finnish"},
            [("Runa Eklind", "works_for", "Osterlin Glass"),
             ("Runa Eklind", "studied_at", "Lunvik College")],
            [("employer", "Mireau Inks"), ("position", "laboratory assistant"),
             ("school", "Pellworth College"), ("language", "Greek"), ("person", "Jonas Aldo")]),
        _written("shipping", "easy", """
            Notice of dispatch. Today Osterlin Glass has sent 600 jam jars to Hestrup Dairy. They
            travel on six pallets, wrapped twice, under the number OG-3381. If all goes well they
            are with you on 17 August 2031; if you are on holiday then, please tell us before the
            10th and we keep them here. The lids are not in this shipment, they come straight from
            their maker. Your last shipment had the number OG-3378, in case your computer still
            shows that one. As jars are cheaper than the paper it takes to insure them, we have not
            insured them this time either.""",
            {"sender": "Osterlin Glass", "receiver": "Hestrup Dairy",
             "tracking_number": "OG-3381", "delivery_date": "17 August 2031",
             "goods": "600 jam jars"},
            [("Osterlin Glass", "ships_to", "Hestrup Dairy"),
             ("OG-3381", "arrives_on", "17 August 2031")],
            [("tracking_number", "OG-3378"), ("goods", "lids"), ("delivery_date", "the 10th")]),
        _written("shipping", "medium", """
            To the gatehouse of Brandel Pumps: on 4 December 2031, and not on the 2nd as it says on
            your board, a low loader brings you a boring mill. It comes from Kovat Bearings. The
            paper to look for has the number LT-90-4; if the driver shows you LT-90-3, that is the
            foundation frame for somebody else, send him on to the next yard. The machine is 3.4 m
            wide, so both wings of the gate have to be open and the bicycle stand has to go. Its
            insured value is 86,000 euros, which is to say: no photographs with somebody sitting on
            it. The escort vehicles belong to Tolva Cranes and drive home at once.""",
            {"sender": "Kovat Bearings", "receiver": "Brandel Pumps",
             "tracking_number": "LT-90-4", "delivery_date": "4 December 2031",
             "goods": "a boring mill", "insurance": "86,000 euros"},
            [("Kovat Bearings", "ships_to", "Brandel Pumps"),
             ("LT-90-4", "arrives_on", "4 December 2031")],
            [("tracking_number", "LT-90-3"), ("sender", "Tolva Cranes"), ("delivery_date", "2nd"),
             ("goods", "foundation frame")]),
        _written("shipping", "hard", """
            Subject: Re: Re: where are my looms

            Dear Mr Brandt, you are right to be cross. What happened: Saltery Nord, through whose
            hall everything goes, put the label of your shipment on a load of herring and the other
            way round. The herring has been stopped. Your four looms left Niraj Looms as promised on
            12 January 2032 and are now in Corrabeck. They have been given a fresh number, NL-7702,
            because NL-7690 will for ever be herring. Barring snow they will be unloaded at your
            firm, Zeveny Boats, on 21 January 2032. The insured value remains 31,500 euros; for the
            delay we take 400 euros off the freight.""",
            {"sender": "Niraj Looms", "receiver": "Zeveny Boats", "tracking_number": "NL-7702",
             "delivery_date": "21 January 2032", "goods": "four looms",
             "insurance": "31,500 euros"},
            [("Niraj Looms", "ships_to", "Zeveny Boats"),
             ("NL-7702", "arrives_on", "21 January 2032")],
            [("sender", "Saltery Nord"), ("tracking_number", "NL-7690"),
             ("delivery_date", "12 January 2032"), ("insurance", "400 euros"),
             ("goods", "herring")]),
        _written("minutes", "easy", """
            Works council, Tuesday. There: Ines Calder, Kenji Abara. Not there: Hugo Stellan, whose
            train did not come. The two of them decided that Kenji Abara will 'count the lockers'
            until 8 April 2032, since nobody knows how many there are, and that the lockers will be
            painted only after that, in whichever colour is left over from the stairs. A proposal to
            'remove the clock' was rejected, because it is wrong but loved. For paint and brushes
            350 euros were approved. The next meeting has not been fixed and will be called when the
            lockers have been counted.""",
            {"present": ["Ines Calder", "Kenji Abara"], "task": "count the lockers",
             "deadline": "8 April 2032", "budget": "350 euros"},
            [("Kenji Abara", "does", "count the lockers"),
             ("count the lockers", "due_on", "8 April 2032")],
            [("present", "Hugo Stellan"), ("task", "remove the clock")]),
        _written("minutes", "medium", """
            Committee of the harbour feast, third session. Sofie Lund opens, Wilma Oster writes,
            Tadeo Marsh complains about the heating; others have not come, and Mira Katz has left
            the committee altogether. (1) Sofie Lund will 'hire the brass band' by 15 March 2032.
            (2) Wilma Oster will 'ask for the pier' by 1 March 2032. (3) Tadeo Marsh offers to
            'bring fireworks', which is declined with thanks after the experience of last year.
            (4) The band asks for 900 euros; the money is not granted, Sofie Lund is to talk them
            down first. Next meeting: 3 March 2032, with heating.""",
            {"present": ["Sofie Lund", "Wilma Oster", "Tadeo Marsh"],
             "task": ["hire the brass band", "ask for the pier"],
             "deadline": ["15 March 2032", "1 March 2032"]},
            [("Sofie Lund", "does", "hire the brass band"),
             ("Wilma Oster", "does", "ask for the pier"),
             ("hire the brass band", "due_on", "15 March 2032"),
             ("ask for the pier", "due_on", "1 March 2032")],
            [("present", "Mira Katz"), ("task", "bring fireworks"), ("budget", "900 euros"),
             ("deadline", "3 March 2032")]),
        _written("minutes", "hard", """
            Notes on the call about the move, for those who were cut off. On the line to the end:
            Petra Vinke, Jonas Aldo, Marek Dolan and Runa Eklind. Olof Brandt dialled in and was
            never heard. Petra Vinke had promised to 'pack the archive' by 2 May 2032; as her arm is
            in plaster Jonas Aldo takes that over, and the date stays. Marek Dolan will 'cancel the
            old lease', for which the last day is 30 April 2032, and not a day later. Whether to
            'sell the long table' was left open. The 5,200 euros for the movers are approved;
            the 800 euros for new curtains are not.""",
            {"present": ["Petra Vinke", "Jonas Aldo", "Marek Dolan", "Runa Eklind"],
             "task": ["pack the archive", "cancel the old lease"],
             "deadline": ["2 May 2032", "30 April 2032"], "budget": "5,200 euros"},
            [("Jonas Aldo", "does", "pack the archive"),
             ("Marek Dolan", "does", "cancel the old lease"),
             ("pack the archive", "due_on", "2 May 2032"),
             ("cancel the old lease", "due_on", "30 April 2032")],
            [("present", "Olof Brandt"), ("task", "sell the long table"),
             ("budget", "800 euros")]),
    ]  # fmt: skip


EXAMPLES = examples(
    "extraction", _made, (("invoice", "easy"), ("minutes", "easy"), ("cv", "medium"))
)

if __name__ == "__main__":
    main("extraction")
