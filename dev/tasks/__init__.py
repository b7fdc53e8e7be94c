"""How the bundled tasks were made: the task families and the generator."""
