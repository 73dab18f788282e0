"""What steps that ask a model say to it, round by round, and what they make of its answers."""
