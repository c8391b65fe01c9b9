"""What the machine does now: sampled every few seconds, attributed to people, kept for a while, shown to Prometheus."""
