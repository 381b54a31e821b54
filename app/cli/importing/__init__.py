"""Brings a book of applications to the gate: rows of a file, mapped to requests, sent, answered and accounted for."""
