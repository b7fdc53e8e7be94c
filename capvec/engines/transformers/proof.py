"""Proof that a model is decoded rightly, made when it is loaded.

Replies are decoded with a cache, in batches whose rows are padded on the left. A model whose forward pass takes its
cache under another name, keeps state of its own, or counts positions in its own way then gives fluent, wrong replies
and no error. So a row of random tokens and a rendered conversation go through the `Decoder` that serves requests, and
their logits are compared with those of a forward pass over the same tokens that has no cache and no padding:

* *alone*: the random row, before the conversation joins it;
* *beside a row of another length*: both rows from then on;
* both again *steered*, at the middle layer, along a difference of two of the model's own residuals.

The tokens are dictated and not drawn. Both computations therefore see the same text, and neither the end of a reply nor
a tie between two tokens decides anything. Where the logits agree, so do the greedy tokens, up to such ties.

Logits agree where the root mean square of their difference is at most `ROUNDINGS` times that of rounding: how far the
uncached logits of the row move if the output of every block is rounded once more, up or down at random. What rounding
does depends on dtype, depth, weights and tokens, and this measures it on the model itself. A model in which it could
hide a wrong decode is refused too.

A model whose layers keep states is then asked whether it goes on from one (`goes_on_from_a_state`), and a model on a
CPU whether a step is the same in any number of threads (`same_in_any_threads`).

The conversation has the special tokens of the chat template. Residuals are often largest there, and overflow first; and
a token that was added to the tokenizer alone has no embedding. Both are refused before anything is compared.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from capvec.engines.transformers.caches import crop, has_states, new_cache
from capvec.engines.transformers.checkpoint import some_names
from capvec.engines.transformers.decode import Decoder, Request
from capvec.engines.transformers.hooks import accumulators, jitter, record, steer
from capvec.engines.transformers.loaded import (
    TALK,
    LoadedModel,
    cache_keyword,
    forward_uncached,
    read_on,
    refusing,
)
from capvec.engines.transformers.threads import FEW, computing_in
from capvec.errors import UsageError
from capvec.records import Reply
from capvec.steering import Steer

ROUNDINGS, ROUNDINGS_32 = 2.0, 32.0
"""In a dtype whose sums are taken in a finer one, and in float32, where every term of a sum is rounded. Of some 100
architectures decoded rightly, none was above 1 in the one and 4 in the other."""
LOGIT_ROUNDINGS = 2.0
"""The logits themselves are rounded too: so many roundings of their root mean square are no difference."""
NEGLIGIBLE, HIDDEN = 0.001, 0.5
"""Shares of the logits' spread: below the one, a difference is none (Nemotron-H limits its time steps in a prompt and
not afterwards, as its authors' code does); rounding above the other would hide a wrong decode."""

PROMPT, DRAWN = 5, (3, 2)
"""Random tokens of the first row, and tokens that each row then draws. A forward pass is most of the cost."""
STEPS_ALONE = 1
"""Decoding steps of the first row before the second one joins."""

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
BESIDE = "beside a row of another length"


@dataclass
class _Dictated:
    """A sampler that draws given tokens and keeps the logits."""

    tokens: list[int]
    logits: list[Tensor] = field(default_factory=list)

    def draw(self, logits: Tensor) -> int:
        """The next of the tokens."""
        self.logits.append(logits.clone())
        return self.tokens[len(self.logits) - 1]


@dataclass(frozen=True)
class _Row:
    """Tokens that are decoded, and the logits that they must have."""

    ids: Tensor
    """int `[1, positions]`."""
    drawn: int
    """How many of them are the reply's."""
    logits: Tensor
    """Of every position, without a cache: float32 `[positions, vocab]`."""
    residuals: list[Tensor]
    """Of the last position: one for each block, `[d_model]`."""
    allowed: float
    """How far logits may be apart, as a root mean square."""

    @property
    def prompt(self) -> tuple[int, ...]:
        return tuple(self.ids[0, : -self.drawn].tolist())

    @property
    def reply(self) -> list[int]:
        return list(self.ids[0, -self.drawn :].tolist())


