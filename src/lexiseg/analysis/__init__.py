"""Looking inside towers: how alike blocks and patches are."""
