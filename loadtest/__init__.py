"""The load test: simulated people who speak to the stack, listen to it, and check every answer."""
