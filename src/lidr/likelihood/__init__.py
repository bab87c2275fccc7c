"""log p(answer | prompt) of a model: tokens, packed rows, and sums over the answers' tokens."""
