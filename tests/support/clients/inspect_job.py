"""Inspect (`openai-api/capvec/…`) on one served model: two samples. Prints the ids of its replies as JSON."""

import json
import os
import sys

from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate


def main() -> None:
    url, model = sys.argv[1:]
    os.environ |= {"CAPVEC_BASE_URL": f"{url}/v1", "CAPVEC_API_KEY": os.environ["OPENAI_API_KEY"]}
    samples = [Sample(input=f"Create the file {name}.txt.", target="bash") for name in "ab"]
    task = Task(dataset=MemoryDataset(samples), solver=generate(), scorer=includes())
    (log,) = eval(
        task, model=f"openai-api/capvec/{model}", max_tokens=8, temperature=0.7, display="none", log_dir="inspect-logs"
    )
    assert log.status == "success", log.error
    print(
        json.dumps(
            [event.call.response["id"] for sample in log.samples for event in sample.events if event.event == "model"]
        )
    )


main()
