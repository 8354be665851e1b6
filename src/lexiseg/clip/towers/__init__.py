"""Image and text towers, frozen: one file per architecture, one contract."""
