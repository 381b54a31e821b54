"""Changes that two persons make together: drafts of policies, break-glass, change requests, and who signs them.

The rules are in the database (migrations/sql/0003); this package asks it and reads what came of it.
"""
