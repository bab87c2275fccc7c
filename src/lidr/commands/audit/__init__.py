"""How far a run or a paper can be reproduced: nine variables, filled from a run or read from a document."""
