"""Tests of what the outbox promises, whatever breaks."""
