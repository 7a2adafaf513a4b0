"""From data to a registered model version; never promotes."""
