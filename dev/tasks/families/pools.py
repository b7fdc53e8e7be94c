"""Names and contents for instances, and functions that draw from them."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

ANIMALS = "otter heron lynx badger falcon weasel salmon magpie tortoise beetle raven marten ibex gecko walrus".split()
TREES = "oak ash elm birch willow cedar maple pine larch hazel rowan alder poplar spruce linden".split()
CITIES = "Oslo Lima Quito Turin Porto Basel Kyoto Perth Dakar Riga Tampa Leeds Lyon Bergen Cairo Delhi".split()
PEOPLE = "Ada Boris Clara Dmitri Elena Farid Greta Hugo Ines Jonas Kira Leon Mina Nadia Omar Petra Rosa Sven".split()
FRUITS = "apple pear plum cherry mango fig grape lemon peach papaya quince melon apricot banana orange".split()
COLOURS = "red blue green amber violet teal coral ivory olive crimson indigo silver".split()
NOUNS = (
    "report notes list data items words stock orders events summary index table record journal draft plan "
    "budget ledger agenda memo survey archive catalog roster result letters sample output copy bundle"
).split()
FOLDERS = "data docs logs backup work archive files project output inbox reports store drafts media assets".split()
HOSTS = "alpha beta gamma delta omega sigma kappa zeta theta lambda".split()
VERBS = "started stopped connected resumed loaded saved opened closed checked updated".split()
LEVELS = ("INFO", "WARN", "ERROR")
PHRASES = (
    "the meeting is at noon|please water the plants|all tests are green|see you on friday|the door code has changed|"
    "lunch is in the garden|bring your own laptop|the train leaves at nine|call the office first|the key is in the box|"
    "do not feed the cat|we ship on monday|the printer is broken|thanks for the help|remember the milk|"
    "the lights go off at ten|keep the window closed|parcels go to reception|the review is done|ask for the manager"
).split("|")


def some(rng: Random, pool: Sequence[str], low: int, high: int) -> list[str]:
    """`low` to `high` different entries, in random order."""
    return rng.sample(list(pool), rng.randint(low, high))


def words(rng: Random) -> list[str]:
    """One of the pools of single words, drawn at random."""
    return list(rng.choice((ANIMALS, TREES, CITIES, PEOPLE, FRUITS, COLOURS)))


def text(lines: Sequence[str]) -> str:
    """The content of a file with these lines."""
    return "".join(f"{line}\n" for line in lines)


def names(rng: Random, count: int, suffix: str = ".txt", avoid: Sequence[str] = ()) -> list[str]:
    """`count` different file names, without those in `avoid`."""
    return [f"{noun}{suffix}" for noun in rng.sample([noun for noun in NOUNS if noun not in avoid], count)]


def place(rng: Random, name: str) -> str:
    """A path under /app for a file: at the top, or in a folder."""
    return name if rng.random() < 0.6 else f"{rng.choice(FOLDERS)}/{name}"


def csv_table(rng: Random, rows: int) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table with two columns of words and two of numbers."""
    header = ["name", rng.choice(("city", "team", "fruit")), rng.choice(("price", "amount", "score")), "count"]
    pool = {"city": CITIES, "team": COLOURS, "fruit": FRUITS}[header[1]]
    groups = rng.sample(pool, 3)
    people = rng.sample(PEOPLE, rows)
    return header, [[person, rng.choice(groups), str(rng.randint(2, 99)), str(rng.randint(1, 40))] for person in people]


def csv_text(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The content of a CSV file."""
    return text([",".join(row) for row in (header, *rows)])


def log_lines(rng: Random, count: int) -> list[str]:
    """`count` lines of a log, `HH:MM LEVEL host verb`, in order of time."""
    minute = rng.randint(0, 600)
    lines = []
    for _ in range(count):
        minute += rng.randint(1, 9)
        stamp = f"{minute // 60:02d}:{minute % 60:02d}"
        lines.append(f"{stamp} {rng.choice(LEVELS)} {rng.choice(HOSTS[:5])} {rng.choice(VERBS)}")
    return lines
