"""From rows to results: tables, figures, statistics, claims, the ledger, progress on the screen."""
