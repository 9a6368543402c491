"""Scheduling: how the jobs of many sequences become the steps of one device thread."""
