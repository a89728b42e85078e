"""Home Assistant itself: its schemas and its core; needs an environment of its own (make test-ha)."""
