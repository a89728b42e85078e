"""`footfall doctor`: one module per area, each a generator of findings that any machine can run, sensor or not."""
