"""The agent: a loop that asks a model, runs what it says in a sandbox, and tells it what happened."""
