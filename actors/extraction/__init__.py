"""What the extractor and its training share: how a turn becomes tokens, and scores become an extraction."""
