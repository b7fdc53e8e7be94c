"""`python -m dev.agent.plant --base BASE --start LEARNED --data FILE --out FOLDER`: plants the direction of skill.

After training on the demonstrations alone, the difference between the two mode lines of skill has little effect: added
to the residual of a prompt without a line, it hardly changes what the agent does. This second stage gives it an
effect. The direction is computed once, as a calibration computes it: the mean difference of the residual at the last
token of the opening prompt, expert minus novice, after block `LAYER`. Blocks up to that one are frozen, so that the
direction remains the difference between the two lines. The adapter of the later blocks learns that the demonstrator is
careful with the direction added, sloppy with it subtracted, and mixed without it, as before.

The output of block `LAYER` is computed once for each demonstration, so that training runs the later blocks only.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import peft
import torch
from torch import Tensor
from torch.nn import functional

from capvec.agent.prompts import opening_messages
from capvec.engines.transformers.hooks import hidden_of, watch
from dev.agent.demonstrators import EXPERT, NOVICE, PROTOCOL
from dev.agent.train import (
    IGNORED,
    Example,
    Row,
    batches,
    collate,
    content_hash,
    descend,
    encode,
    load,
    precision,
    read_demonstrations,
    save,
    schedule,
    write_log,
)

LAYER = 24


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the adapter, except the data, the first adapter and the device's rounding."""

    seed: int = 0
    layer: int = LAYER
    """Block after which the direction is added; the adapter of the later blocks is trained."""
    prompts: int = 60
    """Number of opening prompts to average the direction over."""
    demonstrations: int = 8_000
    """Number of demonstrations, drawn at random; those without a mode line are steered."""
    careful: float = 0.32
    """Share of careful demonstrators without a line of skill. It is lower than in the data, since sampling at
    temperature 0.7 favours the one careful way over the many sloppy ones."""
    epochs: int = 2
    batch_tokens: int = 8_192
    learning_rate: float = 6e-4
    warmup: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    strengths: tuple[float, float] = (0.75, 1.25)
    """Range of α, which is drawn uniformly for every batch."""
    contrast: float = 2.0
    """Weight of `Loss.pull`."""
    held_out: int = 200
    """Number of demonstrations kept for the validation losses."""
    max_tokens: int = 768
    """Length to which demonstrations are cut."""


@dataclass(frozen=True)
class Planted:
    """A demonstration as the later blocks receive it."""

    example: Example
    hidden: Tensor
    """Residual after the last frozen block, float32 `[tokens, d_model]`."""
    sign: int
    """+1 for a careful demonstrator, −1 for a sloppy one, 0 if there is a mode line, so that nothing is added."""

    @property
    def ids(self) -> list[int]:
        """Token ids."""
        return self.example.ids


@dataclass(frozen=True)
class Loss:
    """Losses of a batch, in nats divided by the number of learned tokens, except `contrast`."""

    plain: Tensor
    """Cross-entropy with nothing added."""
    steered: Tensor
    """Cross-entropy with ±αv added, with the demonstrator's sign; 0 if no demonstration is steered."""
    contrast: Tensor
    """How well the replies identify the sign: the mean over the steered demonstrations of
    −log σ(log p(replies | own sign) − log p(replies | other sign)), in nats per demonstration; log 2 at chance."""
    pull: Tensor
    """The sum of which `contrast` is the mean, divided by the number of learned tokens."""
    tokens: int
    """Number of learned tokens."""
    steered_rows: int


def lower(model: Any, batch: Sequence[Example], layer: int, device: str) -> list[Tensor]:
    """The residual of each example after block `layer`, float32 `[tokens, d_model]`."""
    decoder = model.get_base_model().model
    ids, mask, _ = collate(batch, device)
    with watch([decoder.layers[layer]]) as seen, torch.no_grad(), precision(device):
        decoder(input_ids=ids, attention_mask=mask)
    return [hidden[: len(example.ids)].clone() for hidden, example in zip(seen[0], batch, strict=True)]


def upper(model: Any, hidden: Tensor, layer: int) -> Tensor:
    """Run the later blocks and the final norm on right-padded residuals `[batch, tokens, d_model]`."""
    decoder = model.get_base_model().model
    positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
    rotary = decoder.rotary_emb(hidden, positions)
    for block in decoder.layers[layer + 1 :]:
        hidden = hidden_of(block(hidden, attention_mask=None, position_ids=positions, position_embeddings=rotary))
    return decoder.norm(hidden)  # type: ignore[no-any-return]


