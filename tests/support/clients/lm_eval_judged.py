"""lm-evaluation-harness on served models, by its command line: six questions, samples logged. Prints its own scores."""

import json
import os
import subprocess
import sys
from pathlib import Path

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
  max_gen_toks: 24
filter_list:
  - name: first-word
    filter:
      - function: regex
        regex_pattern: "(command|bash)"
      - function: take_first
metric_list:
  - metric: exact_match
"""


def main() -> None:
    url, *models = sys.argv[1:]
    folder = Path("task").absolute()
    folder.mkdir()
    answers = ["command", "zsh", "command", "python", "command", "bash"]
    lines = [{"question": f"Create the file {number}.txt.", "answer": answer} for number, answer in enumerate(answers)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    (folder / "capvec_files.yaml").write_text(TASK.format(data=folder / "questions.jsonl"))
    scores = {}
    for model in models:
        options = f"model={model},base_url={url}/v1/chat/completions,num_concurrent=2,max_retries=1"
        command = [sys.executable, "-m", "lm_eval", "run", "--model", "local-chat-completions", "--model_args", options]
        command += ["--tasks", "capvec_files", "--include_path", str(folder), "--apply_chat_template"]
        command += ["--log_samples", "--output_path", f"out/{model}"]
        subprocess.run(command, check=True, stdout=sys.stderr, env=os.environ)
        (found,) = Path("out", model).rglob("results_*.json")
        scores[model] = json.loads(found.read_text())["results"]["capvec_files"]["exact_match,first-word"]
    print(json.dumps(scores))


main()
