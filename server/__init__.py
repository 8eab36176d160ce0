"""The edges and the heart of a session: controls in, frames out."""
