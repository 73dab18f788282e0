"""What steps make of rows without asking anybody."""
