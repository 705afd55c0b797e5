"""Words and formatting that the command line and the pages share."""
