"""The division of GPUs into MIG instances: plan a change, carry it out, keep it over a reboot."""
