"""The bounded processes in which everything is computed that a user wrote."""
