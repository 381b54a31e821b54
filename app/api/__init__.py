"""The HTTP edge: routes, schemas, who may call what, and problems instead of errors."""
