"""Of results that were made elsewhere: what was read, and what is not known about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from capvec.decimals import as_written
from capvec.report.method import attempts
from capvec.report.section import Block, Bullets, Code, Paragraph, Section, Table, Text, join, left, listed, right
from capvec.results.origin import Origin
from capvec.results.results import Results
from capvec.results.served import Served
from capvec.text import counted, printable

_UNPROVED = "Steering not proved: there are no receipts."
_FORMAT = ("parse_fail", "no_cmd")


def proof_status(results: Results) -> tuple[str, ...]:
    """The sentence of the status on what shows the steer; none for a run of capvec."""
    return () if results.origin is None else (_proof(results, results.origin),)


def _proof(results: Results, origin: Origin) -> str:
    if origin.served is None:
        return _UNPROVED
    if lacking := [config.name for config in results.plan.configs if not _covered(config.name, results, origin.served)]:
        other = [printable(name) for name in origin.served if name not in {one.name for one in results.plan.configs}]
        named = f" No config is called {' or '.join(other)}, as in the file of the receipts." if other else ""
        return f"Steering not proved: too few receipts for {', '.join(lacking)}.{named}"
    return "The server has receipts for every config; they are not joined to trials."


def _covered(name: str, results: Results, served: Mapping[str, Served]) -> bool:
    """Whether the server gave as many replies under a name as its trials have: at least one for each valid trial."""
    row = next(row for row in results.summary.configs if row.config == name)
    return served.get(name, Served()).held >= max(1, row.n, _replies(name, results) or 0)


def _replies(name: str, results: Results) -> int | None:
    """Replies of a config's trials; None where they are not on record."""
    if "steps" in results.summary.unrecorded:
        return None
    return next(row.replies for row in results.summary.configs if row.config == name)


def served_section(results: Results) -> Section | None:
    """The replies of the server, beside those of the trials; None without a file of receipts."""
    if results.origin is None or results.origin.served is None:
        return None
    served = results.origin.served
    rows = []
    for config in results.plan.configs:
        one, replies = served.get(config.name, Served()), _replies(config.name, results)
        rows.append((config.name, str(one.held), str(one.refused), "–" if replies is None else str(replies)))
    table = Table(
        (*left("config"), *right("replies with receipts that hold", "refused", "replies of valid trials")), tuple(rows)
    )
    note = Paragraph(
        "What `capvec serve` answered under the name of each config. It shows that the server steered; it does not "
        "show that these trials asked that server and no other."
    )
    blocks: list[Block] = [table, note]
    if repeated := sum(one.repeated for one in served.values()):
        blocks.append(Paragraph(f"Lines that repeat the reply of an earlier line, and are not counted: {repeated}."))
    return Section("receipts", "Receipts", tuple(blocks))


def origin_section(results: Results, origin: Origin) -> Section:
    """What was read, in the place of the method, of which capvec knows nothing."""
    plan = results.plan
    done = (
        "The trials were made elsewhere and read by ",
        Code("capvec judge"),
        f": {counted(len(plan.tasks), 'task')}, {attempts(plan)} per task and config, "
        f"{counted(len(plan.configs), 'config')}. Compared with ",
        Code(results.summary.baseline),
        f". A reward of {as_written(plan.settings.solved_at)} or more is solved.",
    )
    rows = tuple(
        (
            Code(printable(source.name)),
            source.tool,
            str(source.trials),
            ", ".join(map(printable, source.configs[:_SHOWN])) + (", …" if len(source.configs) > _SHOWN else ""),
        )
        for source in origin.sources
    )
    blocks: list[Block] = [
        Paragraph(done),
        Table((*left("source", "read as"), *right("trials"), *left("configs")), rows),
    ]
    if origin.named_controls:
        by_name = join("Taken for controls by their names: ", listed(origin.named_controls), ".")
        blocks.append(Paragraph(by_name))
    if notes := tuple(printable(note) for source in origin.sources for note in source.notes):
        blocks.append(Bullets(notes))
    return Section("method", "Method", tuple(blocks))


