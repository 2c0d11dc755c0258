"""When to look: sensors read, and ask for a run while the world differs from the ledger."""
