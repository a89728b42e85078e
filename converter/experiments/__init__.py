"""Questions asked once of the shipped model; their answers are in docs/decisions."""
