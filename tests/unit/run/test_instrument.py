"""Waiting for what is out, with a limit; and the notice that all processes of a run read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capvec.errors import EngineUnavailable, SandboxUnavailable
from capvec.plan.options import parse_options
from capvec.run.instrument import LONGEST_PAUSE_S, STARTS, Absence, Instrument, Notice, Patience

pytestmark = pytest.mark.unit


class Clock:
    """Time that passes in `sleep` alone."""

    def __init__(self) -> None:
        self.now, self.pauses = 0.0, []

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.pauses.append(seconds)
        self.now += seconds


def instrument_of(clock, *, back_at, limit=120.0, notice=None):
    """One whose Docker is back at a time of the clock, and whose engine is there."""

    def docker():
        if clock.now < back_at:
            raise SandboxUnavailable(f"refused at {clock.now:.1f}")

    patience = Patience(docker_s=limit)
    checks = {"Docker": docker, "engine": lambda: None}
    return Instrument(checks, patience, notice or Notice(None), clock=lambda: clock.now, sleep=clock.sleep)


@given(st.floats(0.1, 100))
def test_a_trial_goes_on_soon_after_docker_is_back(back_at):
    clock = Clock()
    instrument = instrument_of(clock, back_at=back_at)
    wait = instrument.wait(instrument.absence())
    assert not wait.why_not
    assert back_at <= wait.seconds <= back_at + 1.5 * LONGEST_PAUSE_S + 1
    assert instrument.absence() is None
    assert len(clock.pauses) < 60  # it is asked now and then, not all the time


def test_two_workers_do_not_ask_at_the_same_moments():
    clocks = Clock(), Clock()
    for clock in clocks:
        instrument = instrument_of(clock, back_at=30)
        instrument.wait(instrument.absence())
    assert not set(clocks[0].pauses) & set(clocks[1].pauses)


@given(st.floats(0, 300))
def test_beyond_the_limit_the_run_stops_with_the_last_reason(limit):
    clock = Clock()
    instrument = instrument_of(clock, back_at=1e9, limit=limit)
    wait = instrument.wait(Absence("Docker", "refused at first"))
    assert wait.seconds == pytest.approx(limit)
    assert f"Docker did not come back within {limit:g} s: refused at" in wait.why_not
    assert instrument.notice.reason == wait.why_not


def test_what_one_process_waited_for_in_vain_no_other_waits_for(tmp_path):
    Notice(tmp_path / "stopped").post("Docker is gone\nfor good")
    clock = Clock()
    instrument = instrument_of(clock, back_at=1e9, notice=Notice(tmp_path / "stopped"))
    assert instrument.wait(Absence("Docker", "refused")).why_not == "Docker is gone for good"
    assert clock.now == 0


def test_the_first_reason_of_a_notice_stays(tmp_path):
    first, second = Notice(tmp_path / "stopped"), Notice(tmp_path / "stopped")
    assert not first.reason
    second.post("the engine ended twice")
    first.post("Docker did not come back")
    assert first.reason == second.reason == "the engine ended twice"
    assert [file.name for file in tmp_path.iterdir()] == ["stopped"]


def test_the_first_part_that_is_out_is_named():
    def out():
        raise EngineUnavailable("refused")

    instrument = Instrument({"Docker": lambda: None, "engine": out}, Patience(), Notice(None))
    assert instrument.absence() == Absence("engine", "refused")


def test_an_engine_of_the_runs_own_has_the_time_that_it_takes_to_start():
    options = parse_options({"max_outage": "30", "retries": "4"})
    patience = Patience.of(options, start_s=100)
    assert (patience.retries, patience.limit("Docker"), patience.limit("engine")) == (4, 30, 30 + STARTS * 100)
