"""What of a run or of a paper can be done again: nine variables, filled from a run or read from a document."""