_SHOWN = 6
"""Configs of a source that are named."""


def origin_caveats(results: Results, origin: Origin) -> Iterator[Text]:
    """What is not known, and what that may hide."""
    if origin.served is None:
        yield join(
            _UNPROVED,
            " Nothing here shows that a reply was steered as its config says, or that the baseline was not (",
            Code("--receipts FILE"),
            "). A server that steers nothing gives a verdict too.",
        )
    else:
        yield _proof(results, origin)
    unsolved = [one.reward for one in results.outcomes if one.outcome == "unsolved" and one.reward is not None]
    if shares := sum(0 < reward < results.plan.settings.solved_at <= 1 for reward in unsolved):
        yield join(
            f"{counted(shares, 'trial')} with a reward above 0 and below {as_written(results.plan.settings.solved_at)} "
            f"{'counts' if shares == 1 else 'count'} as unsolved (",
            Code("--solved-at"),
            "). If a reward is the share of several attempts that solved the task, as pass@k is, give a row for each "
            "attempt.",
        )
    yield _of_seeds(origin)
    yield _of_errors(origin)
    yield (
        "When the trials ended is not known. The p-values hold if their number was fixed beforehand, and not if trials "
        "were added until a difference showed."
    )
    unrecorded = results.summary.unrecorded
    if missing := [name for name in _FORMAT if name in unrecorded]:
        yield join(
            listed(missing),
            f" {'is' if len(missing) == 1 else 'are'} not on record for every valid trial, so a change in the format "
            "of the replies cannot be told from no change.",
        )
    if "steps" in unrecorded:
        yield join(Code("steps"), " is not on record for every valid trial.")
    yield from _of_gaps(results)


def _of_seeds(origin: Origin) -> Text:
    said = " (as stated on the command line)" if "seeds" in origin.stated else ""
    if origin.seeds == "shared":
        return f"All configs of a (task, attempt) share a seed{said}."
    known = "Configs do not share seeds" if origin.seeds == "separate" else "Whether configs share seeds is not known"
    ask = () if origin.seeds == "separate" else (" (", Code("--seeds shared"), " or ", Code("--seeds separate"), ")")
    return join(
        (known + said, *ask),
        ". Attempts are paired by their numbers, which McNemar's test and the ranks among matched controls use, "
        "and the verdict does not.",
    )


def _of_errors(origin: Origin) -> Text:
    said = " (as stated on the command line)" if "errors" in origin.stated else ""
    if origin.errors == "apart":
        return f"Errors of the instrument are told from failures of the agent{said}, as what wrote the results does."
    if origin.errors == "failures":
        return (
            f"Errors of the instrument count as unsolved{said}. Where they fall on some configs more than on others, a "
            "difference may be theirs."
        )
    return join(
        (
            "Whether errors of the instrument were told from failures of the agent is not known (",
            Code("--errors apart"),
        ),
        (" or ", Code("--errors failures"), "). A crash that was recorded as a failure counts as unsolved here."),
    )


def _of_gaps(results: Results) -> Iterator[Text]:
    """Configs that lack tasks, and arms of different sizes."""
    tasks = {
        row.config: {one.task for one in results.outcomes if one.config == row.config}
        for row in results.summary.configs
    }
    whole = len(results.plan.tasks)
    if lacking := [f"{name} has {len(own)}" for name, own in tasks.items() if len(own) < whole]:
        yield (
            f"Not every config has all {counted(whole, 'task')}: {', '.join(lacking)}. Each is compared with the "
            "baseline over the tasks that both have."
        )
    sizes = Counter((outcome.task, outcome.config) for outcome in results.outcomes)
    if len(set(sizes.values())) > 1:
        yield "Tasks differ in their attempts. Every task weighs the same, however many attempts it has."
