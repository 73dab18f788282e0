"""What can be found wrong with a workflow before a token is spent."""
