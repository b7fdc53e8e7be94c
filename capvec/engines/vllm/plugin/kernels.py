"""The ops on a CUDA device: a program for each token, in Triton. `ops` has the same on the CPU, and what both mean.

A program that has nothing to do with its token ends at once: padding, and for `steer` a token that no steer moves. Most
registers are needed by what steers alone need, and with many registers few programs run beside each other. So of a step
with many tokens each kernel runs twice, once for what every token needs and once for its steers. All
arithmetic on residuals is in float64. What is measured is added to the slot's rows by atomic operations, whose order
differs from run to run; sums may differ in their last bits, extremes do not.

Sums over the coordinates that are needed together are taken together: each is a barrier for the program's warps.

A launch takes as long as the work of a step with few tokens. So each kernel begins before the one before it has ended
(`AHEAD`: programmatic dependent launch), reads what the host has put into the buffers, and then waits for it. No
program may end without that wait: the next kernel waits for this one alone.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from capvec.engines.vllm.layout import READINGS, SUMS, WATCHED
from capvec.engines.vllm.plugin import slots
from capvec.engines.vllm.plugin.buffers import Buffers

# Triton reads globals only if they are its constants.
_KIND, _DREW, _AGAIN = tl.constexpr(slots.KIND), tl.constexpr(slots.DREW), tl.constexpr(slots.AGAIN)
_CHOSEN, _SLOT = tl.constexpr(slots.CHOSEN), tl.constexpr(slots.SLOT_MASK)
_VECTOR, _WHERE = tl.constexpr(slots.VECTOR), tl.constexpr(slots.WHERE)
_COEFFICIENT, _WEIGHT = tl.constexpr(slots.COEFFICIENT), tl.constexpr(slots.WEIGHT)
_LENGTH, _INVERSE = tl.constexpr(slots.LENGTH), tl.constexpr(slots.INVERSE)
_KEEPS, _KEEPS_BIT = tl.constexpr(slots.KEEPS), tl.constexpr(3)
_READINGS, _SUMS, _WATCHED = tl.constexpr(len(READINGS)), tl.constexpr(len(SUMS)), tl.constexpr(len(WATCHED))
_FLOAT64 = tl.constexpr(1e-12)

FEW = 512
"""Tokens of a step up to which a kernel does all of its work at once: a launch costs as much as the work."""


@triton.jit
def _add_two(a, b, c, d):
    return a + c, b + d


@triton.jit
def _add_three(a, b, c, d, e, f):
    return a + d, b + e, c + f


@triton.jit
def _add_six(a, b, c, d, e, f, g, h, i, j, k, m):
    return a + g, b + h, c + i, d + j, e + k, f + m


@triton.jit
def _arrived(hidden, residual, at, inside):
    """The residual, rounded to its dtype."""
    one = tl.load(hidden + at, mask=inside, other=0.0)
    other = tl.load(residual + at, mask=inside, other=0.0)
    return (one.to(tl.float32) + other.to(tl.float32)).to(one.dtype)


@triton.jit
def _unit(bank, entry, site, sites, width, offsets, inside):
    """The direction d of an entry of the table, float64; zeros for a zero vector."""
    row = tl.load(entry + _VECTOR).to(tl.int64)
    length = tl.load(entry + _LENGTH)
    vector = tl.load(bank + (row * sites + site) * width + offsets, mask=inside, other=0.0).to(tl.float64)
    return vector * (1 / tl.where(length > 0, length, 1.0))


@triton.jit
def _applies(entry, kind):
    """Whether an entry of the table applies to a position of this kind."""
    where = tl.load(entry + _WHERE).to(tl.int32)
    return (tl.load(entry + _VECTOR) >= 0) & (((where >> kind) & 1) == 1)


@triton.jit
def _asked(entries, kind, STEERS: tl.constexpr, COLUMNS: tl.constexpr):
    """How many entries there are, whether any applies, moves the position, and keeps its norm."""
    count = 0
    applied = 0
    moved = 0
    kept = 0
    for number in tl.static_range(STEERS):
        entry = entries + number * COLUMNS
        count += (tl.load(entry + _VECTOR) >= 0).to(tl.int32)
        on = _applies(entry, kind).to(tl.int32)
        effect = (tl.load(entry + _COEFFICIENT) != 0) | (tl.load(entry + _WEIGHT) != 0)
        applied |= on
        moved |= on & effect.to(tl.int32)
        kept |= on & ((tl.load(entry + _WHERE).to(tl.int32) >> _KEEPS_BIT) & 1)
    return count, applied, moved, kept & moved


@triton.jit
def _moved(was, entries, kind, count, bank, site, sites, width, offsets, inside, COLUMNS: tl.constexpr):
    """The residual with what the steers add, before any norm is kept."""
    now = was
    for number in range(count):
        entry = entries + number * COLUMNS
        if _applies(entry, kind):
            unit = _unit(bank, entry, site, sites, width, offsets, inside)
            along = tl.load(entry + _COEFFICIENT) - tl.load(entry + _WEIGHT) * tl.sum(was * unit, axis=0)
            now += along * unit
    return now


@triton.jit
def _within(state, entries, count, bank, site, sites, width, offsets, inside, COLUMNS: tl.constexpr):
    """The part of a state within the span of the site's directions."""
    part = tl.zeros_like(state)
    for number in range(count):
        along = tl.sum(state * _unit(bank, entries + number * COLUMNS, site, sites, width, offsets, inside), axis=0)
        for other in range(count):
            entry = entries + other * COLUMNS
            part += tl.load(entry + _INVERSE + number) * along * _unit(bank, entry, site, sites, width, offsets, inside)
    return part


