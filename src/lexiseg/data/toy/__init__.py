"""The toy world: rendered scenes of named shapes on named grounds, with exact masks."""
