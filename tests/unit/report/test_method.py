"""What the report says of what was done."""

from dataclasses import replace

import pytest
from support.recorded_run import write_recorded
from support.results import results_of
from support.sections import sentences

from capvec.engines.protocol import ChatTemplateInfo
from capvec.records import TrialSpec
from capvec.report.method import attempts, method_section

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("kept", "said"), [(3, "3 attempts"), (1, "1 to 3 attempts"), (0, "0 to 3 attempts")])
def test_attempts_that_differ_between_tasks_and_configs_are_said_to(tmp_path, kept, said):
    plan = write_recorded(tmp_path / "r")
    task, config = plan.tasks[0].name, plan.configs[-1].name
    trials = [
        TrialSpec(each.name, other.name, attempt, 7)
        for each in plan.tasks
        for other in plan.configs
        for attempt in range(1, (kept if (each.name, other.name) == (task, config) else 3) + 1)
    ]
    assert attempts(replace(plan, trials=tuple(trials))) == said


def test_what_shaped_the_draws_is_said_and_nothing_where_nothing_did(tmp_path):
    plan = write_recorded(tmp_path / "r")
    assert ", temperature 0.7. " in f"{sentences(method_section(results_of(plan, [])))[0]} "
    settings = replace(plan.settings, top_p=0.9, top_k=20, presence_penalty=-0.5)
    said = sentences(method_section(results_of(replace(plan, settings=settings), [])))[0]
    assert ", temperature 0.7, top_p 0.9, top_k 20, presence_penalty -0.5." in said


def test_what_the_chat_template_did_otherwise_is_said_and_how_the_model_thought(tmp_path):
    plan = write_recorded(tmp_path / "r")
    assert len(sentences(method_section(results_of(plan, [])))) == 1
    settings = replace(plan.settings, thinking="on")
    found = replace(plan, settings=settings, template=ChatTemplateInfo(system="dropped", switch="enable_thinking"))
    assert sentences(method_section(results_of(found, [])))[1:] == [
        "The model's chat template drops the system prompt: it begins the first user message.",
        "Thinking is on (enable_thinking). Thoughts are in the trajectories and are no commands; the template does not "
        "give them back to the model.",
    ]


def test_what_tasks_were_allowed_is_said(tmp_path):
    plan = write_recorded(tmp_path / "r")
    settings = replace(plan.settings, allow_network=True, capabilities="default", keep_processes=True)
    said = sentences(method_section(results_of(replace(plan, settings=settings), [])))[1:]
    assert [
        option
        for line in said
        for option in ("--allow-network", "--capabilities default", "--keep-processes")
        if option in line
    ] == [
        "--allow-network",
        "--capabilities default",
        "--keep-processes",
    ]