@triton.jit(do_not_specialize=["site"])
def _steer(
    hidden,
    residual,
    stash,
    tokens,
    table,
    bank,
    pools,
    pooled,
    counted,
    site,
    sites,
    width,
    EVERY: tl.constexpr,
    STEERED: tl.constexpr,
    STEERS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
    AHEAD: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    offsets = tl.arange(0, BLOCK)
    inside = offsets < width
    at = token * width + offsets
    packed = tl.load(tokens + token)
    slot = (packed & _SLOT).to(tl.int64)
    kind = (packed >> _KIND) & 3
    entries = table + (slot * sites + site) * STEERS * COLUMNS
    count, _, moves, keeps = _asked(entries, kind, STEERS, COLUMNS)
    if AHEAD:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    if EVERY:
        left = _arrived(hidden, residual, at, inside)
        tl.store(stash + at, left, mask=inside)
        if ((packed >> _CHOSEN) & 1) == 1:
            place = tl.load(pools + slot) * sites + site
            tl.atomic_add(pooled + place * width + offsets, left.to(tl.float64), mask=inside, sem="relaxed")
            tl.atomic_add(counted + place, 1.0, sem="relaxed")
    if STEERED:
        if slot == 0:
            return
        if moves == 0:
            return
        rounded = _arrived(hidden, residual, at, inside)
        was = rounded.to(tl.float64)
        now = _moved(was, entries, kind, count, bank, site, sites, width, offsets, inside, COLUMNS)
        if keeps == 1:
            length = tl.sqrt(tl.sum(now * now, axis=0))
            now = now * (tl.sqrt(tl.sum(was * was, axis=0)) / tl.where(length > 0, length, 1.0))
        tl.store(residual + at, now.to(rounded.dtype), mask=inside)
        tl.store(hidden + at, tl.zeros_like(rounded), mask=inside)


@triton.jit
def _least(at, column, value):
    """Keep the least; of a value that is no number, -∞."""
    tl.atomic_min(at + _SUMS + column, tl.where(value == value, value, float("-inf")), sem="relaxed")


@triton.jit
def _watch(own, packed, token_id, moves, moved):
    """Count the position at its site, and keep the largest move of one without a steer."""
    if ((packed >> _AGAIN) & 1) == 1:
        tl.atomic_add(own + 3, 1.0, sem="relaxed")
    else:
        tl.atomic_add(own, 1.0, sem="relaxed")
        tl.atomic_add(own + 4, token_id.to(tl.float64), sem="relaxed")
        if ((packed >> _DREW) & 1) == 1:
            tl.atomic_add(own + 1, 1.0, sem="relaxed")
        if moves == 1:
            tl.atomic_add(own + 2, 1.0, sem="relaxed")
    if moves == 0:
        leak = tl.sqrt(tl.sum(moved.to(tl.float64) * moved.to(tl.float64), axis=0))
        if leak != 0.0:
            tl.atomic_max(own + 5, tl.where(leak == leak, leak, float("inf")), sem="relaxed")


@triton.jit
def _rescaling(was, now, within):
    """S and q where a norm is kept: what the part of h outside the directions' span was multiplied by."""
    rest = was - within
    square, whole = tl.reduce((rest * rest, was * was), 0, _add_two)
    some = square > _FLOAT64 * whole
    q = tl.where(some, rest / tl.where(some, square, 1.0), 0.0)
    found = tl.sum(now * q, axis=0)
    return tl.where(some & (found > 0), found, 1.0), q


@triton.jit
def _expected(was, off, entries, kind, count, bank, site, sites, width, offsets, inside, COLUMNS: tl.constexpr):
    """What the steers make of h before any norm is kept, and the part of the move outside their span."""
    target = was
    beyond = off
    for number in range(count):
        entry = entries + number * COLUMNS
        unit = _unit(bank, entry, site, sites, width, offsets, inside)
        came, along = tl.reduce((was * unit, off * unit), 0, _add_two)
        if _applies(entry, kind):
            target += (tl.load(entry + _COEFFICIENT) - tl.load(entry + _WEIGHT) * came) * unit
        if count == 1:
            beyond -= tl.load(entry + _INVERSE) * along * unit
        else:
            for other in range(count):
                one = entries + other * COLUMNS
                weight = tl.load(one + _INVERSE + number) * along
                beyond -= weight * _unit(bank, one, site, sites, width, offsets, inside)
    if count > 1:  # a second time, since the inverse of nearly parallel directions is inexact
        beyond -= _within(beyond, entries, count, bank, site, sites, width, offsets, inside, COLUMNS)
    return target, beyond


@triton.jit
def _read(row, unit, was, now, target, scale, q, keeps, ambient, length, off_axis, weights, eps, again):
    """Add the readings of one steer to its row."""
    level, came, wanted, spread, most, fingerprint = tl.reduce(
        (now * unit, was * unit, (target - was) * unit, now * now * unit * unit, tl.abs(now * unit), unit * weights),
        0,
        _add_six,
    )
    level = level / scale
    shift = level - came
    if keeps == 1:
        crossed, squares, sizes = tl.reduce((now * now * q * unit, now * now * q * q, tl.abs(now * q)), 0, _add_three)
        spread += level * (level * squares - 2 * crossed)
        most += tl.abs(level) * sizes
    rounding = eps * tl.sqrt(tl.where(spread < 0, 0.0, spread)) / scale
    ratio = length / tl.where(ambient > 0, ambient, 1.0)
    tl.atomic_add(row, shift, sem="relaxed")
    tl.atomic_add(row + 1, level, sem="relaxed")
    tl.atomic_add(row + 2, ambient, sem="relaxed")
    tl.atomic_add(row + 3, rounding, sem="relaxed")
    tl.atomic_add(row + 4, 1.0, sem="relaxed")
    if again == 1:
        tl.atomic_add(row + 5, 1.0, sem="relaxed")
    _least(row, 0, shift)
    _least(row, 1, -shift)
    _least(row, 2, level)
    _least(row, 3, -level)
    _least(row, 4, ratio)
    _least(row, 5, -ratio)
    _least(row, 6, scale)
    _least(row, 7, -scale)
    _least(row, 8, -rounding)
    _least(row, 9, -(eps / 2 * most / scale))
    _least(row, 10, -tl.abs(shift - wanted))
    _least(row, 11, -off_axis)
    _least(row, 12, fingerprint)
    _least(row, 13, -fingerprint)


@triton.jit(do_not_specialize=["site"])
def _witness(
    hidden,
    residual,
    stash,
    tokens,
    ids,
    table,
    bank,
    weights,
    readings,
    watched,
    site,
    sites,
    width,
    eps,
    EVERY: tl.constexpr,
    STEERED: tl.constexpr,
    STEERS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
    AHEAD: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    packed = tl.load(tokens + token)
    slot = (packed & _SLOT).to(tl.int64)
    kind = (packed >> _KIND) & 3
    offsets = tl.arange(0, BLOCK)
    inside = offsets < width
    at = token * width + offsets
    place = slot * sites + site
    entries = table + place * STEERS * COLUMNS
    count, applied, moves, keeps = _asked(entries, kind, STEERS, COLUMNS)
    if AHEAD:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    if slot == 0:
        return
    if EVERY:
        left = tl.load(stash + at, mask=inside, other=0.0).to(tl.float32)
        moved = _arrived(hidden, residual, at, inside).to(tl.float32) - left
        _watch(watched + place * _WATCHED, packed, tl.load(ids + token), moves, moved)
    if not STEERED:
        return
    if applied == 0:
        return
    now = _arrived(hidden, residual, at, inside).to(tl.float64)
    was = tl.load(stash + at, mask=inside, other=0.0).to(tl.float64)
    scale = tl.full([], 1.0, tl.float64)
    q = tl.zeros_like(was)
    if keeps == 1:
        within = _within(was, entries, count, bank, site, sites, width, offsets, inside, COLUMNS)
        scale, q = _rescaling(was, now, within)
    target, beyond = _expected(
        was, now * (1 / scale) - was, entries, kind, count, bank, site, sites, width, offsets, inside, COLUMNS
    )
    ambient, length, off_axis = tl.reduce((was * was, now * now, beyond * beyond), 0, _add_three)
    ambient, length, off_axis = tl.sqrt(ambient), tl.sqrt(length), tl.sqrt(off_axis)
    below = eps / 2 * length / scale + _FLOAT64 * ambient
    off_axis = off_axis / tl.where(below > 0, below, 1.0)
    weight = tl.load(weights + offsets, mask=inside, other=0.0)
    for number in range(count):
        if _applies(entries + number * COLUMNS, kind):
            unit = _unit(bank, entries + number * COLUMNS, site, sites, width, offsets, inside)
            row = readings + (place * STEERS + number) * _READINGS
            again = (packed >> _AGAIN) & 1
            _read(row, unit, was, now, target, scale, q, keeps, ambient, length, off_axis, weight, eps, again)


def _sizes(buffers: Buffers) -> dict[str, Any]:
    sizes = buffers.sizes
    block = triton.next_power_of_2(sizes.width)
    return {
        "STEERS": sizes.steers,
        "COLUMNS": slots.INVERSE + sizes.steers,
        "BLOCK": block,
        "num_warps": min(16, max(1, block // 512)),
        "AHEAD": _ahead(),
        "launch_pdl": _ahead(),
    }


@functools.cache
def _ahead() -> bool:
    """Whether the device can begin a kernel before the one before it has ended: compute capability 9.0 and later."""
    return torch.cuda.get_device_capability() >= (9, 0)


def _passes(buffers: Buffers, tokens: int, site: int) -> list[dict[str, bool]]:
    """What each launch for a step does. A graph that is being captured is for steps that are not known yet."""
    if tokens <= FEW:
        return [{"EVERY": True, "STEERED": True}]
    every, steered = {"EVERY": True, "STEERED": False}, {"EVERY": False, "STEERED": True}
    asked = buffers.steered[site] or torch.cuda.is_current_stream_capturing()
    return [every, steered] if asked else [every]


def steer(buffers: Buffers, hidden: Tensor, residual: Tensor, site: int) -> None:
    """`ops.steer` on a CUDA device."""
    if not len(hidden):
        return
    for does in _passes(buffers, len(hidden), site):
        _steer[len(hidden),](
            *(hidden, residual, buffers.stash, buffers.tokens, buffers.table, buffers.bank),
            *(buffers.pools, buffers.pooled, buffers.counted),
            *(site, buffers.sizes.sites, buffers.sizes.width),
            **does,
            **_sizes(buffers),
        )


def witness(buffers: Buffers, hidden: Tensor, residual: Tensor, site: int) -> None:
    """`ops.witness` on a CUDA device."""
    if not len(hidden):
        return
    for does in _passes(buffers, len(hidden), site):
        _witness[len(hidden),](
            *(hidden, residual, buffers.stash, buffers.tokens, buffers.ids, buffers.table, buffers.bank),
            *(buffers.weights, buffers.readings, buffers.watched, site, buffers.sizes.sites, buffers.sizes.width),
            torch.finfo(hidden.dtype).eps,
            **does,
            **_sizes(buffers),
        )
