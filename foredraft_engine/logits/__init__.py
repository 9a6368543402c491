"""Logits processing: processors, warpers and watermarks, which turn logits into scores."""
