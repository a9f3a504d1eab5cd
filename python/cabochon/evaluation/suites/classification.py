"""Classification: one intent of a list (48), or all topics of a list that a text speaks of (24).

Labels of a list are balanced: each is the right one once or twice among those shipped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..draw import Draw
from .shipped import examples, flat, main, woven

CASES = 72
FAMILIES = {
    "plain": 12,
    "negation": 8,
    "priority": 8,
    "out_of_scope": 6,
    "code_switched": 8,
    "near_synonym": 6,
    "topics": 24,
}

# Label: what it means, three ways to ask for it, one in other languages, a thing not wanted.
Label = tuple[str, tuple[str, str, str], str, str]
SHOP: dict[str, Label] = {
    "refund": (
        "the customer wants money back for something already paid",
        (
            "I was charged for the {item} twice on {day} and want one of the payments back.",
            "The {item} never arrived and by now I only want what I paid returned to my card.",
            "You took {amount} for the {item} although the basket showed a discount. Pay me the "
            "difference back.",
        ),
        "Quiero que me devuelvan el dinero del {item}, order {number}, gracias.",
        "a refund",
    ),
    "exchange": (
        "the customer wants the article swapped for another size, colour or working copy",
        (
            "The {item} is one size too small. Can it be swapped for the next size up?",
            "I received the {item} in grey but would rather have the green one instead.",
            "The zip of my {item} broke on the first day. Send me a working one, please, and I "
            "post this one back.",
        ),
        "Der {item} passt nicht, can I have it in a larger size bitte?",
        "a different size or a replacement",
    ),
    "cancel_order": (
        "an order that has not been shipped is to be stopped",
        (
            "Order {number} has not left your warehouse yet, so please stop it.",
            "I ordered the {item} by mistake a few minutes ago and do not want it sent.",
            "My plans changed. Please call off order {number} before it ships.",
        ),
        "Bitte storniert die order {number}, it has not been shipped yet.",
        "a cancelled order",
    ),
    "delivery_status": (
        "the customer asks where a parcel is or when it comes",
        (
            "The tracking page for {number} has not moved since {day}. Where is it?",
            "Can you tell me on which day the {item} will reach me?",
            "It says 'handed to carrier' for order {number}, but nobody rang. What happened to the "
            "parcel?",
        ),
        "Hola, my parcel {number}, dónde está? Tracking says nothing since {day}.",
        "news of a parcel",
    ),
    "change_address": (
        "the delivery address of an order or account is to be changed",
        (
            "I have moved. Please send order {number} to my new flat instead.",
            "There is a wrong house number in my profile and I cannot edit it.",
            "Could order {number} go to my office rather than to my home?",
        ),
        "Ich bin umgezogen, please update the Lieferadresse for {number}.",
        "a new address",
    ),
    "invoice_copy": (
        "the customer needs an invoice document for a payment that is not in dispute",
        (
            "My accountant needs the paper for the {item} with our tax number on it.",
            "Please mail me the bill for order {number} as a PDF once more.",
            "I paid {amount} in {month} and need the document for my expenses.",
        ),
        "Il me faut la facture for order {number}, pour ma comptabilité.",
        "a copy of the invoice",
    ),
    "product_question": (
        "a question about an article before it is bought",
        (
            "Does the {item} also come in a version for left-handed people?",
            "How heavy is the {item}, and may it go in the dishwasher?",
            "I wonder whether the {item} fits a shelf of 30 cm before I order one.",
        ),
        "Bonjour, is the {item} waterproof? Je ne l'ai pas encore acheté.",
        "advice about an article",
    ),
    "loyalty_points": (
        "points, vouchers or the member programme",
        (
            "My {month} purchases have not added anything to my member balance.",
            "How many points do I need for the {amount} voucher?",
            "The voucher code from your members' mail is rejected at the till.",
        ),
        "Mis puntos from {month} are missing, puede mirar mi cuenta?",
        "anything about points",
    ),
    "complaint_staff": (
        "the customer complains about how somebody of the shop behaved",
        (
            "The man on your phone line laughed at my question on {day} and hung up.",
            "Your courier shouted at my neighbour and left without a word.",
            "I was treated rudely at the counter when I asked about the {item}.",
        ),
        "Su empleado was really rude to me on {day}, no es normal.",
        "an apology from anybody",
    ),
}
DESK: dict[str, Label] = {
    "password_reset": (
        "the user is locked out or needs a new password",
        (
            "After my holiday the laptop says my sign-in has expired and asks for one I forgot.",
            "Too many wrong attempts: my account has been locked since {day}.",
            "I cannot get into {app} any more because I no longer know my secret.",
        ),
        "Ich komme nicht rein, please reset my Passwort for {app}.",
        "a new password",
    ),
    "access_request": (
        "the user needs a right, role or folder that they do not have",
        (
            "I moved to the {team} team and cannot open their shared folder.",
            "Please give our trainee the reader role in {app} until the end of {month}.",
            "{app} tells me that I lack permission for the quarterly reports.",
        ),
        "Necesito acceso to the {team} folder, mi jefa already approved it.",
        "any new permission",
    ),
    "hardware_fault": (
        "a device is broken or behaves wrongly",
        (
            "The screen of my laptop flickers whenever I move the lid.",
            "The {team} printer pulls in three sheets at once and jams.",
            "My headset died in the middle of a call and does not charge any more.",
        ),
        "Mein Bildschirm flackert, the left one, seit {day}.",
        "a repair",
    ),
    "hardware_order": (
        "a new device or accessory is to be bought",
        (
            "Two people start in the {team} team in {month} and need laptops.",
            "Could I have a second monitor for my desk? My manager agreed to {amount}.",
            "We would like to buy a conference camera for the room on floor 4.",
        ),
        "On aimerait commander three new keyboards pour l'équipe {team}.",
        "new equipment",
    ),
    "software_install": (
        "a program is to be installed or updated",
        (
            "Please put {app} on the machines of the {team} team.",
            "{app} asks for version 9, and I have no rights to upgrade it myself.",
            "I need {app} on my new laptop before {day}.",
        ),
        "Puedes instalar {app} on my laptop? No tengo permisos.",
        "a new program",
    ),
    "network_problem": (
        "wireless, cable or VPN connections fail or are slow",
        (
            "The VPN drops every ten minutes when I work from home.",
            "Nobody on floor 3 has had a connection since this morning.",
            "Video calls freeze in the {team} room, while files load quickly elsewhere.",
        ),
        "Le wifi au troisième étage keeps dropping, impossible de travailler.",
        "help with the connection",
    ),
    "phishing_report": (
        "the user reports a suspicious message or a click on one",
        (
            "A mail in the name of our director asks me for gift cards worth {amount}.",
            "I opened an attachment that looked like a parcel notice, and now windows pop up.",
            "Someone sends us {app} login pages from an address that is not ours.",
        ),
        "He recibido un correo raro asking for my {app} login, lo reporto.",
        "a check of a suspicious mail",
    ),
    "data_restore": (
        "lost or overwritten files are to be brought back",
        (
            "A colleague emptied the {team} folder on {day}; can it be rolled back?",
            "I saved over the budget sheet and need the state of {day}.",
            "All my notes in {app} vanished after I synchronised.",
        ),
        "Ich habe die Datei gelöscht, can you bring back the version of {day}?",
        "an old version of a file",
    ),
}
BANK: dict[str, Label] = {
    "card_lost": (
        "a card is lost or stolen",
        (
            "My wallet was taken on the tram and the debit card was in it.",
            "I must have left my card at a petrol station on {day}.",
            "The cash machine kept my card, and the branch says they do not have it.",
        ),
        "He perdido mi tarjeta on {day}, please block it rápido.",
        "a blocked card",
    ),
    "card_declined": (
        "a card that the customer holds does not work",
        (
            "At the till my card was refused although there is {amount} on the account.",
            "Online shops reject my card since {day}, while cash machines accept it.",
            "Abroad the terminal answers 'not permitted' every time.",
        ),
        "Meine Karte wird abgelehnt, at every terminal since {day}.",
        "help with a payment that was refused",
    ),
    "unknown_charge": (
        "a booking that the customer does not recognise",
        (
            "There is a booking of {amount} from {day} by a firm I have never heard of.",
            "Who is behind the monthly {amount} on my statement? I signed nothing.",
            "I see a hotel payment in a town I have never been to.",
        ),
        "Il y a un débit de {amount} que je ne reconnais pas, please check.",
        "an inquiry into a booking",
    ),
    "transfer_failed": (
        "money that the customer sent was not sent or did not arrive",
        (
            "The rent I sent on {day} has not reached my landlord.",
            "My standing order for {amount} came back with an error.",
            "The app says 'rejected' whenever I try to send {amount} to my sister.",
        ),
        "La transferencia de {amount} never arrived, puede verificar?",
        "an inquiry into a transfer",
    ),
    "exchange_rate": (
        "rates between currencies and their cost",
        (
            "What do I get for {amount} in Danish crowns today?",
            "Which course do you use when I pay abroad, and what is your margin?",
            "Is it cheaper to change {amount} at your counter or to draw it there?",
        ),
        "Quel est le taux de change today for {amount}, s'il vous plaît?",
        "a rate",
    ),
    "open_account": (
        "a new account is to be opened",
        (
            "Our daughter turns 12 in {month} and should get an account of her own.",
            "I founded a small firm and want to bank with you. What papers do you need?",
            "We are flatmates and would like a joint account for the rent.",
        ),
        "Ich möchte ein Konto eröffnen, a student one, from {month}.",
        "a new account",
    ),
    "close_account": (
        "an account is to be closed",
        (
            "I am moving to another bank; please end my contract by {month}.",
            "We no longer need the joint savings account. How do we wind it up?",
            "Please terminate account {number} and send what is left to my other one.",
        ),
        "Quiero cerrar mi cuenta {number} at the end of {month}.",
        "the end of an account",
    ),
    "loan_terms": (
        "conditions of a new or running loan",
        (
            "May I repay {amount} of my mortgage early, and what does it cost?",
            "What rate would you offer me for {amount} over five years?",
            "Can the instalments of my car credit be paused in {month}?",
        ),
        "Welche Zinsen would I pay for a Kredit of {amount}?",
        "anything about credit",
    ),
    "statement_request": (
        "documents about an account: statements, tax certificates, confirmations",
        (
            "The tax office wants proof of the interest I received last year.",
            "Please send the account summaries from {month} on by post.",
            "I need a paper that confirms my balance for a visa.",
        ),
        "J'ai besoin d'un relevé de compte from {month}, in English please.",
        "a document",
    ),
    "app_problem": (
        "the banking app or website does not work",
        (
            "Since the update the app closes as soon as I open it.",
            "The website shows a blank page after I type in my code.",
            "I changed phones and the app does not send me confirmation codes.",
        ),
        "La app se cierra siempre since the update of {day}.",
        "help with the app",
    ),
    "branch_visit": (
        "opening hours, places and appointments of branches",
        (
            "Is the branch at the market open on {day}?",
            "I would like to see an adviser in person in the first week of {month}.",
            "Which of your offices has a counter with a ramp?",
        ),
        "Wann hat die Filiale offen on {day}? I need to come by.",
        "an appointment",
    ),
}
INTENTS = {"shop": SHOP, "desk": DESK, "bank": BANK}
OTHER = "anything that fits no other label"
SENDERS = {
    "shop": "customers of an online shop",
    "desk": "employees to the IT help desk",
    "bank": "customers of a bank",
}
# Messages that no label is made for; they share words with some.
STRAY = {
    "shop": (
        "Are you looking for drivers for the {month} season? I have my own van.",
        "I write about shops for a local paper and would like to interview your founder.",
        "Would you sponsor the {item} raffle of our school in {month}?",
        "Please stop putting leaflets in my letter box; there is a sticker on it.",
    ),
    "desk": (
        "The coffee machine next to the printers leaks again.",
        "Who do I ask about parental leave from {month} on?",
        "The {team} team collects money for a farewell present. Can you pass the word?",
        "Room 4.12 smells of paint and the window cannot be opened.",
    ),
    "bank": (
        "Your advert on the bus shows our house. Who gave you permission?",
        "I study economics and look for an internship with you in {month}.",
        "Does your charity fund take applications from sports clubs?",
        "Someone has parked across the entrance of your branch since {day}.",
    ),
}
# Two labels that are easily taken for each other, and a message that settles it.
NEAR = {
    "shop": (
        ("refund", "Order {number} went back to you on {day}. I do not want another {item}: the "
                   "{amount} should be on my card by now, and it is not."),
        ("exchange", "I am posting the {item} back today. Keep the {amount}, only send me the "
                     "same one in a colour that matches the picture."),
        ("invoice_copy", "The {amount} you booked for the {item} is right. What is missing is the "
                         "sheet that proves it to our tax people."),
        ("delivery_status", "I do not want the {item} to go anywhere else, I only want to know how "
                            "far from my address it is at the moment."),
    ),
    "desk": (
        ("access_request", "My password works everywhere. It is the {team} board in {app} that "
                           "tells me I am not on its list."),
        ("hardware_order", "My old monitor still works, it is just small. The new colleague has "
                           "a wide one, and I would like one too."),
        ("data_restore", "{app} itself is installed and starts. It is the project of last week "
                         "that it opens as an empty sheet since I pressed the wrong key."),
        ("network_problem", "The laptop is fine at home. At my desk in the {team} corner every "
                            "page takes a minute, whichever machine I use."),
    ),
    "bank": (
        ("card_declined", "The card is here in my hand and was never out of my sight; the terminal "
                          "just says no to {amount}."),
        ("unknown_charge", "I sent nothing and the card is in my drawer, and still {amount} left "
                           "the account on {day} for a shop I do not know."),
        ("statement_request", "Nothing is wrong with the loan. The {amount} of interest I paid "
                              "must go on a form, and the office wants it on your paper."),
        ("app_problem", "The transfer itself is no problem at the counter. On my phone the button "
                        "'send' does nothing at all, for any amount."),
    ),
}  # fmt: skip

TOPICS: dict[str, dict[str, tuple[str, tuple[str, str, str, str]]]] = {
    "hotel": {
        "cleanliness": ("how clean things were", (
            "There was somebody else's hair in the shower.",
            "Every surface shone, even under the bed.",
            "Our towels had stains on both days.",
            "Dust lay on the lamps as thick as felt.",
        )),
        "noise": ("how loud it was", (
            "Lorries woke us at five.",
            "Not a sound came through the walls.",
            "The bar below our window sang until two.",
            "The lift hums all night next to room {number}.",
        )),
        "staff": ("people who work there", (
            "The porter carried everything up four floors with a joke.",
            "The lady at the desk rolled her eyes at us.",
            "Everyone knew our name from the first evening.",
            "Nobody at reception felt responsible.",
        )),
        "breakfast": ("the morning meal", (
            "The rolls in the morning were still warm.",
            "At nine the eggs had run out.",
            "Coffee at the buffet tasted of cardboard.",
            "They even had porridge with pears at seven.",
        )),
        "location": ("where it lies", (
            "From the door it is three minutes to the harbour.",
            "Without a car you are lost out there.",
            "The tram stops right in front.",
            "It lies behind a motorway junction.",
        )),
        "price": ("what it cost", (
            "For {amount} a night we had expected more.",
            "You will not find anything cheaper in town.",
            "They charged {amount} for a bottle of water.",
            "Worth every cent of the {amount}.",
        )),
        "wifi": ("the internet connection", (
            "I could not send a single mail from the room.",
            "Streaming a film worked without a hitch.",
            "The internet asks for a code every hour.",
            "The connection was faster than mine at home.",
        )),
        "check_in": ("arriving and getting the key", (
            "We stood in line for our key for fifty minutes.",
            "Arriving at midnight was no problem, the key lay in a box.",
            "They could not find our booking at first.",
            "Two minutes after we arrived we had our room.",
        )),
    },
    "survey": {
        "workload": ("how much there is to do", (
            "I have not left before eight in {month}.",
            "What one person does now was three jobs before.",
            "The amount of work is fair at last.",
            "There is hardly enough to do on Fridays.",
        )),
        "pay": ("salary and bonuses", (
            "Others in town get {amount} more for the same.",
            "The bonus in {month} was a nice surprise.",
            "My salary has not moved in three years.",
            "We earn decently here.",
        )),
        "management": ("how people are led", (
            "My lead listens and decides the same day.",
            "Decisions from above reach us by rumour.",
            "Nobody upstairs has asked us anything since {month}.",
            "Our director admits mistakes, which I respect.",
        )),
        "tools": ("software and equipment", (
            "My laptop needs ten minutes to wake up.",
            "The new ticket system saves me an hour a day.",
            "We still copy numbers from one sheet to the next by hand.",
            "Two screens for everyone made a difference.",
        )),
        "training": ("courses and learning", (
            "I asked for the safety course twice and heard nothing.",
            "The seminar in {month} taught me a lot.",
            "New people are thrown in without any introduction.",
            "Every year we may choose two courses.",
        )),
        "office_space": ("rooms, desks, air and light", (
            "It is 28 degrees at my desk by noon.",
            "The new quiet rooms are wonderful.",
            "Eleven of us share four desks.",
            "No daylight reaches the second row.",
        )),
        "remote_work": ("working from elsewhere", (
            "Two days at home would help my family.",
            "Since I may work from my village I am far more rested.",
            "Being called in every single day makes no sense.",
            "The rule of three days at home works well.",
        )),
        "career": ("promotion and prospects", (
            "I do not see what the next step could be for me.",
            "Three of us moved up this year, which is encouraging.",
            "Senior posts always go to people from outside.",
            "There is a clear path to team lead.",
        )),
    },
}  # fmt: skip
TOPIC_TEXTS = {"hotel": "reviews of a hotel", "survey": "answers of an employee survey"}

WORDS = {
    "item": (
        "rain jacket", "desk lamp", "bread knife", "wool blanket", "bike helmet", "tea kettle",
        "running shirt", "backpack", "wall clock", "kitchen scale", "garden hose", "office chair",
    ),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "12 May", "3 June"),
    "month": ("January", "February", "April", "June", "September", "October", "November"),
    "amount": ("18.90 euros", "240 euros", "75 euros", "1,150 euros", "36.50 euros", "480 euros"),
    "number": ("40817", "55203", "61190", "70344", "82651", "90027", "31478", "26915"),
    "app": ("Ledgerly", "Plansheet", "Boardmark", "Timetray", "Docuvale"),
    "team": ("sales", "payroll", "quality", "design", "logistics", "legal"),
}  # fmt: skip
OPENINGS = (
    "", "", "", "Hello! ", "Hi there. ", "Good morning. ", "Dear team, ", "Hello again. ",
    "Quick question from me. ",
)  # fmt: skip
CLOSINGS = (
    "", "", "", " Thanks.", " Many thanks in advance!", " Please answer by mail.", " Regards, M.",
    " I can be reached all day.", " Sorry for the long message.",
)  # fmt: skip
BACKGROUND = (
    "I have been with you for six years and never had to write before.",
    "My colleague suggested that I contact you.",
    "I already tried the phone line and gave up after twenty minutes.",
    "This may have been asked before, I could not find anything on your pages.",
    "I am writing from my phone, so excuse any typing errors.",
    "It is not the end of the world, but it is on my mind.",
)
NOT_WANTED = (
    "I do not want {thing}. {core}",
    "{core} To be clear, this is not about {thing}.",
    "Last time you took my message for something else: no, I am not asking for {thing}. {core}",
    "{core} Please do not offer me {thing}, I have no use for it.",
)
PRIORITIES = (
    "{second} That can wait, though. What matters most to me today: {first}",
    "Most important: {first} And when you find the time: {second}",
    "{second} But before you look at that, and far more urgent: {first}",
    "First and above all: {first} Less urgent, some day this month: {second}",
)
# First words of what is said in another language, and greetings that go with them.
FOREIGN = (
    (
        ("Der", "Bitte", "Ich", "Mein", "Meine", "Welche", "Wann"),
        (("Guten Tag! ", " Vielen Dank!"), ("Hallo zusammen! ", ""), ("", " Danke im Voraus.")),
    ),
    (
        ("Il", "Bonjour,", "On", "Le", "Quel", "J'ai"),
        (("", " Merci."), ("", " Merci d'avance, and have a nice day."), ("", " Cordialement, M.")),
    ),
    (
        ("Quiero", "Hola,", "Mis", "Su", "Necesito", "Puedes", "He", "La"),
        (("", " Muchas gracias."), ("", " Gracias, I wait for your answer."), ("", " Saludos.")),
    ),
)
LAYOUTS = (
    "Classify a message from {senders}. The labels and what they mean:\n{labels}\n\n{rule}\n\n"
    'Message:\n"{text}"',
    "Below is one of the messages from {senders}.\n\n<message>\n{text}\n</message>\n\nWhich of "
    "these labels fits?\n{labels}\n\n{rule}",
    "You route messages from {senders}. Choose from this list:\n{labels}\n\nMessage: {text}\n\n"
    "{rule}",
)
RULE = "Answer with one label, exactly as written, and nothing else."
URGENT = "If a message asks for two things, choose the one that the sender calls more important. "
TOPIC_LAYOUTS = (
    "Which of these topics does the text speak of? It is one of the {texts}.\n{labels}\n\nText:\n"
    '"{text}"\n\n{rule}',
    "Tag one of the {texts} with every topic that it says something about.\n\n<text>\n{text}\n"
    "</text>\n\nTopics:\n{labels}\n\n{rule}",
)
TOPIC_RULE = (
    "Answer with all topics that apply, exactly as written, separated by commas, and nothing else."
)


def cases(seed: int = 0, n: int = CASES) -> list[dict[str, Any]]:
    """The suite in its one order; see `shipped.woven`."""
    return woven(
        "classification",
        FAMILIES,
        [_case(item, Draw("classification", "written", i)) for i, item in enumerate(WRITTEN)],
        _made,
        seed=seed,
        n=n,
        max_tokens=64,
        grader="label",
    )


def _made(
    family: str, tier: str, draw: Draw, so_far: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    if family == "topics":
        return _case(_topics(tier, draw), draw)
    domain, label = _next_label(family, draw, so_far)
    text = _message(family, domain, label, draw)
    if tier == "hard" or (tier == "medium" and draw.chance(0.5)):
        text = f"{draw.choice(BACKGROUND)} {text}"
    if family != "code_switched":
        text = draw.choice(OPENINGS) + text + draw.choice(CLOSINGS)
    return _case({"family": family, "tier": tier, "of": domain, "text": text, "is": label}, draw)


def _next_label(family: str, draw: Draw, so_far: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Of the labels that the family has, one that was the right one least often."""
    counts = Counter(item["cluster_id"] for item in so_far)
    if not so_far or any(item["seed"] == 0 for item in so_far):
        # Those written by hand count from the start, so that all are balanced in the end.
        counts = Counter(item["cluster_id"] for item in so_far if item["seed"])
        counts.update(_cluster(item["of"], item["is"]) for item in WRITTEN if "text" in item)
    if family == "near_synonym":
        labels = [(domain, label) for domain, pairs in NEAR.items() for label, _ in pairs]
    elif family == "out_of_scope":
        labels = [(domain, "other") for domain in INTENTS]
    else:
        labels = [(domain, label) for domain, listed in INTENTS.items() for label in listed]
    fewest = min(counts[_cluster(*label)] for label in labels)
    return draw.choice([label for label in labels if counts[_cluster(*label)] == fewest])


