"""The `openai` package on one served model: plain, streaming and with tools. Prints the ids of its replies as JSON."""

import json
import sys

from openai import OpenAI

TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


def main() -> None:
    url, model = sys.argv[1:]
    client = OpenAI(base_url=f"{url}/v1", max_retries=0)
    assert model in [one.id for one in client.models.list()]
    talk = [{"role": "user", "content": "Create the file a.txt."}]
    plain = client.chat.completions.create(model=model, messages=talk, max_tokens=8, seed=1, user="me")
    assert plain.usage.completion_tokens <= 8
    pieces = list(
        client.chat.completions.create(
            model=model, messages=talk, max_tokens=8, seed=1, stream=True, stream_options={"include_usage": True}
        )
    )
    said = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert said == plain.choices[0].message.content
    assert pieces[-1].usage.completion_tokens == plain.usage.completion_tokens
    choice = {"type": "function", "function": {"name": "add"}}
    tools = client.chat.completions.create(model=model, messages=talk, max_tokens=8, tools=[TOOL], tool_choice=choice)
    assert tools.choices[0].message.tool_calls or "add" in tools.choices[0].message.content
    text = client.completions.create(model=model, prompt="Create", max_tokens=4)
    print(json.dumps([plain.id, pieces[0].id, tools.id, text.id]))


main()
