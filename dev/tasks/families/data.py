"""Tables, JSON and logs: fields, sums, counts."""

from __future__ import annotations

import json
from collections import Counter
from random import Random

from dev.tasks.families.base import Instance, Wrong, family
from dev.tasks.families.pools import CITIES, HOSTS, PEOPLE, VERBS, csv_table, csv_text, names, place, text


@family("csv-column", category="tables", split="trained", difficulty="medium")
def csv_column(rng: Random) -> Instance:
    (source,), (out,) = names(rng, 1, ".csv"), names(rng, 1)
    source = place(rng, source)
    header, rows = csv_table(rng, rng.randint(4, 7))
    column = rng.randrange(4)
    instruction = rng.choice(
        (
            "Write column {2} of /app/{0} to /app/{1}, header included. Columns are separated by commas.",
            "Extract the column {3} (number {2}) of the CSV file /app/{0} into /app/{1}, with its header.",
        )
    ).format(source, out, column + 1, header[column])
    return Instance(
        instruction,
        files={source: csv_text(header, rows)},
        checks=(f"holds {out}",),
        expected={out: text([row[column] for row in (header, *rows)])},
        solution=(f"cut -d, -f{column + 1} /app/{source} > /app/{out}",),
        looks=(f"head -n 2 /app/{source}",),
        confirms=(f"head -n 3 /app/{out}",),
        wrong=(
            Wrong(f"cut -d, -f{(column + 1) % 4 + 1} /app/{source} > /app/{out}", "another column"),
            Wrong(f"cut -f{column + 1} /app/{source} > /app/{out}", "not cut at commas"),
            Wrong(f"cut -d, -f{column + 1} /app/{source}", "printed, not written"),
        ),
    )


@family("csv-sum", category="tables", split="trained", difficulty="hard")
def csv_sum(rng: Random) -> Instance:
    (source,), (out,) = names(rng, 1, ".csv"), names(rng, 1)
    header, rows = csv_table(rng, rng.randint(4, 7))
    column = rng.choice((2, 3))
    total = sum(int(row[column]) for row in rows)
    instruction = rng.choice(
        (
            "Add up the column {2} of /app/{0} and write only the sum to /app/{1}.",
            "What is the sum of the {2} values in the CSV file /app/{0}? Write the number to /app/{1}.",
        )
    ).format(source, out, header[column])
    return Instance(
        instruction,
        files={source: csv_text(header, rows)},
        checks=(f"holds {out}",),
        expected={out: f"{total}\n"},
        solution=(f"awk -F, 'NR>1{{s+=${column + 1}}} END{{print s}}' /app/{source} > /app/{out}",),
        looks=(f"head -n 2 /app/{source}",),
        needs_look=True,
        confirms=(f"cat /app/{out}",),
        wrong=(
            Wrong(f"awk -F, 'NR>1{{s+=${6 - column}}} END{{print s}}' /app/{source} > /app/{out}", "another column"),
            Wrong(f"cut -d, -f{column + 1} /app/{source} > /app/{out}", "the values, not their sum"),
            Wrong(f"wc -l < /app/{source} > /app/{out}", "the number of lines"),
        ),
    )


@family("json-field", category="json", split="trained", difficulty="medium")
def json_field(rng: Random) -> Instance:
    (source,), (out,) = names(rng, 1, ".json"), names(rng, 1)
    source = place(rng, source)
    record: dict[str, object] = {
        "name": rng.choice(PEOPLE),
        "host": rng.choice(HOSTS),
        "city": rng.choice(CITIES),
        "port": rng.randint(1000, 9999),
        "retries": rng.randint(2, 30),
    }
    keys = rng.sample(list(record), 4)
    record = {key: record[key] for key in keys}
    key = rng.choice(keys)
    value = str(record[key])
    pattern = "[0-9]*" if isinstance(record[key], int) else '"[^"]*"'
    grep = f"grep -o '\"{key}\": {pattern}' /app/{source} | cut -d: -f2 | tr -d ' \"'"
    instruction = rng.choice(
        (
            "Read the value of {2} in the JSON file /app/{0} and write only the value to /app/{1}.",
            "Write the value of the field {2} of /app/{0} to /app/{1}, without quotes.",
        )
    ).format(source, out, key)
    other = next(name for name in keys if name != key)
    return Instance(
        instruction,
        files={source: json.dumps(record, indent=2) + "\n"},
        checks=(f"holds {out}",),
        expected={out: f"{value}\n"},
        looks=(f"cat /app/{source}",),
        needs_look=True,
        solution=(f"echo '{value}' > /app/{out}",) if rng.random() < 0.5 else (f"{grep} > /app/{out}",),
        confirms=(f"cat /app/{out}",),
        wrong=(
            Wrong(f"echo '{record[other]}' > /app/{out}", "another field"),
            Wrong(f"grep '{key}' /app/{source} > /app/{out}", "the whole line"),
            Wrong(f"cp /app/{source} /app/{out}", "the whole file"),
        ),
    )


@family("most-frequent", category="logs", split="trained", difficulty="hard")
def most_frequent(rng: Random) -> Instance:
    (source,), (out,) = names(rng, 1, ".log"), names(rng, 1)
    hosts = rng.sample(HOSTS, 3)
    picks = [hosts[0]] * rng.randint(5, 6) + [hosts[1]] * rng.randint(2, 3) + [hosts[2]] * rng.randint(1, 2)
    rng.shuffle(picks)
    lines = [f"{host} {rng.choice(VERBS)} {rng.randint(1, 99)}" for host in picks]
    instruction = rng.choice(
        (
            "Which host, the first word of a line, is most frequent in /app/{0}? Write only its name to /app/{1}.",
            "Find the first word that occurs most often at the start of a line of /app/{0}; write it to /app/{1}.",
        )
    ).format(source, out)
    counts = Counter(picks).most_common()
    pipeline = f"cut -d' ' -f1 /app/{source} | sort | uniq -c | sort -rn | head -n 1"
    return Instance(
        instruction,
        files={source: text(lines)},
        checks=(f"holds {out}",),
        expected={out: f"{counts[0][0]}\n"},
        solution=(f"{pipeline} | awk '{{print $2}}' > /app/{out}",),
        looks=(f"head -n 3 /app/{source}",),
        confirms=(f"cat /app/{out}",),
        wrong=(
            Wrong(f"{pipeline} > /app/{out}", "with its count"),
            Wrong(f"cut -d' ' -f1 /app/{source} | sort | uniq -c > /app/{out}", "all of them"),
            Wrong(f"echo '{counts[-1][0]}' > /app/{out}", "the least frequent"),
        ),
    )
