"""The proof that the hooked model and the baked one give the same output, except for rounding.

Both run in float32 on the same conversations. Two things are compared: the logits of one pass over each conversation
and the hooked model's greedy reply to it, and the greedy replies themselves.

**Tolerance.** The edit makes the same writes as the hook, but adds and rounds in another order: for an addition after
the steered blocks, for an ablation at every write. Its effect is measured on this model under this steer: the hooked
model runs again, with each of those writes rounded once more, up or down at random (`jitter`). Sums of many terms err
by several roundings, so the tolerance is `MARGIN` times that *noise*, or times ε·max|logit| if that is more.

**Power.** A proof must be able to fail: the model alone, without hook and without edit, has to exceed the tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from capvec.agent.prompts import opening_messages
from capvec.agent.protocols import get_protocol
from capvec.engines.transformers.caches import new_cache
from capvec.engines.transformers.hooks import jitter
from capvec.engines.transformers.loaded import LoadedModel, forward
from capvec.errors import InfrastructureError
from capvec.publish.bake.record import Proof
from capvec.records import Message
from capvec.tasks.loader import load_tasks

MARGIN = 16.0
"""Tolerance over noise."""
REPLY = 16
"""Greedy tokens per conversation."""
KEPT = 64
"""Positions at the end of a conversation whose logits are compared; attention carries all others there."""
SHORT, LONG = 3, 12
"""Number of conversations with one instruction; number of instructions in the long conversation."""

Tokens = tuple[int, ...]
Hook = Callable[[int], AbstractContextManager[None]]
"""Number of positions of a forward pass → the context in which to run it."""


def no_hook(_positions: int) -> AbstractContextManager[None]:
    """The model alone."""
    return nullcontext()


class BakeMismatch(InfrastructureError):
    """The baked model differs from the hooked one by more than rounding."""


def conversations(loaded: LoadedModel, style: str) -> list[Tokens]:
    """Prompts of bundled tasks and one long conversation, in the model's chat template."""
    instructions = [task.instruction for task in load_tasks("full").tasks]
    chosen = [*instructions[:: len(instructions) // SHORT][:SHORT], "\n\n".join(instructions[:LONG])]
    protocol = get_protocol("bash-block")
    prompts: list[tuple[Message, ...]] = [opening_messages(text, protocol, style) for text in chosen]
    prompts[-1] = (*prompts[-1], *_turns(instructions[LONG : LONG + 2]))
    return [tuple(loaded.render(prompt, prompt=True)[-loaded.context_length + REPLY :]) for prompt in prompts]


def _turns(said: Sequence[str]) -> tuple[Message, ...]:
    return ({"role": "assistant", "content": said[0]}, {"role": "user", "content": said[1]})


@torch.inference_mode()
def reply(loaded: LoadedModel, prompt: Tokens, hook: Hook) -> Tokens:
    """Generate `REPLY` greedy tokens, one by one over a cache. The end of a turn does not end the reply."""
    cache = new_cache(loaded.model.config)
    step, tokens = prompt, Tokens()
    while len(tokens) < REPLY:
        with hook(len(step)):
            logits = forward(loaded.model, input_ids=torch.tensor([step], device=loaded.device), past_key_values=cache)
        step = (int(logits[0].argmax()),)
        tokens += step
    return tokens


@torch.inference_mode()
def one_pass(loaded: LoadedModel, prompt: Tokens, tokens: Tokens, hook: Hook) -> Tensor:
    """Logits of the last positions of a prompt with its reply, without a cache, float32 `[≤ KEPT, vocab]`.

    The tokens of a greedy reply are drawn from the last `REPLY` of them.
    """
    ids = torch.tensor([prompt + tokens[:-1]], device=loaded.device)
    with hook(ids.shape[1]):
        output = loaded.model(input_ids=ids, use_cache=False, logits_to_keep=KEPT)
    logits: Tensor = output.logits[0].float().cpu()
    return logits


@dataclass(frozen=True)
class Reference:
    """The output of the hooked model."""

    prompts: Sequence[Tokens]
    replies: Sequence[Tokens]
    logits: Sequence[Tensor]
    """Of one pass over each prompt with its reply, float32 `[≤ KEPT, vocab]`."""
    noise: float
    """See `Proof`."""
    effect: float
    """See `Proof`."""


def observe(loaded: LoadedModel, prompts: Sequence[Tokens], hook: Hook, rounded: Sequence[nn.Module]) -> Reference:
    """Run the source model with the hook, with hook and jitter, and alone.

    Args:
        loaded: the source, in float32.
        prompts: tokens of the conversations.
        hook: the steer.
        rounded: modules whose outputs the edit and the hook round differently.
    """

    @contextmanager
    def jittered(positions: int) -> Iterator[None]:
        with hook(positions), jitter(rounded):
            yield

    replies = [reply(loaded, prompt, hook) for prompt in prompts]
    hooked, again, plain = (
        [one_pass(loaded, prompt, tokens, by) for prompt, tokens in zip(prompts, replies, strict=True)]
        for by in (hook, jittered, no_hook)
    )
    return Reference(prompts, replies, hooked, furthest(hooked, again), furthest(hooked, plain))


def prove(reference: Reference, baked: LoadedModel) -> Proof:
    """Run the baked model on the same conversations, and compare it with the reference.

    Raises:
        BakeMismatch: as `judge`.
    """
    pairs = list(zip(reference.prompts, reference.replies, strict=True))
    theirs = [reply(baked, prompt, no_hook) for prompt, _ in pairs]
    logits = [one_pass(baked, prompt, tokens, no_hook) for prompt, tokens in pairs]
    spacing = torch.finfo(torch.float32).eps * max(float(one.abs().max()) for one in reference.logits)
    tolerance = MARGIN * max(reference.noise, spacing)
    shared = [_shared(ours, others) for (_, ours), others in zip(pairs, theirs, strict=True)]
    proof = Proof(
        conversations=len(pairs),
        positions=sum(len(one) for one in logits),
        difference=furthest(reference.logits, logits),
        tolerance=tolerance,
        noise=reference.noise,
        effect=reference.effect,
        tokens=REPLY * len(pairs),
        tokens_equal=sum(shared),
        ties=sum(_is_tie(one, at, tolerance) for one, at in zip(reference.logits, shared, strict=True)),
    )
    judge(proof, sum(at < REPLY for at in shared))
    return proof


def judge(proof: Proof, parted: int) -> None:
    """Accept or refuse a proof.

    Args:
        proof: the measurements.
        parted: number of conversations whose greedy replies differ.

    Raises:
        BakeMismatch: logits or replies differ by more than rounding, or the steer moves the logits so little that a
            folder without it would pass.
    """
    measured = (
        f"max |Δlogit| {proof.difference:.3g}, tolerance {proof.tolerance:.3g}, effect of the steer "
        f"{proof.effect:.3g}, {proof.tokens_equal} of {proof.tokens} greedy tokens equal"
    )
    if not proof.effect > proof.tolerance:
        raise BakeMismatch(
            f"nothing is proved: the steer moves the logits by no more than the tolerance ({measured}); "
            "use a larger --alpha, or another direction or layer"
        )
    if not proof.difference <= proof.tolerance or parted > proof.ties:
        raise BakeMismatch(f"the baked model does not match the hook ({measured}); the folder was removed")


def furthest(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """The largest |Δ| over pairs of tensors."""
    return max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))


def _shared(ours: Tokens, theirs: Tokens) -> int:
    """Number of tokens at the start that two replies share."""
    return next((at for at, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), len(ours))


def _is_tie(logits: Tensor, at: int, tolerance: float) -> bool:
    """Whether the two best logits of a reply's token `at` are so close that rounding decides between them."""
    if at == REPLY:
        return False
    best, second = logits[-REPLY:][at].topk(2).values
    return float(best - second) <= 2 * tolerance
