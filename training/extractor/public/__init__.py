"""Public relation and pronoun sets, read as partly annotated examples of our own schema."""
