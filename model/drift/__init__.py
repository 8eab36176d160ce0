"""Drift prevention: sampling orders, soft joins, discretized history, and the alternatives they are compared with."""
