"""`lidr arena`: strategies against each other, from the same model, on the same prompts, for the same tokens."""
