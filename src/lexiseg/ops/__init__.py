"""Pure tensor mathematics: no module, no configuration, no input or output."""
