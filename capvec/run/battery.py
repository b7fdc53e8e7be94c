"""Asks the items of a battery under every config, after the trials, by the same engine and with the same checks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from capvec.agent.model import ChatModel
from capvec.battery.items import Item
from capvec.engines.protocol import ChatTemplateInfo
from capvec.errors import EngineUnavailable, InfrastructureError, UsageError
from capvec.plan.plan import Plan
from capvec.receipts import check_grammar, check_receipts
from capvec.records import Config, Message, Reply
from capvec.results.battery import Answer, BatteryLedger, answers_of, asked_configs
from capvec.text import counted

JOBS = 8
"""Items at a time."""
ANSWER_TOKENS = 24
"""Most tokens of a short answer."""
MOST_FAULTS = 20
"""Errors in a row after which the engine counts as gone, and the rest is left for --resume."""
_SAY_EVERY = 100
_TIMED = 4 * JOBS
"""Answers from which the time of all is predicted."""


@dataclass(frozen=True)
class Battery:
    """The items of a run, and where their answers go."""

    items: tuple[Item, ...]
    plan: Plan

    def run(self, model: ChatModel, say: Callable[[str], None]) -> None:
        """Ask what has no valid answer on record.

        Raises:
            StorageFault: an answer cannot be written.
        """
        ledger = BatteryLedger(self.plan.folder)
        ledger.mend()
        pairs = left_to_ask(self.items, self.plan)
        if pairs:
            say(f"battery: {counted(len(pairs), 'answer')} to {counted(len(self.items), 'item')}")
        faults, pool = 0, ThreadPoolExecutor(JOBS)
        try:
            asked = [pool.submit(self._ask, model, item, config) for item, config in pairs]
            for number, done in enumerate(as_completed(asked), start=1):
                answer = done.result()
                ledger.append(answer)
                faults = faults + 1 if answer.error else 0
                if faults >= MOST_FAULTS:
                    say(f"battery: {faults} errors in a row ({answer.error[:120]}); the rest is left for --resume")
                    break
                if number % _SAY_EVERY == 0:
                    say(f"battery: {number} of {len(pairs)} answers")
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def predict(self, model: ChatModel) -> float | None:
        """About how many seconds all answers take, from a few that are asked now and not recorded.

        None where there is nothing to ask, or an answer is an error.
        """
        pairs = left_to_ask(self.items, self.plan)
        few = pairs[:: max(1, len(pairs) // _TIMED)][:_TIMED]
        began = time.monotonic()
        with ThreadPoolExecutor(JOBS) as pool:
            answers = list(pool.map(lambda pair: self._ask(model, *pair), few))
        taken = time.monotonic() - began
        return None if not few or any(one.error for one in answers) else taken / len(few) * len(pairs)

    def check(self, model: ChatModel, template: ChatTemplateInfo) -> None:
        """Make sure that the engine can be asked, if there is anything to ask.

        Raises:
            UsageError: the model thinks before it answers, or the engine cannot constrain replies to letters.
        """
        if not self.items:
            return
        thinking = self.plan.settings.thinking
        if thinking == "on" or (thinking in (None, "default") and template.thinks):
            raise UsageError("--battery: answers are taken without thoughts; use --thinking off, or leave it out")
        for item in {(item.grammar, item.by_text): item for item in self.items}.values():
            answer = self._ask(model, item, Config(Config.BASELINE, "baseline"))
            if answer.error:
                raise UsageError(f"--battery: the item {item.id} cannot be asked: {answer.error}")

    def _ask(self, model: ChatModel, item: Item, config: Config) -> Answer:
        """One answer; a fault of the instrument, or a steer that does not hold, makes it an error."""
        about: dict[str, Any] = {
            "item": item.id,
            "digest": item.digest,
            "config": config.name,
            "category": item.category,
            "choices": len(item.choices),
        }
        try:
            said = self._said(model, item, config)
        except (InfrastructureError, UsageError) as fault:
            return Answer(**about, error=f"{type(fault).__name__}: {fault}")
        return Answer(**about, right=item.is_right(said), reply=said)

    def _said(self, model: ChatModel, item: Item, config: Config) -> str:
        """What the model says to an item."""
        messages: list[Message] = [{"role": "user", "content": item.prompt}]
        if config.system_suffix:
            messages.insert(0, {"role": "system", "content": config.system_suffix})
        if item.by_text:
            return self._likeliest(model, messages, item, config)
        most = 2 if item.choices else ANSWER_TOKENS
        return self._reply(model, messages, config, max_tokens=most, grammar=item.grammar).text

    def _likeliest(self, model: ChatModel, messages: Sequence[Message], item: Item, config: Config) -> str:
        """The choice with the largest log-likelihood for each byte of its text; of equal ones the first."""

        def score(choice: str) -> float:
            reply = self._reply(model, messages, config, max_tokens=0, continuation=choice)
            if reply.logprob is None or not math.isfinite(reply.logprob):
                raise EngineUnavailable(f"the engine gave the choice {choice[:60]!r} no log-likelihood")
            return reply.logprob / len(choice.encode())

        return max(item.choices, key=score)

    def _reply(self, model: ChatModel, messages: Sequence[Message], config: Config, **asked: Any) -> Reply:
        """A reply under a config, whose receipts hold."""
        thinking = self.plan.settings.thinking
        reply = model.complete(messages, seed=0, temperature=0.0, steers=config.steers, thinking=thinking, **asked)
        check_receipts(reply, config, self.plan.layout)
        check_grammar(reply, Config(config.name, config.kind, grammar=asked.get("grammar", "")))
        return reply


def left_to_ask(items: Sequence[Item], plan: Plan) -> tuple[tuple[Item, Config], ...]:
    """The pairs without a valid answer on record. The order of configs rotates from item to item."""
    known, configs = {(one.item, one.config) for one in answers_of(plan) if not one.error}, asked_configs(plan)
    pairs = []
    for place, item in enumerate(items):
        turn = place % len(configs)
        pairs += [(item, config) for config in (*configs[turn:], *configs[:turn])]
    return tuple((item, config) for item, config in pairs if (item.id, config.name) not in known)
