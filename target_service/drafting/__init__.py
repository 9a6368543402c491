"""Where the proposal of a round comes from, and how long it is."""
