"""Who may call a service, and how much each caller may take of it."""
