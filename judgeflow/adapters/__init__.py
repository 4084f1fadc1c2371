"""Other people's formats: what reads them, and what their authors measure with them."""
