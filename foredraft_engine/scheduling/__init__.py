"""One device thread, and the jobs of many sequences that become its steps."""
