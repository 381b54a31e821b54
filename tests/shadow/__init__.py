"""The challenger beside real servers."""
