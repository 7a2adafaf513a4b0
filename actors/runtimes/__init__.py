"""How weights are run."""
