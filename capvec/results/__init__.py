"""What came of a run: its folder, ledger, provenance, interim analyses and gates."""
