"""From a request on the wire to a plan: parse, fill defaults, check, plan."""
