"""mini-swe-agent on served models, graded by SWE-bench's own functions. Prints its reports and the ids of the replies.

The instances are small files to make, not repositories: SWE-bench's images cannot be had everywhere. What a test found
in the working directory stands in a log of pytest, from which `get_eval_report` and `make_run_report` grade.
"""

import json
import os
import sys
from pathlib import Path

from minisweagent.agents.default import DefaultAgent
from minisweagent.environments.local import LocalEnvironment
from minisweagent.models.litellm_textbased_model import LitellmTextbasedModel
from minisweagent.run.benchmarks.swebench import update_preds_file
from swebench.harness.constants import END_TEST_OUTPUT, RUN_EVALUATION_LOG_DIR, START_TEST_OUTPUT
from swebench.harness.grading import get_eval_report
from swebench.harness.reporting import make_run_report
from swebench.types import TestSpec

TASKS = {
    "files-1": ("Write the line 'hello' to the new file /app/a.txt.", "a.txt"),
    "files-2": ("Make the directory /app/b.", "b"),
    "files-3": ("Write the line 'hello' to the new file /app/c.txt.", "never.txt"),
    "files-4": ("Who are you?", "d"),
}


class Folder(LocalEnvironment):
    """A local shell in which `/app`, where the bundled agent works, is the working directory."""

    def execute(self, action, cwd="", **options):
        command = action["command"].replace("/app", self.config.cwd)
        return super().execute({**action, "command": command}, cwd, **options)


def attempt(url: str, name: str, instance: str, folder: Path) -> tuple[str, bool, list[str]]:
    """What was made, whether the test passes, and the ids of the replies."""
    task, wanted = TASKS[instance]
    work = (folder / "work" / instance).absolute()
    work.mkdir(parents=True)
    kwargs = {"api_base": f"{url}/v1", "api_key": os.environ["OPENAI_API_KEY"], "max_tokens": 48, "temperature": 0}
    agent = DefaultAgent(
        LitellmTextbasedModel(
            model_name=f"openai/{name}",
            model_kwargs=kwargs,
            cost_tracking="ignore_errors",
            action_regex=r"```bash\s*\n(.*?)\n```",
        ),
        Folder(cwd=str(work)),
        system_template="You are an agent in a Linux shell. Reply with one bash block.",
        instance_template="{{task}}",
        step_limit=3,
        output_path=folder / "runs" / instance / f"{instance}.traj.json",
    )
    agent.run(task)
    extras = [message.get("extra", {}) for message in agent.messages]
    ids = [extra["response"]["id"] for extra in extras if "response" in extra]
    assert len(ids) == agent.n_calls
    return " ".join(sorted(path.name for path in work.iterdir())), (work / wanted).exists(), ids


def main() -> None:
    url, *models = sys.argv[1:]
    told = {}
    for name in models:
        folder, ids, predictions = Path(name), [], folder_predictions(name)
        for instance in TASKS:
            patch, passes, found = attempt(url, name, instance, folder)
            ids += found
            update_preds_file(predictions, instance, name, patch)
            grade(name, instance, patch, passes)
        made = json.loads(predictions.read_text())
        dataset = [{"instance_id": instance} for instance in (*TASKS, "files-5")]  # which nobody attempted
        report = make_run_report(made, dataset, "run", report_dir=str(folder / "runs"))
        told[name] = {"report": json.loads(report.read_text()), "ids": ids}
    print(json.dumps(told))


def folder_predictions(name: str) -> Path:
    path = Path(name) / "runs" / "preds.json"
    path.parent.mkdir(parents=True)
    return path


def grade(name: str, instance: str, patch: str, passes: bool) -> None:
    """Write the report of an instance, as SWE-bench's run does, from the log of its test."""
    logs = RUN_EVALUATION_LOG_DIR / "run" / name / instance
    logs.mkdir(parents=True)
    line = f"{'PASSED' if passes else 'FAILED'} tests/test_files.py::test_made"
    (logs / "test_output.txt").write_text(f"{START_TEST_OUTPUT}\n{line}\n{END_TEST_OUTPUT}\n")
    spec = TestSpec(
        instance, "none", [], "files", "1", ["tests/test_files.py::test_made"], [], "parse_log_pytest", "pass_and_fail"
    )
    prediction = {"instance_id": instance, "model_name_or_path": name, "model_patch": patch}
    found = get_eval_report(spec, prediction, str(logs / "test_output.txt"), include_tests_status=True)
    (logs / "report.json").write_text(json.dumps(found))


main()
