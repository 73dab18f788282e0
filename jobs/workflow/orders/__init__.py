"""The ordinary jobs that steps have made for what they ask."""