def _cluster(domain: str, label: str | Sequence[str]) -> str:
    return f"classification-{domain}-{label if isinstance(label, str) else 'topics'}"


def _message(family: str, domain: str, label: str, draw: Draw) -> str:
    if family == "out_of_scope":
        return _filled(draw.choice(STRAY[domain]), draw)
    if family == "near_synonym":
        return _filled(dict(NEAR[domain])[label], draw)
    listed = INTENTS[domain]
    _, cores, foreign, _ = listed[label]
    if family == "code_switched":
        greetings = next(around for words, around in FOREIGN if foreign.split()[0] in words)
        before, behind = draw.choice(greetings)
        return f"{before}{_filled(foreign, draw)}{behind}"
    core = _filled(draw.choice(cores), draw)
    others = [name for name in listed if name != label]
    if family == "negation":
        return draw.choice(NOT_WANTED).format(thing=listed[draw.choice(others)][3], core=core)
    if family == "priority":
        second = _filled(draw.choice(listed[draw.choice(others)][1]), draw)
        return draw.choice(PRIORITIES).format(first=core, second=second)
    return core


def _filled(text: str, draw: Draw) -> str:
    return text.format(**{name: draw.choice(words) for name, words in WORDS.items()})


def _topics(tier: str, draw: Draw) -> dict[str, Any]:
    domain = draw.choice(list(TOPICS))
    count = {"easy": draw.integer(1, 2), "medium": draw.integer(2, 3), "hard": draw.integer(3, 5)}
    right = draw.sample(list(TOPICS[domain]), count[tier])
    said = [_filled(draw.choice(TOPICS[domain][topic][1]), draw) for topic in right]
    if tier == "hard":  # a word of another topic, of which nothing is said
        said.insert(draw.integer(0, len(said)), draw.choice(FILLING[domain]))
    return {"family": "topics", "tier": tier, "of": domain, "text": " ".join(said), "is": right}


