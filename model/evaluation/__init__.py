"""Measuring what a world model does: drift, revisits, control and retrieval."""
