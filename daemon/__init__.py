"""The process: command line, socket, orchestrator, memory, metrics."""
