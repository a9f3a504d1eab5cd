"""Words of more than one suite. Nobody and nothing of them is real."""

from __future__ import annotations

from ..draw import Draw

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
FIRMS = (
    *("Brandel Pumps", "Osterlin Glass", "Kovat Bearings", "Niraj Looms", "Tolva Cranes"),
    *("Mireau Inks", "Hestrup Dairy", "Quillmark", "Saltery Nord", "Zeveny Boats", "Ardo Locks"),
)
TOWNS = (
    *("Veldhaven", "Ilmsund", "Corrabeck", "Tessaro", "Lunvik", "Orrava Mill", "Pellworth"),
    *("Marnholm", "Gravenne", "Sibury", "Dunmarra", "Eskerby"),
)
PEOPLE = (
    *("Runa Eklind", "Tadeo Marsh", "Wilma Oster", "Kenji Abara", "Sofie Lund", "Marek Dolan"),
    *("Ines Calder", "Olof Brandt", "Petra Vinke", "Jonas Aldo", "Mira Katz", "Hugo Stellan"),
)


def date(draw: Draw, year: int) -> str:
    """A day of the year, such as 3 March 2031."""
    return f"{draw.integer(1, 28)} {draw.choice(MONTHS)} {year}"
