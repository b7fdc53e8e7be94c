"""How many trials an hour so many workers make: a simulation from measured speeds of the engine and the sandboxes.

Workers take trials one after the other. A trial is made ready, then replies and commands take turns, then it is judged.
An engine decodes all rows together, one token a step, and a step of more rows may take longer. A new prompt is computed
first, while the others wait. Containers and commands
share the processor cores equally, and none is faster than one core; Docker's own work is part of theirs.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, cycle, islice

from capvec.records import Outcome

WORKERS = (16, 64, 256)
"""Of which a plan says what they make."""
_SCALES = 0.9
"""Share of the speed of workers that never meet from which on nothing is called saturated."""
_ROUNDS = 8
"""Trials of each worker in a simulation of the steady state."""
_ROUNDING = 1e-9
"""Relative tolerance for what has come to its end."""


@dataclass(frozen=True)
class EngineSpeed:
    """What an engine was measured to take."""

    step_s: Mapping[int, float]
    """Rows decoded together → seconds of a step, in which each row gets a token. Between them lines are drawn."""
    prompt_tokens_per_s: float
    most_rows: int
    """Rows at a time; other requests wait."""
    reply_s: float = 0.0
    """Seconds that a reply takes beside its tokens."""

    def step(self, rows: int) -> float:
        """Seconds of a step of so many rows."""
        known = sorted(self.step_s)
        place = min(max(bisect_left(known, rows), 1), max(len(known) - 1, 1))
        if rows <= known[0] or len(known) == 1:
            return self.step_s[known[0]]
        low, high = known[place - 1], known[place]
        slope = (self.step_s[high] - self.step_s[low]) / (high - low)
        # Beyond what was measured a step is no faster than the largest that was.
        least = self.step_s[known[-1]] if rows > known[-1] else 0.0
        return max(self.step_s[low] + slope * (rows - low), least)


@dataclass(frozen=True)
class ReplyWork:
    """What one reply takes."""

    new_tokens: int
    """Of the prompt, to be computed."""
    tokens: int
    """Of the reply."""
    commands_s: float
    """Core seconds of its commands."""


@dataclass(frozen=True)
class TrialWork:
    """What one trial takes."""

    replies: tuple[ReplyWork, ...]
    around_s: float
    """Core seconds of making its container ready, judging it and removing it."""


@dataclass(frozen=True)
class Simulated:
    """Trials that were simulated."""

    ends: tuple[float, ...]
    """Seconds after the start at which they ended, in order."""
    engine_s: float
    """Mean seconds of a trial in the engine or waiting for it."""
    sandbox_s: float
    """Mean seconds of a trial in sandboxes or waiting for a core."""

    @property
    def seconds(self) -> float:
        """From the first start to the last end."""
        return self.ends[-1]

    @property
    def per_hour(self) -> float:
        """Trials an hour, in the middle half of the ends, without start and end of the run."""
        first, last = len(self.ends) // 4, len(self.ends) * 3 // 4
        if last <= first or self.ends[last] <= self.ends[first]:
            return 3600 * len(self.ends) / self.seconds
        return 3600 * (last - first) / (self.ends[last] - self.ends[first])


@dataclass(frozen=True)
class Capacity:
    """What so many workers make."""

    workers: int
    per_hour: float
    """Trials."""
    saturated: str
    """`engine` or `sandboxes`, whichever slows trials more; empty where workers hardly slow each other."""


@dataclass(frozen=True)
class Forecast:
    """What several numbers of workers make, and what that was simulated from."""

    capacities: tuple[Capacity, ...]
    engine: EngineSpeed
    cores: int
    """For sandboxes."""


def trial_work(
    steps: int,
    prompt_tokens: int,
    completion_tokens: int,
    sandbox_s: float,
    around_s: float,
    opening: float,
    *,
    reuse: bool = True,
) -> TrialWork:
    """The work of a recorded trial, whose record has sums over its replies.

    Replies are taken to be equally long, and prompts to grow evenly from the opening.

    Args:
        steps: number of replies.
        prompt_tokens: over all replies, each with its whole prompt.
        completion_tokens: over all replies.
        sandbox_s: seconds of commands.
        around_s: seconds that were neither the model's nor of commands.
        opening: tokens of the first prompt.
        reuse: whether what a prompt shares with the one before it is not computed again.
    """
    if steps == 0:
        return TrialWork((), around_s)
    growth = max(2 * (prompt_tokens / steps - opening) / (steps - 1), 0.0) if steps > 1 else 0.0
    first = opening if steps > 1 else prompt_tokens
    prompts = (first + growth * number if not reuse or number == 0 else growth for number in range(steps))
    replies = (
        ReplyWork(round(new), _part(completion_tokens, steps, number), sandbox_s / steps)
        for number, new in enumerate(prompts)
    )
    return TrialWork(tuple(replies), around_s)


def _part(total: int, parts: int, number: int) -> int:
    """One of several whole parts that are as equal as can be."""
    return total * (number + 1) // parts - total * number // parts


def recorded_work(outcomes: Sequence[Outcome], *, reuse: bool = True) -> tuple[TrialWork, ...]:
    """The work of recorded trials; the shortest mean prompt stands for their opening. See `trial_work`."""
    opening = min((one.prompt_tokens / one.steps for one in outcomes if one.steps), default=0.0)
    return tuple(
        trial_work(
            one.steps,
            one.prompt_tokens,
            one.completion_tokens,
            one.sandbox_s,
            max(one.wall_s - one.model_s - one.sandbox_s, 0.0),
            opening,
            reuse=reuse,
        )
        for one in outcomes
    )


def capacities(
    trials: Sequence[TrialWork], engine: EngineSpeed, cores: int, workers: Iterable[int]
) -> tuple[Capacity, ...]:
    """What each number of workers makes of trials like these."""
    alone = simulate(trials, 1, engine, cores)
    return tuple(_capacity(trials, engine, cores, number, alone) for number in workers)


def _capacity(trials: Sequence[TrialWork], engine: EngineSpeed, cores: int, workers: int, alone: Simulated) -> Capacity:
    enough = tuple(islice(cycle(trials), max(len(trials), _ROUNDS * workers)))
    found = simulate(enough, workers, engine, cores)
    single = 3600 * len(alone.ends) / alone.seconds
    if found.per_hour >= _SCALES * workers * single:
        return Capacity(workers, found.per_hour, "")
    slower = {"engine": found.engine_s - alone.engine_s, "sandboxes": found.sandbox_s - alone.sandbox_s}
    return Capacity(workers, found.per_hour, max(slower, key=lambda name: slower[name]))


def simulate(trials: Sequence[TrialWork], workers: int, engine: EngineSpeed, cores: int) -> Simulated:
    """Run trials in simulated time, `workers` at a time."""
    return _Simulation(trials, workers, engine, cores).run()


class _Shared:
    """Jobs that progress equally fast."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int]] = []
        self._number = count()
        self._done = 0.0
        """What each job got since the start, had it been there."""

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, job: int, amount: float) -> None:
        heapq.heappush(self._heap, (self._done + amount, next(self._number), job))

    @property
    def least(self) -> float:
        """What the job that ends next still needs."""
        return max(self._heap[0][0] - self._done, 0.0)

    def advance(self, amount: float) -> list[int]:
        """Give each job so much; the jobs that this ended."""
        self._done += amount
        ended = []
        while self._heap and self._heap[0][0] <= self._done * (1 + _ROUNDING) + _ROUNDING:
            ended.append(heapq.heappop(self._heap)[2])
        return ended


