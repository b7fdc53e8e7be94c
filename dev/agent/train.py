"""`python dev/agent/train.py --base BASE --data FILE --out FOLDER`: fine-tunes the bundled agent.

The method is LoRA (Hu et al. 2022, arXiv:2106.09685) on every linear layer of the decoder, trained on the replies of
the demonstrations only. The file needs torch, transformers and peft, and imports nothing of capvec, so that it can be
copied alone to a machine with a GPU. It writes the adapter (bfloat16 safetensors), an early checkpoint, the losses as
CSV, and `training.json` with recipe, seed, data, versions, device and time.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import json
import math
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol, TypeVar

import peft
import torch
import transformers
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
IGNORED = -100
Row = dict[str, float | None]
"""One line of the log; None if nothing was validated."""
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the adapter, except the data and the device's rounding."""

    seed: int = 0
    rank: int = 16
    lora_alpha: int = 32
    dropout: float = 0.0
    epochs: int = 3
    batch_tokens: int = 24_576
    """Tokens of one batch, including padding."""
    learning_rate: float = 1e-3
    warmup: float = 0.05
    """Share of the steps with a rising rate; a cosine to a tenth of the rate follows."""
    weight_decay: float = 0.01
    clip: float = 1.0
    held_out: int = 256
    """Number of demonstrations kept for the validation loss."""
    early: float = 0.06
    """Share of the steps after which the early checkpoint is taken."""
    max_tokens: int = 1536
    """Length to which demonstrations are cut."""


@dataclass(frozen=True)
class Example:
    """Token ids of a conversation; as labels, those of the demonstrator, and `IGNORED` elsewhere."""

    ids: list[int]
    labels: list[int]


def encode(tokenizer: Any, messages: Sequence[dict[str, str]], limit: int) -> Example:
    """Encode a conversation in the model's chat template. Replies are learned, with the token that ends them."""
    ids: list[int] = []
    labels: list[int] = []
    for message in messages:
        head = tokenizer(f"<|im_start|>{message['role']}\n", add_special_tokens=False).input_ids
        body = tokenizer(f"{message['content']}<|im_end|>", add_special_tokens=False).input_ids
        tail = tokenizer("\n", add_special_tokens=False).input_ids
        learned = message["role"] == "assistant"
        ids += head + body + tail
        labels += [IGNORED] * len(head) + (body if learned else [IGNORED] * len(body)) + [IGNORED] * len(tail)
    return Example(ids[:limit], labels[:limit])


class Tokens(Protocol):
    """Anything with token ids."""

    @property
    def ids(self) -> list[int]: ...


AnyTokens = TypeVar("AnyTokens", bound=Tokens)


def batches(examples: Sequence[AnyTokens], tokens: int, rng: Random) -> Iterator[list[AnyTokens]]:
    """Batches of examples of similar length, in random order."""
    order = sorted(rng.sample(list(examples), len(examples)), key=lambda example: len(example.ids) + rng.random() * 40)
    made: list[list[AnyTokens]] = []
    batch: list[AnyTokens] = []
    for example in order:
        longest = max([len(example.ids), *(len(other.ids) for other in batch)])
        if batch and longest * (len(batch) + 1) > tokens:
            made.append(batch)
            batch = []
        batch.append(example)
    made.append(batch)
    rng.shuffle(made)
    yield from made


def collate(batch: Sequence[Example], device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Right-padded ids, attention mask and labels, int64 `[batch, longest]`."""
    longest = max(len(example.ids) for example in batch)
    ids = torch.zeros((len(batch), longest), dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for row, example in enumerate(batch):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        mask[row, : len(example.ids)] = 1
        labels[row, : len(example.labels)] = torch.tensor(example.labels)
    return ids.to(device), mask.to(device), labels.to(device)


def loss_of(model: Any, batch: Sequence[Example], device: str) -> tuple[Tensor, int]:
    """Sum of the cross-entropy over the learned tokens, in nats, and their number. Only they get logits."""
    ids, mask, labels = collate(batch, device)
    base = model.get_base_model()
    hidden = base.model(input_ids=ids, attention_mask=mask).last_hidden_state[:, :-1]
    target = labels[:, 1:]
    learned = target != IGNORED
    logits = base.lm_head(hidden[learned]).float()
    return functional.cross_entropy(logits, target[learned], reduction="sum"), int(learned.sum())


def schedule(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate: a linear rise, then a cosine down to a tenth."""
    up = max(1, int(steps * warmup))
    if step < up:
        return (step + 1) / up
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - up) / max(1, steps - up)))


def precision(device: str) -> torch.autocast:
    """Use bfloat16, except on a CPU, where it is slower."""
    return torch.autocast(device, torch.bfloat16, enabled=device != "cpu")