@torch.inference_mode()
def check_decoding(loaded: LoadedModel) -> None:
    """Check that decoding gives the logits of an uncached forward pass; the module says how.

    Raises:
        UsageError: it gives others, or fails; the message says in which of the four cases.
    """
    cache_keyword(loaded.model)
    usual, talk = _random_tokens(loaded), _rendered_tokens(loaded)
    prompts = usual[:PROMPT], talk[-(loaded.context_length - DRAWN[1]) :]
    drawn = usual[PROMPT:], usual[: DRAWN[1]]
    rows = [_row(loaded, prompt + reply, len(reply)) for prompt, reply in zip(prompts, drawn, strict=True)]
    _check(loaded, rows)
    layer = loaded.n_layers // 2
    steers, vectors = (Steer(layer, "proof", 1.0),), (rows[0].residuals[layer] - rows[1].residuals[layer],)
    steered = []
    for row in rows:
        real = torch.ones_like(row.ids, dtype=torch.bool)
        with (
            refusing(loaded.model, "without a cache, steered"),
            steer(loaded.path, [accumulators(steers, vectors)], real),
        ):
            steered.append(replace(row, logits=forward_uncached(loaded.model, row.ids)[0]))
    _check(loaded, steered, steers, vectors)


@torch.inference_mode()
def goes_on_from_a_state(loaded: LoadedModel) -> bool:
    """Whether a model whose layers keep states reads several tokens after a start, as it reads all of them at once.

    Some compute a prompt from an empty state, whatever the cache holds. Their starts are not reused.
    """
    cache = new_cache(loaded.model.config)
    if not has_states(cache):
        return False
    tokens = _random_tokens(loaded)
    row, half = _row(loaded, tokens, 1), len(tokens) // 2
    try:
        read_on(loaded.model, row.ids[:, :half], 0, cache)
        ways = (cache, crop(cache, half))
        apart = [
            _difference(read_on(loaded.model, row.ids[:, half:], half, one)[0, -1], row.logits[-1]) for one in ways
        ]
    except Exception:  # of the model's own code, which does not know such a pass
        return False
    return _rms(torch.stack(apart)) <= row.allowed


@torch.inference_mode()
def same_in_any_threads(loaded: LoadedModel) -> bool:
    """Whether a step on a CPU gives the same numbers, to the bit, in however many threads it is computed.

    The number may then be chosen step by step. Else a reply would depend on how many others there are.
    """
    every = torch.get_num_threads()
    if loaded.device.type != "cpu" or every == 1:
        return False
    ids = torch.tensor([_random_tokens(loaded)] * FEW)
    found = []
    try:
        for threads in {1, every - 1, every}:
            cache = new_cache(loaded.model.config)
            read_on(loaded.model, ids[:, :-1], 0, cache)
            with computing_in(threads):
                found.append(read_on(loaded.model, ids[:, -1:], ids.shape[1] - 1, cache))
    except Exception:  # of the model's own code, which does not know such a pass
        return False
    return all(torch.equal(found[0], other) for other in found[1:])


def _random_tokens(loaded: LoadedModel) -> list[int]:
    """The first row: random tokens that are no special ones."""
    special = {*loaded.tokenizer.added_tokens_decoder, *loaded.stop_ids}
    usual = [token for token in range(loaded.tokenizer.vocab_size) if token not in special]
    loaded.check_ids(usual)
    return random.Random(0).choices(usual, k=PROMPT + DRAWN[0])


def _rendered_tokens(loaded: LoadedModel) -> list[int]:
    """The prompt of the second row.

    Raises:
        UsageError: the model has no embedding for a token of it, or of the same with its thoughts switched otherwise.
    """
    rendered = [loaded.render(TALK, prompt=True, thinking=mode) for mode in loaded.thinking_modes]
    for ids in rendered:
        loaded.check_ids(ids)
    return rendered[0]


def _row(loaded: LoadedModel, tokens: list[int], drawn: int) -> _Row:
    """A row, with what an uncached forward pass gives for it.

    Raises:
        UsageError: logits that no token can be drawn from, or rounding so large that a wrong decode could pass.
    """
    ids = torch.tensor([tokens], device=loaded.device)
    last = torch.zeros_like(ids, dtype=torch.bool)
    last[:, -1] = True
    with refusing(loaded.model, "without a cache"), record(loaded.path, last) as residuals:
        logits = forward_uncached(loaded.model, ids)[0]
    unusable = ~logits.amax(-1).isfinite()
    if bool(unusable.any()):
        token = tokens[int(unusable.int().argmax())]
        raise UsageError(
            f"{type(loaded.model).__name__} gives logits that are not finite in {loaded.dtype}, from the token "
            f"{loaded.tokenizer.decode([token])!r} on, since {_cause(loaded)}"
        )
    return _Row(ids, drawn, logits, [one[0] for one in residuals], _rounding(loaded, ids, logits))


