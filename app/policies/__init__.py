"""Versioned policies: the documents, their store, and the snapshot that decides."""
