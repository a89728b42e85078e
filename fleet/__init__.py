"""Many devices: light simulated ones for load tests, and the collector that writes their steps into PostgreSQL."""