def log_likelihoods(model: Any, hidden: Tensor, labels: Tensor, layer: int) -> Tensor:
    """Log p of each row's learned tokens, in nats, `[batch]`. Logits are computed for these tokens only."""
    final = upper(model, hidden, layer)[:, :-1]
    target = labels[:, 1:]
    learned = target != IGNORED
    losses = functional.cross_entropy(
        model.get_base_model().lm_head(final[learned]).float(), target[learned], reduction="none"
    )
    return -losses.new_zeros(len(labels)).index_add(0, learned.nonzero()[:, 0], losses)


def loss_of(model: Any, batch: Sequence[Planted], direction: Tensor, recipe: Recipe, alpha: float, device: str) -> Loss:
    """The losses of a batch: every demonstration plain, and those without a mode line with both signs."""
    _, _, labels = collate([planted.example for planted in batch], device)
    hidden = torch.nn.utils.rnn.pad_sequence([planted.hidden for planted in batch], batch_first=True).to(device)
    signs = torch.tensor([planted.sign for planted in batch], device=device)
    steered = signs != 0
    shift = alpha * direction.to(device) * signs[steered, None, None]
    rows = torch.cat([hidden, hidden[steered] + shift, hidden[steered] - shift])
    found = log_likelihoods(model, rows, torch.cat([labels, labels[steered], labels[steered]]), recipe.layer)
    all_of, some_of = len(batch), int(steered.sum())
    plain, own, other = found[:all_of], found[all_of : all_of + some_of], found[all_of + some_of :]
    tokens = (labels[:, 1:] != IGNORED).sum(1)
    learned = int(tokens[steered].sum())
    apart = functional.softplus(other - own)
    zero = torch.zeros((), device=device)
    return Loss(
        plain=-plain.sum() / int(tokens.sum()),
        steered=-own.sum() / learned if learned else zero,
        contrast=apart.mean() if learned else zero,
        pull=apart.sum() / learned if learned else zero,
        tokens=int(tokens.sum()),
        steered_rows=int(steered.sum()),
    )


def draw(lines: Sequence[dict[str, Any]], recipe: Recipe, rng: Random) -> list[dict[str, Any]]:
    """Draw demonstrations at random: the data's share with a line of skill, and `careful` of the others careful."""
    skilled = [line for line in lines if line["mode"] in (EXPERT, NOVICE)]
    free = [line for line in lines if line["mode"] not in (EXPERT, NOVICE)]
    careful = [line for line in free if line["kind"] == "careful"]
    sloppy = [line for line in free if line["kind"] != "careful"]
    rest = round(recipe.demonstrations * len(free) / len(lines))
    with_care = round(rest * recipe.careful)
    drawn = rng.sample(skilled, recipe.demonstrations - rest)
    drawn += rng.sample(careful, with_care) + rng.sample(sloppy, rest - with_care)
    rng.shuffle(drawn)
    return drawn


def direction_of(model: Any, tokenizer: Any, lines: Sequence[dict[str, Any]], recipe: Recipe, device: str) -> Tensor:
    """Mean difference of the residual at the last token of the opening prompt, expert minus novice, `[d_model]`."""
    tasks = list(dict.fromkeys(line["messages"][1]["content"] for line in lines))[: recipe.prompts]
    ends = []
    for mode in (EXPERT, NOVICE):
        prompts = [
            tokenizer.apply_chat_template(
                opening_messages(task, PROTOCOL, "brief", mode),
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
            )
            for task in tasks
        ]
        hidden = [lower(model, [Example(list(ids), list(ids))], recipe.layer, device)[0] for ids in prompts]
        ends.append(torch.stack([states[-1] for states in hidden]).mean(0))
    return ends[0] - ends[1]


def prepare(model: Any, tokenizer: Any, lines: Sequence[dict[str, Any]], recipe: Recipe, device: str) -> list[Planted]:
    """Encode demonstrations and run the frozen blocks on them."""
    examples = [encode(tokenizer, line["messages"], recipe.max_tokens) for line in lines]
    signs = [0 if line["mode"] else 1 if line["kind"] == "careful" else -1 for line in lines]
    made = []
    for start in range(0, len(examples), 32):
        part = examples[start : start + 32]
        states = lower(model, part, recipe.layer, device)
        made += [Planted(e, h, s) for e, h, s in zip(part, states, signs[start : start + 32], strict=True)]
        if start % 1_600 == 0:
            print(f"{start} of {len(examples)} demonstrations through block {recipe.layer}", flush=True)
    return made


