"""lm-evaluation-harness (`local-chat-completions`) on one served model: a task of two questions. Prints how many."""

import json
import sys
from pathlib import Path

import lm_eval
from lm_eval.tasks import TaskManager

TASK = """\
task: capvec_files
dataset_path: json
dataset_kwargs:
  data_files: {data}
test_split: train
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  until: ["STOP"]
  max_gen_toks: 8
metric_list:
  - metric: exact_match
"""


def main() -> None:
    url, model = sys.argv[1:]
    folder = Path("lm-eval")
    folder.mkdir()
    data = folder / "questions.jsonl"
    questions = [{"question": f"Create the file {name}.txt.", "answer": "ok"} for name in "ab"]
    data.write_text("".join(json.dumps(one) + "\n" for one in questions))
    (folder / "capvec_files.yaml").write_text(TASK.format(data=data.absolute()))
    found = lm_eval.simple_evaluate(
        model="local-chat-completions",
        model_args={"model": model, "base_url": f"{url}/v1/chat/completions", "num_concurrent": 2, "max_retries": 1},
        tasks=["capvec_files"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        apply_chat_template=True,
    )
    assert found["n-samples"]["capvec_files"]["effective"] == 2
    print(json.dumps([None] * 2))


main()
