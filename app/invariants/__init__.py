"""What must always hold between the tables, proven from what is stored: see docs/operations.md."""
