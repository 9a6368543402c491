"""Proposals: how they are drawn, drafted ahead, and accepted."""