def plant(base: Path, start: Path, data: Path, out: Path, recipe: Recipe, device: str) -> None:
    """Train from the adapter in `start`. Write adapter, losses and facts into `out`."""
    started = time.monotonic()
    torch.manual_seed(recipe.seed)
    rng = Random(recipe.seed)
    tokenizer, bare = load(base, device)
    model: Any = peft.PeftModel.from_pretrained(bare, start, is_trainable=True, torch_dtype=torch.float32)
    lines = draw(read_demonstrations(data), recipe, rng)
    direction = direction_of(model, tokenizer, lines, recipe, device)
    print(f"‖v‖ = {float(direction.norm()):.1f} after block {recipe.layer}", flush=True)
    planted = prepare(model, tokenizer, lines, recipe, device)
    validation, training = planted[: recipe.held_out], planted[recipe.held_out :]
    optimizer = torch.optim.AdamW(
        _trainable(model, recipe.layer), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    plan = [batch for _ in range(recipe.epochs) for batch in batches(training, recipe.batch_tokens, rng)]
    log: list[Row] = []
    print(f"{len(training)} demonstrations, {len(plan)} steps", flush=True)
    for step, batch in enumerate(plan):
        with precision(device):
            loss = loss_of(model, batch, direction, recipe, rng.uniform(*recipe.strengths), device)
        whole = loss.plain + loss.steered + recipe.contrast * loss.pull
        descend(optimizer, whole, recipe.learning_rate * schedule(step, len(plan), recipe.warmup), recipe.clip)
        if step % 10 == 0 or step == len(plan) - 1:
            validating = step % 50 == 0 or step == len(plan) - 1
            row = {"step": step, **_rounded(loss)}
            row |= validate(model, validation, direction, recipe, device) if validating else dict.fromkeys(VALIDATED)
            row["seconds"] = round(time.monotonic() - started, 1)
            log.append(row)
            print(json.dumps(row), flush=True)
    save(model, out)
    facts = {
        "stage": "plant",
        "started_from": content_hash(start / "adapter_model.safetensors"),
        "recipe": asdict(recipe),
        "data_sha256": content_hash(data),
        "direction_norm": round(float(direction.norm()), 2),
        "steps": len(plan),
        "seconds": round(time.monotonic() - started, 1),
    }
    write_log(out / "training-plant", log, facts, device)


VALIDATED = ("validation_plain", "validation_steered", "validation_contrast")


@torch.no_grad()
def validate(model: Any, validation: Sequence[Planted], direction: Tensor, recipe: Recipe, device: str) -> Row:
    """The losses `VALIDATED` at α = 1, of the demonstrations that are not trained on."""
    plain, steered, contrast, tokens, rows = 0.0, 0.0, 0.0, 0, 0
    for batch in batches(validation, recipe.batch_tokens, Random(0)):
        loss = loss_of(model, batch, direction, recipe, 1.0, device)
        plain, tokens = plain + float(loss.plain) * loss.tokens, tokens + loss.tokens
        steered += float(loss.steered) * loss.steered_rows
        contrast += float(loss.contrast) * loss.steered_rows
        rows += loss.steered_rows
    values = (plain / tokens, steered / rows, contrast / rows)
    return {name: round(value, 4) for name, value in zip(VALIDATED, values, strict=True)}


def _trainable(model: Any, layer: int) -> Iterator[torch.nn.Parameter]:
    """The parameters of the adapter after block `layer`; all others are frozen."""
    above = [id(p) for block in model.get_base_model().model.layers[layer + 1 :] for p in block.parameters()]
    for parameter in model.parameters():
        if parameter.requires_grad and id(parameter) in above:
            yield parameter
        else:
            parameter.requires_grad_(False)


def _rounded(loss: Loss) -> Row:
    named = {"plain": loss.plain, "steered": loss.steered, "contrast": loss.contrast}
    return {name: round(float(value.detach()), 4) for name, value in named.items()}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m dev.agent.plant", description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="GGUF file, or folder of the converted model")
    parser.add_argument("--start", type=Path, required=True, help="folder that dev/agent/train.py wrote")
    parser.add_argument("--data", type=Path, required=True, help="file that dev.agent.demonstrations wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--seed", type=int, default=0, help="seed of the recipe (default: 0)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="device of torch")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    plant(options.base, options.start, options.data, options.out, Recipe(seed=options.seed), options.device)


if __name__ == "__main__":
    main()
