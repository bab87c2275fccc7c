"""What a run will cost, by arithmetic on its recipe: requests, tokens, memory, hours, disk and money. No weights."""
