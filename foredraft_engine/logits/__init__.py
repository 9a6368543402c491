"""From logits to scores: processors, warpers and watermarks, as functions of the tokens."""
