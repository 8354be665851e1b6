"""The file layouts in which CLIP weights travel, read and written without running anything from them."""
