"""Continuous batching: requests join a running batch when they arrive and leave it when they are finished.

A prompt is computed alone, then its row joins the batch. Each row has its own steers, sampler and accumulators, so its
reply is the one that the request gets alone, up to floating-point rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor
from transformers import DynamicCache

from capvec.engines.generation import PLAIN, Drawn, Listener, Shaping
from capvec.engines.transformers.caches import (
    PrefixStore,
    SteeredToken,
    crop,
    croppable,
    has_positions,
    has_states,
    join,
    joinable,
    new_cache,
    take,
)
from capvec.engines.transformers.grammars import Grammar
from capvec.engines.transformers.hooks import Accumulators, accumulators, steer, steered_at
from capvec.engines.transformers.loaded import LoadedModel, forward, read_on
from capvec.engines.transformers.sampling import GivenTokens, RowSampler, Sampler
from capvec.engines.transformers.shaping import Shaped, shaped
from capvec.engines.transformers.threads import computing_in, threads_for
from capvec.errors import EngineUnavailable, UsageError
from capvec.receipts import check_finite
from capvec.records import Reply
from capvec.steering import Steer

T = TypeVar("T")
WASTE = 8192
"""Most positions of padding over all rows of a batch; beyond it, a row of another length gets a batch of its own. Every
step copies the padding, and one conversation of 8,000 tokens would delay 15 short ones. The bound is an estimate:
tests/benchmarks/README.md has the gain at twice and three times as many."""


@dataclass(frozen=True)
class Request:
    """One reply to generate."""

    tokens: tuple[int, ...]
    """The rendered prompt."""
    max_tokens: int
    """At most what the model's context has room for; 0 with `echo`, for the prompt alone."""
    seed: int
    temperature: float
    stop: tuple[str, ...] = ()
    steers: tuple[Steer, ...] = ()
    vectors: tuple[Tensor, ...] = ()
    """v_L of each steer, float32 `[d_model]`."""
    assistant: tuple[bool, ...] | None = None
    """Of each prompt token, whether it belongs to an assistant message; required by a steer at those positions."""
    shaping: Shaping = PLAIN
    logprobs: int | None = None
    """How many likely tokens the listener is told of for each token; None for no probabilities at all."""
    listener: Listener | None = None
    """Called in the thread of the decoder."""
    grammar: Grammar | None = None
    """What the reply is constrained to; it needs no more than `max_tokens`."""
    given: tuple[int, ...] = ()
    """The reply's tokens, where their log-probabilities are asked for and none is drawn."""
    echo: bool = False
    """Whether the listener is told of the prompt's tokens too, and of the token that ends the reply."""


@dataclass
class _Row:
    request: Request
    result: Future[Reply]
    sampler: Sampler
    accumulators: Accumulators
    generated: list[int] = field(default_factory=list)
    reused: int = 0
    reused_under: tuple[Steer, ...] = ()
    forwards: int = 0
    """Forward passes made for this row."""
    state: int = 0
    """Of the grammar."""

    @property
    def cached(self) -> tuple[int, ...]:
        """The tokens in the cache: all but the last drawn one."""
        return self.request.tokens + tuple(self.generated[:-1])

    @property
    def seen(self) -> tuple[SteeredToken, ...]:
        """The same tokens, as the prefix store compares them."""
        return (*_seen(self.request), *_seen(self.request, self.generated[:-1]))


@dataclass
class _Group:
    """Rows that share a forward pass."""

    rows: list[_Row]
    cache: DynamicCache

    @property
    def length(self) -> int:
        """Cached positions, the padding on the left included."""
        return max(len(row.cached) for row in self.rows)


def _wasted(host: _Group, group: _Group) -> int:
    """Cached positions of padding that joining adds, for all rows together; every step reads and copies them."""
    longest = max(host.length, group.length)
    return (longest - host.length) * len(host.rows) + (longest - group.length) * len(group.rows)


def sampler_of(request: Request) -> Sampler:
    """The sampler that a request asks for."""
    return GivenTokens(request.given) if request.given else RowSampler(request.seed, request.temperature)


