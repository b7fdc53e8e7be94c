"""What was done: the model, the tasks, the configs and the settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from capvec.plan.plan import Plan, Settings
from capvec.records import Outcome
from capvec.report.rewards import solved_in_words
from capvec.report.section import Bullets, Code, Inline, Markdown, Paragraph, Section, join
from capvec.results.results import Results
from capvec.text import counted


def method_section(results: Results) -> Section:
    """One paragraph, one for each thing that the chat template does otherwise, and one for a merged run."""
    plan, settings = results.plan, results.plan.settings
    done = Paragraph(
        (
            "Model ",
            Code(settings.model),
            f" drove a shell on {_tasks(plan, results.outcomes)}, with {attempts(plan)} per task and config, under "
            f"{len(plan.configs)} configs. All configs of a (task, attempt) share a seed. Protocol ",
            Code(settings.protocol),
            ", prompt style ",
            Code(settings.prompt_style),
            f", at most {settings.max_steps} steps of {settings.max_tokens} tokens, {settings.sampling}.",
            *solved_otherwise(settings),
        )
    )
    merged = [Paragraph(Markdown(" ".join(plan.merged)))] if plan.merged else []
    return Section("method", "Method", (done, *conditions(plan), *merged))


def conditions(plan: Plan) -> Iterator[Paragraph | Bullets]:
    """What the chat template does otherwise, what tasks were allowed, which are unproved, and which did not run."""
    yield from (Paragraph(line) for line in plan.template.in_words(plan.settings.thinking))
    yield from _permitted(plan)
    yield from _unproved(plan)
    yield from _left_out(plan)


def _permitted(plan: Plan) -> Iterator[Paragraph]:
    """What tasks may do that a sandbox does not allow by default."""
    if plan.settings.allow_network:
        yield Paragraph(("Tasks that ask for a public network had it (", Code("--allow-network"), ")."))
    if plan.settings.capabilities != "none":
        yield Paragraph(
            ("Containers had the capabilities of a plain Docker container (", Code("--capabilities default"), ").")
        )
    if plan.settings.keep_processes:
        yield Paragraph(
            (
                "Processes that an agent left running lived on while the verifier ran beside them (",
                Code("--keep-processes"),
                "). Such a process may change what the verifier reads, and its reward.",
            )
        )


def _unproved(plan: Plan) -> Iterator[Paragraph]:
    """The tasks of which it is not known that they can be solved."""
    for why in dict.fromkeys(plan.unproved.values()):
        names = [name for name, reason in plan.unproved.items() if reason == why]
        yield Paragraph(f"{counted(len(names), 'task')} unproved, since {why}: {', '.join(names)}.")


def _left_out(plan: Plan) -> Iterator[Paragraph | Bullets]:
    """The tasks that were asked for and did not run."""
    if plan.left_out:
        yield Paragraph(f"{counted(len(plan.left_out), 'task')} did not run:")
        yield Bullets(tuple(join(Code(name), f": {why}") for name, why in plan.left_out.items()))


def solved_otherwise(settings: Settings) -> tuple[Inline, ...]:
    """Which reward counts and from where on a trial is solved, where that was asked for; nothing by default."""
    asked = settings.reward is not None or settings.solved_at != Settings.solved_at
    return (" ", *solved_in_words(settings)) if asked else ()


def _tasks(plan: Plan, outcomes: Sequence[Outcome]) -> str:
    """`6 tasks`, or `2 of 6 tasks` where the others were left out."""
    ran = len({outcome.task for outcome in outcomes})
    of = f"{ran} of " if ran < len(plan.tasks) else ""
    return f"{of}{counted(len(plan.tasks), 'task')}"


def attempts(plan: Plan) -> str:
    """`1 attempt`, or `1 to 3 attempts` where merged shards differ."""
    counts = Counter((trial.task, trial.config) for trial in plan.trials)
    each = [counts[task.name, config.name] for task in plan.tasks for config in plan.configs]
    span = " to ".join(dict.fromkeys(map(str, (min(each), max(each)))))
    return f"{span} attempt{'s' if max(each) > 1 else ''}"
