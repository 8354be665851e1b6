"""lexiseg: name things in words and get back which pixel is what."""

__version__ = "0.1.0"
