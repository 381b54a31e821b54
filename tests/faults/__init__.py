"""Runs that break things under load and then prove that nothing was lost: `make faults`."""
