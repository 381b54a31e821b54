"""What a person still has to decide: the queue, and what reviewers make of it."""
