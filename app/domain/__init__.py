"""The rules of the gate: pure functions over immutable values. Standard library only: no I/O, clock or randomness."""
