"""Pictures of label maps: arrays in, images out."""
