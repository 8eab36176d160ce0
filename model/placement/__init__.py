"""Where a large model's weights live, decided before any is read: what it needs, what there is, and what fits."""
