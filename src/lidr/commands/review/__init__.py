"""Native speakers say which side of a pair is better, without knowing which one the run chose."""
