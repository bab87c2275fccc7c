"""DPO + NLL on preference pairs: the pure loss, the tokens it sees, the reference, and the trainer."""
