"""The agent: a loop that asks a model, runs its commands in a sandbox, and returns the results to it."""
