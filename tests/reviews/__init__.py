"""Reviews: what a person still has to decide."""
