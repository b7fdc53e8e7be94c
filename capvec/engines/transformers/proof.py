"""Proof that a model is decoded rightly, made when it is loaded.

Replies are decoded with a cache, in batches whose rows are padded on the left. A model whose forward pass takes its
cache under another name, keeps state of its own, or counts positions in its own way then gives fluent, wrong replies
and no error. So two rows of random tokens, of unlike length, go through the `Decoder` that serves requests, and their
logits are compared with those of one forward pass over the same tokens that has no cache and no padding:

* *alone*: the first row, before the second one joins it;
* *beside a row of another length*: both rows from then on;
* both again *steered*, at the middle layer, along a difference of two of the model's own residuals.

The tokens are dictated and not drawn. Both computations therefore see the same text, and neither the end of a reply nor
a tie between two tokens decides anything. Where the logits agree, so do the greedy tokens, up to such ties.

Logits agree where the root mean square of their difference is at most `ROUNDINGS` times that of rounding: how far the
uncached logits move if the output of every block is rounded once more, up or down at random. What rounding does depends
on dtype, depth and weights, and this measures it on the model itself. A model in which it could hide a wrong decode is
refused too.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

import torch
from torch import Tensor

from capvec.engines.transformers.decode import Decoder, Request
from capvec.engines.transformers.hooks import accumulators, jitter, record, steer
from capvec.engines.transformers.loaded import LoadedModel, cache_keyword, forward_uncached, refusing
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

PROMPTS, DRAWN = (5, 9), (3, 2)
"""Tokens of the two prompts, and of each reply. A forward pass is most of the cost, and these take eleven."""
STEPS_ALONE = 1
"""Decoding steps of the first row before the second one joins."""

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


@torch.inference_mode()
def check_decoding(loaded: LoadedModel) -> None:
    """Check that decoding gives the logits of an uncached forward pass; the module says how.

    Raises:
        UsageError: it gives others, or fails; the message says in which of the four cases.
    """
    cache_keyword(loaded.model)
    ids, layer = _random_tokens(loaded), loaded.n_layers // 2
    with refusing(loaded.model, "without a cache"), record(loaded.path, _last(ids)) as residuals:
        plain = forward_uncached(loaded.model, ids)
    allowed = _rounding(loaded, ids, plain)
    _check(loaded, ids, plain, allowed)
    steers, vectors = (Steer(layer, "proof", 1.0),), (residuals[layer][0] - residuals[layer][1],)
    with (
        refusing(loaded.model, "without a cache, steered"),
        steer(loaded.path, [accumulators(steers, vectors) for _ in ids], torch.ones_like(ids, dtype=torch.bool)),
    ):
        steered = forward_uncached(loaded.model, ids)
    _check(loaded, ids, steered, allowed, steers, vectors)


def _random_tokens(loaded: LoadedModel) -> Tensor:
    """Two rows of random tokens that are no special ones, int `[2, positions]`."""
    special = {*loaded.tokenizer.added_tokens_decoder, *loaded.stop_ids}
    usual = torch.tensor([token for token in range(loaded.tokenizer.vocab_size) if token not in special])
    chosen = torch.randint(len(usual), (2, max(PROMPTS) + max(DRAWN)), generator=torch.Generator().manual_seed(0))
    return usual[chosen].to(loaded.device)


def _last(ids: Tensor) -> Tensor:
    chosen = torch.zeros_like(ids, dtype=torch.bool)
    chosen[:, -1] = True
    return chosen


def _rounding(loaded: LoadedModel, ids: Tensor, plain: Tensor) -> float:
    """How far logits may be apart, as a root mean square.

    Raises:
        UsageError: it is so far that a wrong decode could pass.
    """
    with refusing(loaded.model, "without a cache"), jitter(loaded.path.blocks):
        noise = _rms(_difference(forward_uncached(loaded.model, ids[:1]), plain[:1]))
    finite, coarse = plain[plain.isfinite()], loaded.dtype != torch.float32
    spread, own = float(finite.std()), torch.finfo(loaded.dtype).eps * _rms(finite)
    explained = max((ROUNDINGS if coarse else ROUNDINGS_32) * noise, LOGIT_ROUNDINGS * own)
    if not explained <= HIDDEN * spread:
        raise UsageError(
            f"{type(loaded.model).__name__} cannot be shown to be decoded rightly: in {loaded.dtype}, rounding alone "
            f"moves its logits by {noise / spread:.2g} of their spread; use a dtype with more digits or another model"
        )
    return max(explained, NEGLIGIBLE * spread)


def _check(
    loaded: LoadedModel,
    ids: Tensor,
    expected: Tensor,
    allowed: float,
    steers: tuple[Steer, ...] = (),
    vectors: tuple[Tensor, ...] = (),
) -> None:
    """Decode both rows, the first one alone at first; `expected` are the logits of every position."""
    how = ", steered" if steers else ""
    lines = ids.tolist()
    samplers = {length: _Dictated(line[length:]) for length, line in zip(PROMPTS, lines, strict=True)}
    decoder = Decoder(loaded, prefix_bytes=0, sampler=lambda request: samplers[len(request.tokens)])
    replies: list[Future[Reply]] = []

    def add(row: int) -> None:
        replies.append(Future())
        prompt = tuple(lines[row][: PROMPTS[row]])
        decoder.add(Request(prompt, DRAWN[row], 0, 0.0, steers=steers, vectors=vectors), replies[-1])

    def compare(case: str) -> None:
        apart = []
        for row, (length, sampler) in enumerate(samplers.items()):
            for step, logits in enumerate(sampler.logits):
                apart.append(_difference(logits, expected[row, length - 1 + step]))
        _refuse_unless_near(loaded, case + how, _rms(torch.stack(apart)), allowed)

    with refusing(loaded.model, "alone" + how):
        add(0)
        for _ in range(STEPS_ALONE):
            decoder.step()
        if replies[0].done():  # with an exception: the reply is not finished yet
            replies[0].result()
    compare("alone")
    with refusing(loaded.model, BESIDE + how):
        add(1)
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
