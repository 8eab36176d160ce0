"""Recording experience and training models on it."""
