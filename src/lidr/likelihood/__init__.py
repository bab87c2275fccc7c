"""log p(answer | prompt) of a model: tokens, packed rows, and the sums over the answers' tokens."""
