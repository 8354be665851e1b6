"""The `lexiseg` command: parse, call, print."""
