"""One trial: an episode in a sandbox under one config, and the verifier's reward."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from capvec.agent.loop import LoopLimits, run_episode, step_seed
from capvec.agent.model import ChatModel
from capvec.agent.prompts import opening_messages
from capvec.agent.protocols import get_protocol
from capvec.errors import EnvironmentFault, InfrastructureError, StorageExceeded
from capvec.plan.plan import Plan
from capvec.receipts import check_grammar, check_receipts
from capvec.records import Config, Episode, Measured, Outcome, Reply, TrialId, TrialSpec
from capvec.run.control import Control, Judged, Scale, judge, ready
from capvec.run.places import Place, Places
from capvec.run.suspension import unsuspended
from capvec.sandbox.base import Sandbox, SandboxProvider
from capvec.sandbox.skills import skills_in_words
from capvec.sandbox.steps import goes_on
from capvec.task_records import Task, TaskStep
from capvec.traces import write_trajectory


@dataclass(frozen=True)
class TrialRunner:
    """Runs the trials of a plan; between them it keeps sandboxes alone, until `close`."""

    plan: Plan
    model: ChatModel
    sandboxes: SandboxProvider
    finished: Mapping[TrialId, Outcome] = field(default_factory=dict)
    """Outcomes of earlier sessions (`--resume`); these trials do not run again."""
    ahead: int = 0
    """How many sandboxes may be opened before their trial's turn, and removed after it."""
    check_task: Callable[[Task], None] = lambda _task: None
    """Called when a trial has been judged; raises an `InfrastructureError` where its task is not what it was."""
    _places: Places = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", Places(self.sandboxes, self.plan, self.ahead))

    def close(self) -> None:
        """Remove the sandboxes of trials that did not run, and wait until all are removed."""
        self._places.close()

    def run(self, spec: TrialSpec, following: TrialSpec | None = None) -> Outcome:
        """Run one trial. A fault of the infrastructure becomes the outcome `error`, never an exception.

        Args:
            spec: the trial.
            following: one whose turn comes soon; its sandbox is opened while this one runs.
        """
        if spec.id in self.finished:
            return self.finished[spec.id]
        started, clock = datetime.now(UTC), time.monotonic()
        task, config = self.plan.task(spec.task), self.plan.config(spec.config)
        episodes: list[Episode] = []
        judged, host = None, ""
        try:
            with unsuspended(), self._places.place(spec) as place:
                host = place.sandboxes.host
                judged = self._do(place, spec, following, task, config, episodes)
            self.check_task(task)
            fault = episodes[-1].error
        except InfrastructureError as error:
            judged, fault = None, f"{type(error).__name__}: {error}"
        outcome = _outcome(self.plan.run, spec, config, episodes, judged, fault)
        wall_s = round(time.monotonic() - clock, 3)
        outcome = replace(
            outcome,
            host=host,
            started=started.isoformat(timespec="milliseconds"),
            session=self.plan.session,
            wall_s=wall_s,
        )
        if episodes:
            self._write(spec, task, config, episodes, outcome)
        else:
            self.plan.trajectory(spec.id).unlink(missing_ok=True)  # of an earlier session
        return outcome

    def _do(
        self,
        place: Place,
        spec: TrialSpec,
        following: TrialSpec | None,
        task: Task,
        config: Config,
        episodes: list[Episode],
    ) -> Judged | None:
        """Let the model do the steps of a task in one sandbox, each in an episode of its own, which is appended.

        Returns:
            How they are judged; None where the last episode ended in a fault, which it holds.

        Raises:
            InfrastructureError: of any kind; the episodes so far are there.
        """
        settings, judged, number = self.plan.settings, Judged(), 0
        control = Control(place.sandboxes, self.plan.run, str(spec.id), Scale(settings.reward, settings.solved_at))
        try:
            with place.sandbox() as sandbox:
                if following is not None and following.id not in self.finished:
                    self._places.expect(following)
                skills = skills_in_words(sandbox, task.skills_dir) if task.skills_dir is not None else ""
                for number, step in enumerate(task.steps):
                    if prevented := ready(sandbox, task, control, judged):
                        return prevented
                    seed = step_seed(spec.seed, -number) if number else spec.seed
                    episodes.append(self._act(sandbox, step, skills, config, seed))
                    if episodes[-1].end_reason == "error":
                        return None
                    judged = judge(sandbox, task, control, judged)
                    if not goes_on(step, judged.steps[-1]):
                        break
        except StorageExceeded as exceeded:
            if not episodes:
                raise EnvironmentFault(f"task {task.name}: before the agent acted, {exceeded}") from exceeded
            episodes[-1] = replace(episodes[-1], end_reason="storage", error="")
            # The step at work may be judged already, since the watch looks from time to time.
            return control.unjudged(task, replace(judged, steps=judged.steps[:number]), str(exceeded))
        return judged

    def _act(self, sandbox: Sandbox, step: TaskStep, skills: str, config: Config, seed: int) -> Episode:
        """One conversation with the model, about one step."""
        settings = self.plan.settings
        protocol = get_protocol(settings.protocol)
        instruction = f"{step.instruction}\n\n{skills}" if skills else step.instruction

        def check(reply: Reply) -> None:
            check_receipts(reply, config, self.plan.layout)
            check_grammar(reply, config)

        return run_episode(
            opening_messages(instruction, protocol, settings.prompt_style, config.system_suffix),
            model=self.model,
            sandbox=sandbox,
            protocol=protocol,
            limits=LoopLimits(
                max_steps=settings.max_steps,
                max_tokens=settings.max_tokens,
                temperature=settings.temperature,
                sandbox_s=step.agent.timeout_s,
                thinking=settings.thinking,
                shaping=settings.shaping,
            ),
            seed=seed,
            steers=config.steers,
            grammar=config.grammar,
            on_reply=check,
        )

    def _write(
        self, spec: TrialSpec, task: Task, config: Config, episodes: Sequence[Episode], outcome: Outcome
    ) -> None:
        write_trajectory(
            self.plan.trajectory(spec.id),
            spec=spec,
            task=task,
            config=config,
            model_name=self.plan.settings.model,
            protocol=self.plan.settings.protocol,
            episodes=episodes,
            outcome=outcome,
        )


