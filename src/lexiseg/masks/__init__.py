"""Class-agnostic masks: providers that make them, and the files that keep them."""
