"""The same stack on a Docker Swarm: its stack file, made from what `docker compose config` tells."""
