"""What both services share: connections, admission, listeners, health, metrics, audio, settings, shutdown."""
