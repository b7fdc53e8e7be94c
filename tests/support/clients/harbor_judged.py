"""A job of Harbor on served models: two tasks in Docker containers. Prints what the job itself says, as JSON.

Its agent asks for one fenced command at a time, as mini-swe-agent does, and leaves an ATIF trajectory by Harbor's own
models. Harbor's terminal agents need tmux or a network in the task's image.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from harbor.agents.base import BaseAgent
from harbor.agents.capabilities import AgentCapabilities
from harbor.models.trajectories import Agent, FinalMetrics, Observation, ObservationResult, Step, Trajectory
from openai import OpenAI

STEPS = 3


class Loop(BaseAgent):
    """Three replies at most."""

    capabilities = AgentCapabilities(atif=True)

    @staticmethod
    def name():
        return "loop"

    def version(self):
        return "1"

    async def setup(self, environment):  # noqa: ARG002
        return

    async def run(self, instruction, environment, context):  # noqa: ARG002
        client = OpenAI(base_url=os.environ["CAPVEC_URL"], max_retries=0)
        model = self.model_name.rpartition("/")[2]
        talk = [
            {"role": "system", "content": "You are an agent in a Linux shell. Reply with one bash block."},
            {"role": "user", "content": instruction},
        ]
        steps = [
            Step(step_id=place, source=one["role"], message=one["content"]) for place, one in enumerate(talk, start=1)
        ]
        for _ in range(STEPS):
            answer = client.chat.completions.create(model=model, messages=talk, max_tokens=48, temperature=0.0)
            said = answer.choices[0].message.content or ""
            found = re.findall(r"```bash\n(.*?)```", said, re.DOTALL)
            observed = "Give one bash block."
            if len(found) == 1:
                done = await environment.exec(found[0], timeout_sec=30)
                observed = f"exit {done.return_code}\n{done.stdout or ''}{done.stderr or ''}"
            talk += [{"role": "assistant", "content": said}, {"role": "user", "content": observed}]
            result = ObservationResult(content=observed)
            steps.append(
                Step(
                    step_id=len(steps) + 1,
                    source="agent",
                    model_name=model,
                    message=said,
                    observation=Observation(results=[result]),
                    extra={"reply": answer.id},
                )
            )
        trajectory = Trajectory(
            session_id=self.session_id or "loop",
            agent=Agent(name="loop", version="1", model_name=model, extra={"protocol": "bash-block"}),
            steps=steps,
            final_metrics=FinalMetrics(total_steps=len(steps)),
        )
        (self.logs_dir / "trajectory.json").write_text(json.dumps(trajectory.to_json_dict()))


def main():
    url, tasks, *models = sys.argv[1:]
    os.environ |= {"CAPVEC_URL": f"{url}/v1", "PYTHONPATH": str(Path(__file__).parent)}
    named = [option for model in models for option in ("--model", f"capvec/{model}")]
    command = ["harbor", "run", "--path", tasks, "--agent", "harbor_judged:Loop", *named]
    command += ["--jobs-dir", "jobs", "--job-name", "both", "--n-concurrent", "2", "--yes", "--quiet"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    trials = [json.loads(file.read_text()) for file in sorted(Path("jobs/both").glob("*/result.json"))]
    print(
        json.dumps(
            {
                "job": json.loads(Path("jobs/both/result.json").read_text()),
                "trials": [
                    {
                        "task": one["task_name"],
                        "model": one["agent_info"]["model_info"]["name"],
                        "rewards": (one["verifier_result"] or {}).get("rewards"),
                        "exception": one["exception_info"],
                    }
                    for one in trials
                ],
                "ids": [
                    step["extra"]["reply"]
                    for file in sorted(Path("jobs/both").glob("*/agent/trajectory.json"))
                    for step in json.loads(file.read_text())["steps"]
                    if step["source"] == "agent"
                ],
            }
        )
    )


if __name__ == "__main__":
    main()
