"""Telling originators: the outbox as it is read, webhooks, and their delivery."""
