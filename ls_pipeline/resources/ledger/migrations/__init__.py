"""The ledger's schemas, each made of the one before."""
