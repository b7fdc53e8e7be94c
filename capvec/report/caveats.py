"""What the numbers do not show."""

from __future__ import annotations

from collections.abc import Iterator

from capvec.records import ONLY_HERE
from capvec.report.origin import origin_caveats
from capvec.report.section import Bullets, Code, Markdown, Section, Text, join, listed
from capvec.results.results import Results


def caveats_section(results: Results) -> Section:
    """One item of a sentence or two for each caveat."""
    return Section("caveats", "Caveats", (Bullets(tuple(caveats(results))),))


def caveats(results: Results) -> Iterator[Text]:
    """Those of every sweep, then those of its direction."""
    summary = results.summary
    smallest = min((row.n for row in summary.configs), default=0)
    yield (
        f"The smallest config has {smallest} valid trials. Fisher's exact test at the 5 % level detects 20 % against "
        "35 % with power 0.11 at n = 20 per config, 0.25 at n = 40 and 0.50 at n = 80."
    )
    yield (
        f"The task is the unit of generalisation: pooled counts are about these {len(results.plan.tasks)} tasks, and "
        "the sign-flip test is about tasks like them."
    )
    if (compared := len(summary.configs) - 1) > 1:
        yield (
            f"{compared} configs were compared with the baseline. The p-values of the verdicts and those after Holm "
            "are corrected for multiple comparisons; all others are not."
        )
    if doubted := sum(ONLY_HERE in outcome.note for outcome in results.outcomes):
        yield join(
            f"In {doubted} of {len(results.outcomes)} trials the verifier failed on what the agent left, and worked "
            "where no agent was, so the agent is held to have caused it. A fault that passed in between would look the "
            "same: ",
            Code("note"),
            " in trials.jsonl says what failed.",
        )
    tests = () if summary.sequential is None else summary.sequential.tests
    if stopped := [test.config for test in tests if test.stopped]:
        yield join(
            listed(stopped),
            " stopped early (",
            Code("--sequential"),
            "). The level holds. Differences and intervals are not corrected for the interim analyses; after a stop "
            "for efficacy they are biased away from zero.",
        )
    yield from map(Markdown, results.direction.caveats)
    if results.origin is not None:
        yield from origin_caveats(results, results.origin)
