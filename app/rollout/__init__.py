"""What a worker decides from, and how a change reaches every worker."""
