"""The hot path: from the bytes of a request to a decision that is durable."""