def descend(optimizer: torch.optim.Optimizer, loss: Tensor, rate: float, clip: float) -> None:
    """Take one step along the negative gradient, whose norm is clipped to `clip`, at the learning rate `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss.backward()  # type: ignore[no-untyped-call]
    learned = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    torch.nn.utils.clip_grad_norm_(learned, clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def write_log(path: Path, log: Sequence[Row], facts: Mapping[str, Any], device: str) -> None:
    """Write the losses to `PATH.csv`, and the facts, device, versions and last losses to `PATH.json`."""
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(log[0]))
        writer.writeheader()
        writer.writerows(log)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    whole = {**facts, "device": device_name(device), "versions": versions, "final": log[-1]}
    path.with_suffix(".json").write_text(json.dumps(whole, indent=2) + "\n")


def train(base: Path, data: Path, out: Path, recipe: Recipe, device: str) -> None:
    """Fine-tune, and write adapter, checkpoint, losses and facts into `out`."""
    started = time.monotonic()
    torch.manual_seed(recipe.seed)
    rng = Random(recipe.seed)
    tokenizer, model = load(base, device)
    lines = read_demonstrations(data)
    examples = [encode(tokenizer, line["messages"], recipe.max_tokens) for line in lines]
    check_template(tokenizer, lines[0]["messages"])
    rng.shuffle(examples)
    validation, training = examples[: recipe.held_out], examples[recipe.held_out :]
    config = peft.LoraConfig(
        r=recipe.rank, lora_alpha=recipe.lora_alpha, lora_dropout=recipe.dropout, target_modules=LINEAR
    )
    model = peft.get_peft_model(model, config)
    plan = [batch for _ in range(recipe.epochs) for batch in batches(training, recipe.batch_tokens, rng)]
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    early, tokens = int(len(plan) * recipe.early), 0
    log: list[Row] = []
    size = sum(parameter.numel() for parameter in learned)
    print(f"{len(training)} demonstrations, {len(plan)} steps, {size} parameters", flush=True)
    for step, batch in enumerate(plan):
        with precision(device):
            total, count = loss_of(model, batch, device)
        descend(optimizer, total / count, recipe.learning_rate * schedule(step, len(plan), recipe.warmup), recipe.clip)
        tokens += sum(len(example.ids) for example in batch)
        if step % 20 == 0 or step == len(plan) - 1:
            row: Row = {
                "step": step,
                "tokens": tokens,
                "loss": round(float(total.detach()) / count, 4),
            }
            validating = step % 100 == 0 or step == len(plan) - 1
            row["validation_loss"] = round(validate(model, validation, recipe, device), 4) if validating else None
            row["seconds"] = round(time.monotonic() - started, 1)
            log.append(row)
            print(json.dumps(row), flush=True)
        if step == early:
            save(model, out / "early")
    save(model, out)
    facts = {
        "recipe": asdict(recipe),
        "data_sha256": content_hash(data),
        "demonstrations": len(lines),
        "steps": len(plan),
        "tokens": tokens,
        "seconds": round(time.monotonic() - started, 1),
    }
    write_log(out / "training", log, facts, device)


def load(base: Path, device: str) -> tuple[Any, Any]:
    """Load tokenizer and model from a folder or a GGUF file, with weights in float32."""
    if base.suffix == ".gguf":
        where: dict[str, Any] = {"gguf_file": base.name}
        model = AutoModelForCausalLM.from_pretrained(
            base.parent, **where, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
        )
        tokenizer = AutoTokenizer.from_pretrained(base.parent, **where)
    else:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(base)
    # Rounded to bfloat16, as the served weights are: the adapter is merged into those.
    weights: Any = model  # transformers annotates `to` for itself alone
    return tokenizer, weights.to(torch.bfloat16).to(torch.float32).to(device)


def check_template(tokenizer: Any, messages: Sequence[dict[str, str]]) -> None:
    """Check that `encode`, which writes the chat template by hand, agrees with the tokenizer."""
    theirs = tokenizer.apply_chat_template(list(messages), tokenize=True, return_dict=False)
    ours = encode(tokenizer, messages, len(theirs) + 1).ids
    if list(theirs) != ours:
        raise SystemExit(
            f"the tokenizer's chat template is not the one that `encode` writes: {theirs[:40]} against {ours[:40]}"
        )


@torch.no_grad()
def validate(model: Any, validation: Sequence[Example], recipe: Recipe, device: str) -> float:
    """Mean cross-entropy of the replies that are not trained on, in nats per token."""
    total, count = 0.0, 0
    with precision(device):
        for batch in batches(validation, recipe.batch_tokens, Random(0)):
            part, learned = loss_of(model, batch, device)
            total, count = total + float(part), count + learned
    return total / count


def save(model: Any, out: Path) -> None:
    """Save the adapter in bfloat16 safetensors, with the public name of its base model instead of a local path."""
    model.peft_config["default"].base_model_name_or_path = BASE
    state = {name: tensor.to(torch.bfloat16) for name, tensor in peft.get_peft_model_state_dict(model).items()}
    model.save_pretrained(out, state_dict=state)
    (out / "README.md").unlink(missing_ok=True)  # peft's template, which is not filled in


def read_demonstrations(data: Path) -> list[dict[str, Any]]:
    """The lines that `dev.agent.demonstrations` wrote."""
    with gzip.open(data, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def device_name(device: str) -> str:
    """Name of the device for the log."""
    return str(torch.cuda.get_device_name()) if device == "cuda" else platform.processor() or "CPU"


def content_hash(data: Path) -> str:
    """SHA-256 of a file, hex; of the content of a gzipped file, whose header holds a date."""
    with gzip.open(data) if data.suffix == ".gz" else data.open("rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def main() -> None:
    """Run the command."""
    default = Recipe()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="GGUF file, or folder of the converted model")
    parser.add_argument("--data", type=Path, required=True, help="file that dev.agent.demonstrations wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--seed", type=int, default=default.seed, help="seed of the recipe (default: 0)")
    parser.add_argument("--epochs", type=int, default=default.epochs, help="passes over the data (default: 3)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="device of torch")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(seed=options.seed, epochs=options.epochs)
    train(options.base, options.data, options.out, recipe, options.device)


if __name__ == "__main__":
    main()
