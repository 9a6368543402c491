"""The way from a request on the wire to a plan: parse, fill defaults, check, plan."""
