"""What must always hold between the tables."""
