"""The ledger: the record of what was loaded and exported."""
