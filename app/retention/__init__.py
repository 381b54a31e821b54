"""How long the log keeps what, who may stop its removal, and how a person's data leaves it."""