def _cause(loaded: LoadedModel) -> str:
    """Why logits are not finite, and what to do."""
    weights = [(name, one) for name, one in loaded.model.named_parameters() if one.dtype in _FLOATS]
    if broken := [name for name, one in weights if not bool(one.isfinite().all())]:
        return f"{some_names(broken)} holds NaN or ∞; get the weights again, or use a dtype of a larger range"
    return "they overflow, though every weight is finite; use a dtype of a larger range"


def _rounding(loaded: LoadedModel, ids: Tensor, logits: Tensor) -> float:
    """How far logits may be apart, as a root mean square.

    Raises:
        UsageError: it is so far that a wrong decode could pass.
    """
    with refusing(loaded.model, "without a cache"), jitter(loaded.path.blocks):
        noise = _rms(_difference(forward_uncached(loaded.model, ids)[0], logits))
    finite, coarse = logits[logits.isfinite()], loaded.dtype != torch.float32
    spread, own = float(finite.std()), torch.finfo(loaded.dtype).eps * _rms(finite)
    explained = max((ROUNDINGS if coarse else ROUNDINGS_32) * noise, LOGIT_ROUNDINGS * own)
    if not explained <= HIDDEN * spread:
        raise UsageError(
            f"{type(loaded.model).__name__} cannot be shown to be decoded rightly: in {loaded.dtype}, rounding alone "
            f"moves its logits by {noise / spread:.2g} of their spread; use a dtype with more digits or another model"
        )
    return max(explained, NEGLIGIBLE * spread)


def _check(
    loaded: LoadedModel, rows: Sequence[_Row], steers: tuple[Steer, ...] = (), vectors: tuple[Tensor, ...] = ()
) -> None:
    """Decode both rows, the first one alone at first."""
    how = ", steered" if steers else ""
    samplers = [_Dictated(row.reply) for row in rows]
    waiting = iter(samplers)
    decoder = Decoder(loaded, prefix_bytes=0, sampler=lambda _request: next(waiting))
    replies: list[Future[Reply]] = []

    def add(row: _Row) -> None:
        replies.append(Future())
        decoder.add(Request(row.prompt, row.drawn, 0, 0.0, steers=steers, vectors=vectors), replies[-1])

    def compare(case: str) -> None:
        for row, sampler in zip(rows, samplers, strict=True):
            expected = row.logits[len(row.prompt) - 1 :]
            apart = [_difference(one, right) for one, right in zip(sampler.logits, expected, strict=False)]
            if apart:
                _refuse_unless_near(loaded, case + how, _rms(torch.stack(apart)), row.allowed)

    with refusing(loaded.model, "alone" + how):
        add(rows[0])
        for _ in range(STEPS_ALONE):
            decoder.step()
        if replies[0].done():  # with an exception: the reply is not finished yet
            replies[0].result()
    compare("alone")
    with refusing(loaded.model, BESIDE + how):
        add(rows[1])
        while decoder.rows:
            decoder.step()
        for reply in replies:
            reply.result(timeout=0)
    compare(BESIDE)


def _refuse_unless_near(loaded: LoadedModel, case: str, apart: float, allowed: float) -> None:
    if not apart <= allowed:
        raise UsageError(
            f"{type(loaded.model).__name__} is not decoded rightly by this engine: {case}, its logits are "
            f"{apart:.2g} away from those without a cache, where rounding explains {allowed:.2g}; use a model of "
            "another architecture (docs/guides/model.md says which)"
        )


def _difference(logits: Tensor, others: Tensor) -> Tensor:
    """0 where both are the same, infinite ones too."""
    return torch.where(logits == others, 0.0, logits - others)


def _rms(numbers: Tensor) -> float:
    return float(numbers.double().square().mean().sqrt())
