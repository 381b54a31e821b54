"""What tests stand on: a real PostgreSQL, clean databases, and real server processes."""
