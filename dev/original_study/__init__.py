"""The original study, rebuilt with the bundled agent."""
