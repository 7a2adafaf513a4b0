"""The extractor's training: from annotated conversation to a version."""
