"""The durable decision log: no log, no decision."""
