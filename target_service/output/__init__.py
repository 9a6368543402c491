"""What a sequence returns: its end, its text, its stream and its statistics."""