FILLING = {
    "hotel": (
        "We travel a lot, mostly for our choir.",
        "My husband turned sixty that weekend.",
        "I only write because a friend asked me to.",
    ),
    "survey": (
        "I filled this in on the train.",
        "Thank you for asking us at all.",
        "Most of this I said last year as well.",
    ),
}


def _case(item: Mapping[str, Any], draw: Draw) -> dict[str, Any]:
    """A case of a text and its label or topics; labels stand in an order of its own."""
    domain, right, text = item["of"], item["is"], flat(item["text"])
    many = not isinstance(right, str)
    if many:
        meanings = {name: entry[0] for name, entry in TOPICS[domain].items()}
        layout, rule, group = draw.choice(TOPIC_LAYOUTS), TOPIC_RULE, TOPIC_TEXTS[domain]
    else:
        meanings = {**{name: entry[0] for name, entry in INTENTS[domain].items()}, "other": OTHER}
        layout, group = draw.choice(LAYOUTS), SENDERS[domain]
        rule = (URGENT if item["family"] == "priority" else "") + RULE
    allowed = draw.shuffled(list(meanings))
    labels = "\n".join(f"- {name}: {meanings[name]}" for name in allowed)
    expected: dict[str, Any] = {"labels": list(right) if many else [right], "allowed": allowed}
    wrong_one = draw.choice([name for name in allowed if name not in expected["labels"]])
    if many:
        expected["many"] = True
        ideal = [", ".join(right), ",".join(sorted(right))]
        wrong = [
            [", ".join(allowed), "extra_label"],
            [", ".join([*right, wrong_one]), "extra_label"],
            [wrong_one, "wrong_label"],
            ["The text speaks of " + " and ".join(right) + ".", "not_a_label"],
            [", ".join([*right[1:], "atmosphere"]), "not_a_label"],
        ]
        if len(right) > 1:
            wrong.append([", ".join(right[1:]), "missing_label"])
    else:
        ideal = [right, f"{right.capitalize()}."]
        wrong = [
            [f"{right}, {wrong_one}", "several_labels"],
            [f"not {right}", "not_a_label"],
            [right[:-2], "not_a_label"],
            ["general_enquiry", "not_a_label"],
            [", ".join(allowed), "several_labels"],
            [wrong_one, "wrong_label"],
            [f"The label that fits best is {right}, since it is asked for.", "not_a_label"],
        ]
    return {
        "family": item["family"],
        "tier": item["tier"],
        "cluster_id": _cluster(domain, right),
        "prompt": layout.format(senders=group, texts=group, labels=labels, rule=rule, text=text),
        "expected": expected,
        "ideal": list(dict.fromkeys(ideal)),
        "wrong": wrong,
    }


