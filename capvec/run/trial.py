"""One trial: an episode in a sandbox under one config, and the verifier's reward."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from capvec.agent.loop import LoopLimits, run_episode
from capvec.agent.model import ChatModel
from capvec.agent.prompts import opening_messages
from capvec.agent.protocols import get_protocol
from capvec.errors import InfrastructureError
from capvec.plan.plan import Plan
from capvec.receipts import check_receipts
from capvec.records import Config, Episode, Measured, Outcome, Reply, Task, TrialId, TrialSpec
from capvec.run.control import Control, Judged, Scale, judge
from capvec.sandbox.base import Sandbox, SandboxProvider
from capvec.sandbox.skills import skills_in_words
from capvec.traces import write_trajectory


@dataclass(frozen=True)
class TrialRunner:
    """Runs the trials of a plan; keeps no state between them."""

    plan: Plan
    model: ChatModel
    sandboxes: SandboxProvider
    finished: Mapping[TrialId, Outcome] = field(default_factory=dict)
    """Outcomes of earlier sessions (`--resume`); these trials do not run again."""

    def run(self, spec: TrialSpec) -> Outcome:
        """Run one trial. A fault of the infrastructure becomes the outcome `error`, never an exception."""
        if spec.id in self.finished:
            return self.finished[spec.id]
        started, clock = datetime.now(UTC), time.monotonic()
        task, config = self.plan.task(spec.task), self.plan.config(spec.config)
        episode, judged, fault = self._act(spec, task, config)
        outcome = _outcome(self.plan.run, spec, config, episode, judged, fault)
        outcome = replace(
            outcome, started=started.isoformat(timespec="milliseconds"), wall_s=round(time.monotonic() - clock, 3)
        )
        if episode is not None:
            self._write(spec, task, config, episode, outcome)
        return outcome

    def _act(self, spec: TrialSpec, task: Task, config: Config) -> tuple[Episode | None, Judged | None, str]:
        """The episode, the verifier's word, and the fault (empty without one); a fault leaves the episode so far."""
        episode = None
        try:
            with self.sandboxes.open(task, run=self.plan.run, trial=str(spec.id)) as sandbox:
                settings = self.plan.settings

                def check(reply: Reply) -> None:
                    check_receipts(reply, config, self.plan.layout)

                protocol = get_protocol(settings.protocol)
                episode = run_episode(
                    opening_messages(
                        _instruction(sandbox, task), protocol, settings.prompt_style, config.system_suffix
                    ),
                    model=self.model,
                    sandbox=sandbox,
                    protocol=protocol,
                    limits=LoopLimits(
                        max_steps=settings.max_steps,
                        max_tokens=settings.max_tokens,
                        temperature=settings.temperature,
                        sandbox_s=task.agent.timeout_s,
                        thinking=settings.thinking,
                    ),
                    seed=spec.seed,
                    steers=config.steers,
                    on_reply=check,
                )
                if episode.end_reason == "error":
                    return episode, None, episode.error
                scale = Scale(settings.reward, settings.solved_at)
                return episode, judge(sandbox, task, Control(self.sandboxes, self.plan.run, str(spec.id), scale)), ""
        except InfrastructureError as fault:
            return episode, None, f"{type(fault).__name__}: {fault}"

    def _write(self, spec: TrialSpec, task: Task, config: Config, episode: Episode, outcome: Outcome) -> None:
        write_trajectory(
            self.plan.trajectory(spec.id),
            spec=spec,
            task=task,
            config=config,
            model_name=self.plan.settings.model,
            protocol=self.plan.settings.protocol,
            episode=episode,
            outcome=outcome,
        )


def _instruction(sandbox: Sandbox, task: Task) -> str:
    """The task's instruction, and the list of its skills."""
    skills = skills_in_words(sandbox, task.skills_dir) if task.skills_dir is not None else ""
    return f"{task.instruction}\n\n{skills}" if skills else task.instruction


def error_outcome(run: str, spec: TrialSpec, config: Config, reason: str) -> Outcome:
    """The outcome of a trial that the infrastructure ended before there was an episode."""
    return _outcome(run, spec, config, None, None, reason)


def _outcome(
    run: str, spec: TrialSpec, config: Config, episode: Episode | None, judged: Judged | None, fault: str
) -> Outcome:
    steps = episode.steps if episode else ()
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
        parse_fail=episode.parse_fail if episode else 0,
        repaired=episode.repaired if episode else 0,
        no_cmd=episode.no_cmd if episode else 0,
        end_reason=episode.end_reason if episode and judged else "error",
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
