"""The named list of channels: who they are, whether they are served, and which tier each scope had when."""
