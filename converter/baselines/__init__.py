"""Step counters without a net, written afresh from their papers, tuned on the people that the net learned from."""