def answer(result: Future[T], value: T) -> None:
    """Set the result of a request, unless it was given up meanwhile."""
    with suppress(InvalidStateError):
        result.set_result(value)


def fail(result: Future[T], error: Exception) -> None:
    """Set the exception of a request, unless it was given up meanwhile."""
    with suppress(InvalidStateError):
        result.set_exception(error)


TOLD_LOGITS = 1 << 25
"""Logits of a prompt that are held at once where its tokens' probabilities are asked for: 128 MiB in float32."""


class Decoder:
    """The running batch. Not thread-safe: one thread owns it, and the model with it."""

    def __init__(
        self, loaded: LoadedModel, *, prefix_bytes: int, sampler: Callable[[Request], Sampler] = sampler_of
    ) -> None:
        self._loaded = loaded
        self._sampler = sampler
        self._prefixes = PrefixStore(prefix_bytes)
        self._groups: list[_Group] = []

    @property
    def rows(self) -> int:
        """Rows that are being decoded."""
        return sum(len(group.rows) for group in self._groups)

    def forget(self) -> None:
        """Drop the starts of conversations that were kept for reuse."""
        self._prefixes.clear()

    @torch.inference_mode()
    def add(self, request: Request, result: Future[Reply]) -> None:
        """Compute the prompt, draw the first token and add the row to the batch; an exception is set on `result`."""
        if not result.set_running_or_notify_cancel():
            return
        try:
            row, cache = self._prefill(request, result)
            self._enter(_Group([row], cache))
        except Exception as error:  # for this request only; the other rows go on
            fail(result, error)

    @torch.inference_mode()
    def step(self) -> None:
        """Draw one token for every row; finished rows answer and leave, and so do those given up."""
        for group in self._groups:
            try:
                self._advance(group)
                self._settle(group)
            except Exception as error:  # for the requests of this group only
                for row in group.rows:
                    fail(row.result, error)
                group.rows = []
        self._groups = [group for group in self._groups if group.rows]

    def _enter(self, group: _Group) -> None:
        """Join the running batch, unless the one row is finished already or its cache cannot be joined."""
        if not self._settle(group):
            return
        host = self._host(group) if joinable(group.cache) else None
        if host is None:
            self._groups.append(group)
        else:
            host.cache = join([host.cache, group.cache], [host.length, group.length])
            host.rows += group.rows

    def _host(self, group: _Group) -> _Group | None:
        """The batch to join: the one whose padding grows least, if that costs less than a forward pass of its own."""
        hosts = [host for host in self._groups if joinable(host.cache)]
        best = min(hosts, key=lambda host: _wasted(host, group), default=None)
        return best if best is not None and _wasted(best, group) <= WASTE else None

    def _prefill(self, request: Request, result: Future[Reply]) -> tuple[_Row, DynamicCache]:
        loaded = self._loaded
        try:
            loaded.check_ids(request.tokens)
        except UsageError as error:  # the user of an agent did not write its conversation
            raise EngineUnavailable(str(error)) from error
        row = _Row(
            request,
            result,
            self._sampler(request),
            accumulators(request.steers, request.vectors),
        )
        if request.echo:
            return row, self._prefill_told(row)
        seen = _seen(request)
        cache, reused, under = self._prefixes.find(request.steers, seen)
        cache = cache if cache is not None else new_cache(loaded.model.config)
        row.reused, row.reused_under = reused, under
        start, kept, whole = reused, cache, len(request.tokens)
        settled = self._reusable(request, cache)
        if start < settled < whole:
            self._read(row, cache, start, settled)
            start, kept = settled, crop(cache, settled)
        logits = self._read(row, cache, start, whole)[:, -1]
        self._draw(row, logits[0], _shaped([row], logits)[0])
        if settled > reused:
            self._prefixes.keep(request.steers, seen[:settled], kept)
        return row, cache

    def _prefill_told(self, row: _Row) -> DynamicCache:
        """Compute all of a prompt, tell the listener of its tokens, and draw the first token after it."""
        request, tell, cache = row.request, row.request.listener, new_cache(self._loaded.model.config)
        assert tell is not None
        tell(Drawn(request.tokens[0]))  # nothing precedes it
        size = len(request.tokens)
        if croppable(cache) or (joinable(cache) and self._loaded.goes_on_from_a_state):
            size = max(1, TOLD_LOGITS // len(self._loaded.tokenizer))
        for start in range(0, len(request.tokens), size):
            logits = self._read(row, cache, start, min(start + size, len(request.tokens)), every=True)
            following = request.tokens[start + 1 : start + size + 1]
            for drawn in _told(following, logits[0, : len(following)], request.logprobs):
                tell(drawn)
        self._draw(row, logits[0, -1], _shaped([row], logits[:, -1])[0])
        return cache

    def _reusable(self, request: Request, cache: DynamicCache) -> int:
        """How many tokens of a prompt to keep for later ones: a state serves only those that begin with all of them."""
        if not has_states(cache):
            return len(request.tokens)
        return self._loaded.settled(request.tokens) if self._loaded.goes_on_from_a_state else 0

    def _read(self, row: _Row, cache: DynamicCache, start: int, end: int, *, every: bool = False) -> Tensor:
        """Compute some tokens of a prompt.

        Returns:
            The logits of the last one, or of `every` one: float32 `[1, positions, vocab]`.
        """
        tokens, assistant = row.request.tokens, row.request.assistant
        mask = torch.ones(1, end - start, dtype=torch.bool)
        said = torch.tensor([assistant[start:end]]) if assistant is not None else None
        unfinished = end < len(tokens)
        with steer(self._loaded.path, [row.accumulators], mask, assistant=said, unfinished=unfinished):
            ids = torch.tensor([tokens[start:end]], device=self._loaded.device)
            return read_on(self._loaded.model, ids, start, cache, every=every)

    def _advance(self, group: _Group) -> None:
        device, rows = self._loaded.device, group.rows
        lengths = torch.tensor([len(row.cached) for row in rows], device=device)
        width = group.length + 1
        real = torch.arange(width, device=device)[None] >= (width - 1 - lengths)[:, None]
        mask = torch.ones(len(rows), 1, dtype=torch.bool)
        threads = threads_for(len(rows)) if self._loaded.any_threads else torch.get_num_threads()
        with (
            computing_in(threads),
            steer(self._loaded.path, [row.accumulators for row in rows], mask, generated=True),
        ):
            logits = forward(
                self._loaded.model,
                input_ids=torch.tensor([[row.generated[-1]] for row in rows], device=device),
                attention_mask=real.long() if has_positions(group.cache) else None,
                position_ids=lengths[:, None],
                past_key_values=group.cache,
            )
        for row, line, scores in zip(rows, logits, _shaped(rows, logits), strict=True):
            try:
                self._draw(row, line, scores)
            except Exception as error:  # for this request only
                fail(row.result, error)

    def _draw(self, row: _Row, logits: Tensor, scores: Tensor) -> None:
        """Draw a row's next token after a forward pass.

        Raises:
            SteeringFault: none can be drawn since the steers left numbers that are not finite.
            EngineUnavailable: none can be drawn.
        """
        row.forwards += 1
        try:
            token = row.sampler.draw(scores)
        except EngineUnavailable:
            if row.request.steers:
                check_finite(row.accumulators.receipts(row.forwards), row.accumulators.isolation(row.forwards))
            raise
        if not row.request.max_tokens:  # the prompt's tokens are all that is asked for
            return
        row.generated.append(token)
        if row.request.grammar is not None and token not in self._loaded.stop_ids:
            row.state = row.request.grammar.after(row.state, token)
        if row.request.listener is not None and (row.request.echo or token not in self._loaded.stop_ids):
            row.request.listener(*_told([token], logits[None], row.request.logprobs))

    def _settle(self, group: _Group) -> bool:
        """Answer the finished rows and remove them from the cache; whether rows are left."""
        endings = [self._ending(row) for row in group.rows]
        left = [i for i, row in enumerate(group.rows) if endings[i] is None and not row.result.done()]
        if len(left) == len(group.rows):
            return True
        for index, (row, ending) in enumerate(zip(group.rows, endings, strict=True)):
            if ending is not None:
                # What leaked into this row is in its keys and values, which must serve no other reply.
                clean = ending.isolation is not None and ending.isolation.leak_max == 0.0
                if croppable(group.cache) and clean and not row.request.echo:
                    own = take(group.cache, [index], len(row.cached))
                    self._prefixes.keep(row.request.steers, row.seen, own)
                answer(row.result, ending)
        group.rows = [group.rows[index] for index in left]
        if left:
            group.cache = take(group.cache, left, group.length)
        return bool(left)

    def _ending(self, row: _Row) -> Reply | None:
        """The reply, if the row is finished."""
        ended = bool(self._loaded.stop_ids.intersection(row.generated[-1:]))
        full = len(row.generated) >= row.request.max_tokens
        if not (ended or full or row.request.stop):
            return None
        text = self._loaded.template.decode(row.generated[:-1] if ended else row.generated)
        cuts = [at for stop in row.request.stop if (at := text.find(stop)) >= 0]
        if not (ended or full or cuts):
            return None
        return Reply(
            text=text[: min(cuts)] if cuts else text,
            finish_reason="stop" if ended or cuts else "length",
            prompt_tokens=len(row.request.tokens),
            completion_tokens=len(row.generated),
            model_s=0.0,  # the client measures it
            cached_tokens=row.reused,
            cached_under=row.reused_under,
            receipts=row.accumulators.receipts(row.forwards),
            isolation=row.accumulators.isolation(row.forwards),
        )


def _shaped(rows: Sequence[_Row], logits: Tensor) -> Tensor:
    """The logits, float32 `[rows, vocab]`, from which the rows draw."""
    asked = [(row.request, row.generated) for row in rows]
    return shaped(
        _constrained(rows, logits), [Shaped(one.shaping, one.temperature, one.tokens, reply) for one, reply in asked]
    )


def _constrained(rows: Sequence[_Row], logits: Tensor) -> Tensor:
    """The logits with −∞ for tokens that the grammars of their rows do not allow; other rows are left as they are."""
    chosen = [index for index, row in enumerate(rows) if row.request.grammar is not None]
    result = logits.clone() if chosen else logits
    for index in chosen:
        row, grammar = rows[index], rows[index].request.grammar
        assert grammar is not None
        result[index] = grammar.masked(logits[index], row.state, row.request.max_tokens - len(row.generated))
    return result


def _told(tokens: Sequence[int], logits: Tensor, most: int | None) -> list[Drawn]:
    """What a listener is told of tokens, for the logits from which each was drawn, float32 `[tokens, vocab]`."""
    if most is None or not tokens:
        return [Drawn(token) for token in tokens]
    logprobs = logits.log_softmax(dim=-1)
    own = logprobs.gather(1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0].tolist()
    values, likely = logprobs.topk(min(most, logprobs.shape[1]))
    tops = zip(likely.tolist(), values.tolist(), strict=True)
    return [Drawn(token, one, tuple(zip(*top, strict=True))) for token, one, top in zip(tokens, own, tops, strict=True)]


def _seen(request: Request, generated: Sequence[int] | None = None) -> tuple[SteeredToken, ...]:
    """The prompt's tokens, or the generated ones, each with the kinds of positions that it belongs to."""
    tokens = request.tokens if generated is None else tuple(generated)
    real = torch.ones(len(tokens), dtype=torch.bool)
    assistant = torch.tensor(request.assistant) if request.assistant is not None else None
    columns = [
        steered_at(positions, real, generated=generated is not None, assistant=assistant).tolist()
        for positions in sorted({steer.positions for steer in request.steers})
    ]
    return tuple(zip(tokens, zip(*columns, strict=True), strict=True)) if columns else tuple((t, ()) for t in tokens)
