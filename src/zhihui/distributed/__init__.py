"""Beyond one machine: encoding, mining and synthesis over the workers of a Ray cluster (extra `dist`)."""
