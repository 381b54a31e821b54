"""PostgreSQL: connections, tables, roles and the schema's version."""
