"""mini-swe-agent through litellm on one served model: a task of its loop in a local shell. Prints its replies' ids."""

import json
import os
import sys

from minisweagent.agents.default import DefaultAgent
from minisweagent.environments.local import LocalEnvironment
from minisweagent.models.litellm_model import LitellmModel
from minisweagent.models.litellm_textbased_model import LitellmTextbasedModel


def ids_of(model, url: str, name: str, **options) -> list[str]:
    kwargs = {"api_base": f"{url}/v1", "api_key": os.environ["OPENAI_API_KEY"], "max_tokens": 24, "temperature": 0.7}
    agent = DefaultAgent(
        model(model_name=f"openai/{name}", model_kwargs=kwargs, cost_tracking="ignore_errors", **options),
        LocalEnvironment(),
        system_template="You are an agent in a Linux shell. Reply with one bash block.",
        instance_template="{{task}}",
        step_limit=2,
    )
    agent.run("Create the file a.txt with the text hello.")
    responses = [message.get("extra", {}).get("response") for message in agent.messages]
    found = [response["id"] for response in responses if response]
    assert len(found) == agent.n_calls > 0
    return found


def main() -> None:
    url, name = sys.argv[1:]
    fence = r"```bash\s*\n(.*?)\n```"
    print(json.dumps(ids_of(LitellmTextbasedModel, url, name, action_regex=fence) + ids_of(LitellmModel, url, name)))


main()
