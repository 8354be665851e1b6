"""Words for given regions: one way of choosing them per file."""
