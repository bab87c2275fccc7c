"""Commands around a run: prompts in, preference data and cards out, audits and reviews. `lidr.cli` registers them."""
