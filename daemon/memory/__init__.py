"""What is remembered: journal, context-sync queue, facts and the two graphs."""
