"""Writes the bundled battery: questions whose answers are computed, and some that were written by hand.

python -m dev.battery     # writes capvec/battery/general.jsonl anew; the same seed gives the same file
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parent.parent / "capvec" / "battery" / "general.jsonl"
EACH = 30
"""Questions of a generated category."""
WORDS = (
    "ox sea map tree lamp door river apple bread cloud garden window market candle library mountain elephant "
    "breakfast telephone butterfly watermelon"
).split()
NAMES = "Ann Bob Cleo Dan Eve Finn Gita Hugo".split()
UNITS = (
    *(("kilometres", "metres", 1000), ("hours", "minutes", 60), ("kilograms", "grams", 1000)),
    *(
        ("metres", "centimetres", 100),
        ("minutes", "seconds", 60),
        ("weeks", "days", 7),
        ("litres", "millilitres", 1000),
    ),
)
KNOWLEDGE: tuple[tuple[str, str, str], ...] = (
    ("What is the capital of France?", "Paris", "Rome Madrid Berlin"),
    ("What is the capital of Japan?", "Tokyo", "Beijing Seoul Bangkok"),
    ("What is the capital of Egypt?", "Cairo", "Lagos Nairobi Tunis"),
    ("What is the capital of Canada?", "Ottawa", "Toronto Montreal Vancouver"),
    ("What is the capital of Italy?", "Rome", "Milan Athens Lisbon"),
    ("Which planet is closest to the Sun?", "Mercury", "Venus Earth Mars"),
    ("Which planet is the largest of the solar system?", "Jupiter", "Saturn Earth Neptune"),
    ("Which gas do plants take in to make sugar?", "carbon-dioxide", "oxygen nitrogen helium"),
    ("What is frozen water called?", "ice", "steam sand salt"),
    ("Which animal barks?", "dog", "cat cow horse"),
    ("Which animal gives milk that people drink?", "cow", "snake eagle frog"),
    ("How many legs does a spider have?", "eight", "four six ten"),
    ("How many sides does a triangle have?", "three", "four five six"),
    ("How many days does a leap year have?", "366", "365 364 360"),
    ("Which metal has the chemical symbol Fe?", "iron", "gold silver copper"),
    ("Which metal has the chemical symbol Au?", "gold", "iron lead tin"),
    ("Which organ pumps blood through the body?", "heart", "lung liver stomach"),
    ("Which sense belongs to the ears?", "hearing", "sight taste smell"),
    ("On which continent is Brazil?", "South-America", "Africa Asia Europe"),
    ("On which continent is Kenya?", "Africa", "Asia Europe Australia"),
    ("Which ocean lies between Europe and North America?", "Atlantic", "Pacific Indian Arctic"),
    ("Which season follows spring in the northern hemisphere?", "summer", "winter autumn spring"),
    ("Which month follows June?", "July", "May August March"),
    ("Which day follows Monday?", "Tuesday", "Sunday Friday Thursday"),
    ("At how many degrees Celsius does water boil at sea level?", "100", "50 0 212"),
    ("What does a thermometer measure?", "temperature", "weight length time"),
    ("Who wrote the play Hamlet?", "Shakespeare", "Dickens Goethe Homer"),
    ("Which instrument has black and white keys?", "piano", "violin drum flute"),
    ("Which force pulls objects to the ground?", "gravity", "magnetism friction electricity"),
    ("What do bees make?", "honey", "milk silk wool"),
)
MEANINGS: tuple[tuple[str, str, str], ...] = (
    *(("rapid", "fast", "slow heavy late"), ("huge", "large", "tiny quiet thin"), ("begin", "start", "stop lose sell")),
    *(
        ("silent", "quiet", "loud bright wet"),
        ("angry", "furious", "happy tired calm"),
        ("buy", "purchase", "sell lend give"),
    ),
    *(
        ("glad", "happy", "sad cold poor"),
        ("difficult", "hard", "easy soft cheap"),
        ("correct", "right", "wrong late odd"),
    ),
    *(("ill", "sick", "strong young rich"), ("shut", "close", "open break lift"), ("tale", "story", "song field boat")),
    *(
        ("rock", "stone", "water leaf cloud"),
        ("odour", "smell", "sound colour shape"),
        ("brave", "bold", "weak shy dull"),
    ),
    *(
        ("reply", "answer", "question walk sleep"),
        ("finish", "end", "begin grow hide"),
        ("rich", "wealthy", "poor sharp deep"),
    ),
    *(
        ("child", "kid", "adult stone horse"),
        ("tidy", "neat", "dirty loud wide"),
        ("vanish", "disappear", "arrive build eat"),
    ),
    *(
        ("road", "street", "river roof hill"),
        ("physician", "doctor", "pilot farmer judge"),
        ("weary", "tired", "eager clean new"),
    ),
    *(
        ("error", "mistake", "success gift plan"),
        ("assist", "help", "harm ignore chase"),
        ("ship", "boat", "train cart kite"),
    ),
    *(
        ("forest", "woods", "desert beach city"),
        ("aged", "old", "young round low"),
        ("gather", "collect", "scatter spill lend"),
    ),
)

Made = dict[str, Any]


def arithmetic(draw: random.Random) -> Made:
    kind = draw.choice("+-*")
    one, two = (
        (draw.randint(2, 12), draw.randint(2, 12)) if kind == "*" else (draw.randint(10, 99), draw.randint(2, 60))
    )
    one, two = (max(one, two), min(one, two)) if kind == "-" else (one, two)
    value = {"+": one + two, "-": one - two, "*": one * two}[kind]
    return {"question": f"What is {one} {'times' if kind == '*' else kind} {two}?", "answers": [str(value)]}


def comparison(draw: random.Random) -> Made:
    numbers = draw.sample(range(100, 1000), 4)
    largest = draw.random() < 0.5
    right = max(numbers) if largest else min(numbers)
    return _choices(f"Which number is the {'largest' if largest else 'smallest'}?", str(right), list(map(str, numbers)))


def units(draw: random.Random) -> Made:
    large, small, factor = draw.choice(UNITS)
    count = draw.randint(2, 9)
    right = count * factor
    options = {right, right * 10, count + factor, right // 2 or 1, right + factor}
    listed = [right, *draw.sample(sorted(options - {right}), 3)]
    draw.shuffle(listed)
    return _choices(f"How many {small} are {count} {large}?", str(right), list(map(str, listed)))


def letters(draw: random.Random) -> Made:
    word, place = draw.choice(WORDS), draw.choice(("first", "last"))
    right = word[0 if place == "first" else -1]
    return {"question": f'What is the {place} letter of the word "{word}"?', "answers": [right]}


def lengths(draw: random.Random) -> Made:
    words = draw.sample(WORDS, 12)
    by_length = {len(word): word for word in words}
    chosen = draw.sample(sorted(by_length.values()), 2)
    right = max(chosen, key=len)
    return _choices("Which word has more letters?", right, chosen)


def order(draw: random.Random) -> Made:
    words = draw.sample(WORDS, 4)
    while len({word[0] for word in words}) < 4:
        words = draw.sample(WORDS, 4)
    return _choices("Which word comes first in alphabetical order?", min(words), words)


def logic(draw: random.Random) -> Made:
    one, two, three = draw.sample(NAMES, 3)
    tallest = draw.random() < 0.5
    asked = "Who is the tallest?" if tallest else "Who is the shortest?"
    question = f"{one} is taller than {two}, and {two} is taller than {three}. {asked}"
    return _choices(question, one if tallest else three, draw.sample([one, two, three], 3))


def sequences(draw: random.Random) -> Made:
    start, step = draw.randint(1, 30), draw.randint(2, 9)
    shown = ", ".join(str(start + step * place) for place in range(4))
    return {"question": f"Which number comes next: {shown}?", "answers": [str(start + 4 * step)]}


GENERATED: Sequence[Callable[[random.Random], Made]] = (
    *(arithmetic, comparison, units, letters, lengths, order, logic, sequences),
)


def items(seed: int = 0) -> Iterator[Made]:
    """The questions, category by category; none is asked twice."""
    for make in GENERATED:
        draw, known = random.Random(f"{seed} {make.__name__}"), set[str]()
        while len(known) < EACH:
            made = make(draw)
            if (told := json.dumps(made)) not in known:
                known.add(told)
                yield {"id": f"{make.__name__}-{len(known):02}", "category": make.__name__, **made}
    for category, asked in (("knowledge", KNOWLEDGE), ("meanings", MEANINGS)):
        draw = random.Random(f"{seed} {category}")
        for number, (question, right, wrong) in enumerate(asked, start=1):
            text = question if category == "knowledge" else f'Which word means nearly the same as "{question}"?'
            listed = [word.replace("-", " ") for word in (right, *wrong.split())]
            made = _choices(text, listed[0], draw.sample(listed, len(listed)))
            yield {"id": f"{category}-{number:02}", "category": category, **made}


def _choices(question: str, right: str, listed: list[str]) -> Made:
    return {"question": question, "choices": listed, "answer": listed.index(right)}


def text(seed: int = 0) -> str:
    """The content of the file."""
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items(seed))


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