def _written(family: str, tier: str, of: str, right: str | list[str], text: str) -> dict[str, Any]:
    return {"family": family, "tier": tier, "of": of, "is": right, "text": text}


WRITTEN = (
    _written("plain", "easy", "shop", "cancel_order", """
        Hi, it's about 61207 from this morning. My sister has bought the same kettle for us as a
        housewarming present, so if it is still sitting in your warehouse just leave it there."""),
    _written("plain", "medium", "desk", "phishing_report", """
        Someone rang me and said he was from "central IT", knew my extension and wanted me to read
        out the code on my phone. I did not, but he said he would try my colleagues next."""),
    _written("plain", "medium", "bank", "open_account", """
        My grandmother keeps her savings in a biscuit tin. I have talked her into giving that up,
        and she would like to come to you. She has never had anything with a bank before. How do we
        begin?"""),
    _written("plain", "hard", "bank", "transfer_failed", """
        On the 2nd I put through the deposit for our holiday flat, the reference was right, I have
        checked every digit with the owner, and she swears that nothing has come in. Your app has a
        green tick next to it. One of the two is wrong."""),
    _written("negation", "medium", "shop", "invoice_copy", """
        I do not want a refund, and nothing is wrong with the helmet or with the price. I would like
        the bill again, with the name of our club on top, because the treasurer is strict."""),
    _written("negation", "hard", "desk", "hardware_fault", """
        Please don't send me a catalogue, I am not allowed to buy anything before April anyway. The
        dock I have gives power but no picture. With the dock of my neighbour the picture is
        there."""),
    _written("negation", "hard", "bank", "card_lost", """
        No, nobody has used it, there is no strange booking and no payment was refused. It is just
        that the card slid through a gap in the pier and is now at the bottom of the lake."""),
    _written("priority", "medium", "shop", "delivery_status", """
        The boots you sent in March were a bit tight, and one day I may ask for another pair, no
        hurry there. What I have to know today is whether the tent reaches me before Friday
        noon, because on Friday at two we leave."""),
    _written("priority", "hard", "desk", "data_restore", """
        Two things. My chair-side printer is eating paper again, we are used to that. The other one
        cannot wait: half the audit folder was overwritten last night with last year's files, and
        the auditors come at ten."""),
    _written("out_of_scope", "medium", "bank", "other", """
        Your new building throws a reflection right into our classroom between nine and ten. The
        children call it the golden hour. Could you lower the blinds on that side?"""),
    _written("out_of_scope", "hard", "shop", "other", """
        I sell rain jackets myself, wholesale, and could deliver a good model to you at half of what
        you must be paying now. Who decides about suppliers, and may I send two samples?"""),
    _written("code_switched", "easy", "bank", "branch_visit", """
        Buenos días, quería saber si la oficina de la plaza is open this Saturday, because during
        the week trabajo hasta las siete. Gracias!"""),
    _written("code_switched", "medium", "desk", "software_install", """
        Hallo zusammen, für das neue Projekt brauche ich Plansheet auf meinem Laptop, the one with
        the sticker. Admin rights habe ich leider nicht. Merci vielmals!"""),
    _written("code_switched", "hard", "shop", "loyalty_points", """
        Bonjour, je suis membre depuis 2029, and yet la dernière commande n'apparaît pas: my total
        is still 840, ça devrait être 990. Nothing wrong with the order itself, hein."""),
    _written("near_synonym", "medium", "desk", "password_reset", """
        I have every right I need in Ledgerly, my name is on the list, I saw it. But it wants the
        word I chose in January, and in January I was a different person."""),
    _written("near_synonym", "hard", "shop", "product_question", """
        Before I add it to the basket: the photo shows the office chair with armrests, the text says
        'armrests separately'. If I buy it as it stands, what will be in the box?"""),
    _written("topics", "easy", "hotel", ["breakfast"], """
        Three kinds of honey, and at half past six a cook who makes you an omelette before your
        early train. I would come back for that alone."""),
    _written("topics", "medium", "hotel", ["noise", "price"], """
        A wedding party under our room until four, and when I asked for a discount because of it
        they looked up the rate and told me that 190 euros already was the discount."""),
    _written("topics", "medium", "hotel", ["staff", "check_in", "cleanliness"], """
        We came with two tired children at eleven at night. The young man had our key in his hand
        before I had said our name, and he found a cot as well. The bathroom, sadly, had not been
        touched since the guests before us."""),
    _written("topics", "hard", "hotel", ["location", "wifi"], """
        People who complain about the food should eat in the village, it is five minutes along the
        beach, which is the real reason to come here. Do not plan to work, though: to join a call I
        had to stand on the roof of my car."""),
    _written("topics", "easy", "survey", ["remote_work"], """
        I can do all of this from my kitchen table and did so for two years. Why not any more?"""),
    _written("topics", "medium", "survey", ["workload", "management"], """
        Since Jana left, her customers are mine too. I told my lead in May, in June and in August.
        Each time she nodded and wrote it down."""),
    _written("topics", "hard", "survey", ["career", "training"], """
        To become a planner you need the certificate; to be sent to the course for the certificate
        you have to be a planner. I have asked who wrote that. Otherwise I am fine, and no, it is
        not about money."""),
    _written("topics", "hard", "survey", ["tools", "office_space", "pay"], """
        What I would change with a magic wand: a machine that does not beep at me, a seat from which
        I can see a tree, and the two hundred euros that my friend at the harbour gets on top for
        doing exactly what I do. My boss, by the way, would make no such list."""),
)  # fmt: skip

EXAMPLES = examples(
    "classification", _made, (("plain", "easy"), ("out_of_scope", "medium"), ("topics", "medium"))
)

if __name__ == "__main__":
    main("classification")
