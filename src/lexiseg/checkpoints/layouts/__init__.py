"""Published checkpoint layouts of models beside the Cascade family, one file each."""
