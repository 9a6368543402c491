"""Speculation: how proposals are drawn, drafted ahead, and accepted."""
