"""What was found in a photograph, in the words of the tools that people label with: one file for each."""
