"""Training and scoring of the turn classifier."""
