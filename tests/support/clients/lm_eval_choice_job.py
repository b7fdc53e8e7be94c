"""lm-evaluation-harness (`local-completions`) on one served model: two questions by log-likelihood of their choices.

The tokens come from the server, so that no tokenizer is needed here. Prints the ids of replies, which it does not keep.
"""

import json
import os
import sys
from pathlib import Path

import lm_eval
from lm_eval.tasks import TaskManager

TASK = """\
task: capvec_choices
dataset_path: json
dataset_kwargs:
  data_files: {data}
test_split: train
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - metric: acc
  - metric: acc_norm
"""
QUESTIONS = [
    {"question": "The sky is", "choices": ["blue.", "a kind of fish."], "answer": 0},
    {"question": "Water freezes and turns into", "choices": ["bread and butter.", "ice."], "answer": 1},
]


def main() -> None:
    url, model = sys.argv[1:]
    folder = Path("lm-eval")
    folder.mkdir()
    data = folder / "questions.jsonl"
    data.write_text("".join(json.dumps(one) + "\n" for one in QUESTIONS))
    (folder / "capvec_choices.yaml").write_text(TASK.format(data=data.absolute()))
    token = os.environ["OPENAI_API_KEY"]
    found = lm_eval.simple_evaluate(
        model="local-completions",
        model_args={"model": model, "base_url": f"{url}/v1/completions", "auth_token": token, "max_retries": 1},
        tasks=["capvec_choices"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        log_samples=True,
    )
    samples = found["samples"]["capvec_choices"]
    told = {sample["doc_id"]: [float(one[0]) for one in sample["filtered_resps"]] for sample in samples}
    assert sorted(told) == [0, 1]
    Path("likelihoods.json").write_text(json.dumps([told[0], told[1]]))
    print(json.dumps([None] * sum(map(len, told.values()))))


main()
