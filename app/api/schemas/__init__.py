"""What goes over the wire, as models for the OpenAPI document and for validation."""
