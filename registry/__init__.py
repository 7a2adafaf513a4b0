"""Versioned models: store, active pointer, history."""
