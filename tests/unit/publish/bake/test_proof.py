"""Which measurements prove a baked folder, and which do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from capvec.publish.bake.record import Baked, Proof

pytestmark = pytest.mark.unit

GOOD = Proof(
    conversations=4,
    positions=256,
    difference=1e-5,
    tolerance=1e-4,
    noise=1e-5,
    effect=3.0,
    tokens=64,
    tokens_equal=64,
    ties=0,
)


@pytest.mark.parametrize(
    ("measured", "parted", "reason"),
    [
        ({}, 0, None),
        ({"tokens_equal": 60, "ties": 1}, 1, None),
        ({"difference": 2e-4}, 0, "does not match"),
        ({"difference": float("nan")}, 0, "does not match"),
        ({"tokens_equal": 60}, 1, "does not match"),
        ({"effect": 1e-5}, 0, "nothing is proved"),
        ({"effect": float("nan")}, 0, "nothing is proved"),
    ],
)
@pytest.mark.usefixtures("torch")
def test_a_proof_needs_equal_logits_equal_tokens_and_a_steer_that_shows(measured, parted, reason):
    from capvec.publish.bake.proof import BakeMismatch, judge

    proof = replace(GOOD, **measured)
    if reason is None:
        judge(proof, parted)
    else:
        with pytest.raises(BakeMismatch, match=reason):
            judge(proof, parted)


def test_what_was_baked_goes_to_json_and_back():
    baked = Baked(
        model="pocket",
        revision=None,
        architecture="LlamaForCausalLM",
        op="ablate",
        direction="abc",
        direction_file="dir.pt",
        layers=(3,),
        alpha=None,
        alpha_unit="stored",
        stored_alphas=(),
        doses=(),
        changed=("x.bias",),
        needs_remote_code=False,
        dtype="bfloat16",
        rounding=0.001,
        proof=GOOD,
        versions={"torch": "2"},
    )
    assert Baked.from_json(baked.to_json()) == baked
