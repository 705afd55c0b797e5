"""`make mutants`: mutation tests of the code that decides, and the list of mutants that may survive."""