class _Simulation:
    """Jobs are workers, each with a trial and the stages that the trial still has."""

    def __init__(self, trials: Sequence[TrialWork], workers: int, engine: EngineSpeed, cores: int) -> None:
        self._trials, self._engine, self._cores = deque(trials), engine, cores
        self._count = len(trials)
        self._stages: list[deque[tuple[str, float]]] = [deque() for _ in range(min(workers, len(trials)))]
        self._waiting: deque[tuple[int, float]] = deque()
        """Requests for which there is no row."""
        self._prompts: deque[tuple[int, float]] = deque()
        """Prompts to be computed, the first one now, with its seconds."""
        self._rows, self._sandboxes, self._pauses = _Shared(), _Shared(), _Shared()
        self._held: set[int] = set()
        """Workers whose request has a row."""
        self._time = self._engine_s = self._sandbox_s = 0.0
        self._ends: list[float] = []

    def run(self) -> Simulated:
        for worker in range(len(self._stages)):
            self._next_trial(worker)
        while len(self._ends) < self._count:
            self._go_on()
        return Simulated(tuple(self._ends), self._engine_s / self._count, self._sandbox_s / self._count)

    def _go_on(self) -> None:
        """Go on to the next time at which something ends."""
        rate = min(1.0, self._cores / max(len(self._sandboxes), 1))
        step = self._engine.step(len(self._rows)) if len(self._rows) else 0.0
        times = [self._prompts[0][1]] if self._prompts else [self._rows.least * step] if len(self._rows) else []
        times += [self._sandboxes.least / rate] if len(self._sandboxes) else []
        times += [self._pauses.least] if len(self._pauses) else []
        passed = min(times)
        self._time += passed
        self._sandbox_s += passed * len(self._sandboxes)
        self._engine_s += passed * (len(self._held) + len(self._waiting) + len(self._pauses))
        ended = self._sandboxes.advance(passed * rate) + self._pauses.advance(passed)
        if self._prompts:
            worker, left = self._prompts.popleft()
            if left > passed * (1 + _ROUNDING):
                self._prompts.appendleft((worker, left - passed))
            else:
                self._next_stage(worker)
        elif len(self._rows):
            decoded = self._rows.advance(passed / step) if step else self._rows.advance(self._rows.least)
            self._held -= set(decoded)
            ended += decoded
        for worker in ended:
            self._next_stage(worker)
        while self._waiting and len(self._held) < self._engine.most_rows:
            self._admit(*self._waiting.popleft())

    def _admit(self, worker: int, seconds: float) -> None:
        self._held.add(worker)
        self._prompts.append((worker, seconds))

    def _next_stage(self, worker: int) -> None:
        if not self._stages[worker]:
            self._ends.append(self._time)
            self._next_trial(worker)
            return
        kind, amount = self._stages[worker].popleft()
        if kind == "prompt":
            self._waiting.append((worker, amount))
        else:
            {"tokens": self._rows, "sandbox": self._sandboxes, "pause": self._pauses}[kind].add(worker, amount)

    def _next_trial(self, worker: int) -> None:
        if self._trials:
            self._stages[worker] = deque(self._stages_of(self._trials.popleft()))
            self._next_stage(worker)

    def _stages_of(self, trial: TrialWork) -> Iterable[tuple[str, float]]:
        yield "sandbox", trial.around_s / 2
        for reply in trial.replies:
            yield "pause", self._engine.reply_s
            yield "prompt", reply.new_tokens / self._engine.prompt_tokens_per_s
            yield "tokens", float(reply.tokens)
            yield "sandbox", reply.commands_s
        yield "sandbox", trial.around_s / 2
