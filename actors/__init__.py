"""The small models, the runtimes they run on, and where they live."""
