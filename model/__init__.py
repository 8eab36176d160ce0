"""World models: what generates."""
