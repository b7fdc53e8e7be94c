"""Inspect on served models: three samples, two epochs, a tool. Prints what its logs say, as JSON.

Of each model: `accuracy`, as Inspect computed it; `solved`, sample/epoch → whether it was right; `ids` of its replies.
"""

import json
import os
import sys

from inspect_ai import Epochs, Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import tool


@tool
def bash():
    async def execute(command: str) -> str:
        """Run a command.

        Args:
            command: to run.
        """
        return f"ran {command}"

    return execute


def main() -> None:
    url, *models = sys.argv[1:]
    os.environ |= {"CAPVEC_BASE_URL": f"{url}/v1", "CAPVEC_API_KEY": os.environ["OPENAI_API_KEY"]}
    words = {"fence": "```", "hello": "hello", "never": "qqq"}
    samples = [
        Sample(id=name, input=f"Create the file {name}.txt with the text hello.", target=word)
        for name, word in words.items()
    ]
    task = Task(
        name="files",
        dataset=MemoryDataset(samples),
        solver=[use_tools(bash()), generate()],
        scorer=includes(),
        epochs=Epochs(2),
        message_limit=6,
    )
    told = {}
    for model in models:
        (log,) = eval(
            task,
            model=f"openai-api/capvec/{model}",
            model_args={"strict_tools": False},  # true by default, which no engine of capvec can promise
            max_tokens=24,
            temperature=0.7,
            display="none",
            log_dir="logs",
        )
        assert log.status == "success", log.error
        told[model] = {
            "accuracy": log.results.scores[0].metrics["accuracy"].value,
            "solved": {f"{one.id}/{one.epoch}": one.scores["includes"].value == "C" for one in log.samples},
            "ids": [event.call.response["id"] for one in log.samples for event in one.events if event.event == "model"],
        }
    print(json.dumps(told))


main()
