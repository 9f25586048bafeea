"""What was asked for, layer over layer, and what that means."""
