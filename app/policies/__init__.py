"""Policies as they are stored: versions that never change, one of them active, and the text they are written in."""