def error_outcome(run: str, spec: TrialSpec, config: Config, reason: str) -> Outcome:
    """The outcome of a trial that the infrastructure ended before there was an episode."""
    return _outcome(run, spec, config, (), None, reason)


def _outcome(
    run: str, spec: TrialSpec, config: Config, episodes: Sequence[Episode], judged: Judged | None, fault: str
) -> Outcome:
    steps = [step for episode in episodes for step in episode.steps]
    return Outcome(
        run=run,
        task=spec.task,
        config=spec.config,
        layer=config.layer,
        alpha=config.alpha,
        attempt=spec.attempt,
        seed=spec.seed,
        outcome="error" if judged is None else "solved" if judged.solved else "unsolved",
        reward=judged.reward if judged else None,
        rewards=judged.rewards if judged else {},
        steps=len(steps),
        parse_fail=sum(episode.parse_fail for episode in episodes),
        repaired=sum(episode.repaired for episode in episodes),
        no_cmd=sum(episode.no_cmd for episode in episodes),
        end_reason=episodes[-1].end_reason if judged else "error",
        prompt_tokens=sum(step.reply.prompt_tokens for step in steps),
        completion_tokens=sum(step.reply.completion_tokens for step in steps),
        model_s=round(sum(step.reply.model_s for step in steps), 3),
        sandbox_s=round(sum(step.sandbox_s for step in steps), 3),
        worker=os.environ.get("PYTEST_XDIST_WORKER", "main"),
        measured=_measured(config, [step.reply for step in steps]),
        error=fault,
        note=judged.note if judged else "",
    )


def _measured(config: Config, replies: Sequence[Reply]) -> tuple[Measured, ...]:
    """The mean that the replies' receipts show for each steer; replies without a receipt are left out."""
    measured = []
    for number, (steer, target) in enumerate(zip(config.steers, config.targets, strict=True)):
        receipts = [reply.receipts[number] for reply in replies if number < len(reply.receipts)]
        shown = [receipt.shift_mean if steer.op == "add" else receipt.level_mean for receipt in receipts]
        values = [value for value in shown if value is not None]
        measured.append(Measured(steer.layer, steer.op, target, sum(values) / len(values) if values else None))
    return tuple(measured) if replies else ()
